"""The UniRepLKNet block and its layers, each against its formula or against plain torch layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from builders.backends import AUTO
from builders.blocks import BLOCKS, UniRepLKNetBlock
from builders.depthwise import DepthwiseConv
from builders.feed_forward import NormedMlp, ResponseNorm
from builders.kernels import DilatedReparam
from builders.layers import DropPath, NormedConv
from builders.network import build_network, merge_network
from builders.response import respond
from builders.structures import STRUCTURES, SqueezeExcite
from evaluators.cost import cost
from search_space.architecture import Architecture, Branches, Stage, Stem, paper_branches
from search_space.errors import SpaceError
from search_space.families import FAMILIES
from tests.random_architectures import randomise


def _stage(
    *, kernel: int = 13, dilations: Branches = (), structure: str = "none", layer_scale: float = 0.0
) -> Stage:
    return Stage(
        depth=1,
        width=8,
        kernel=kernel,
        placement="L",
        dilations=dilations,
        structure=structure,
        layer_scale=layer_scale,
    )


def _num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_dilated_reparam_block_is_the_sum_of_its_normed_branches() -> None:
    mix = DilatedReparam(4, 7, ((3, 2), (5, 1))).double().eval()
    randomise(mix)
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    total = torch.zeros_like(x)
    for branch, (k, r) in zip(mix.branches, ((7, 1), (3, 2), (5, 1)), strict=True):
        assert isinstance(branch, NormedConv)
        y = F.conv2d(x, branch.conv.weight, padding=r * (k // 2), dilation=r, groups=4)
        total = total + branch.norm(y)

    torch.testing.assert_close(mix(x), mix.norm(total), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", [5, 7, 13, 19, 31])
@pytest.mark.parametrize("branches", ["none", "paper", "points"])
def test_a_merged_dilated_reparam_block_is_one_convolution(kernel: int, branches: str) -> None:
    pairs = {"none": (), "paper": paper_branches(kernel), "points": ((1, 1), (3, 1), (3, 2))}
    mix = DilatedReparam(3, kernel, pairs[branches]).double().eval()
    randomise(mix)
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64)

    merged = mix.merged()

    assert isinstance(merged, DepthwiseConv)
    assert _num_params(merged) == 3 * kernel * kernel + 3
    torch.testing.assert_close(merged(x), mix(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "dilations", "expected"),
    [
        (3, (), NormedConv),
        (5, (), NormedConv),
        (5, ((3, 2),), DilatedReparam),
        (7, (), DilatedReparam),
    ],
)
def test_kernels_below_seven_have_a_norm_of_their_own_only_with_branches(
    kernel: int, dilations: Branches, expected: type[nn.Module]
) -> None:
    block = UniRepLKNetBlock(_stage(kernel=kernel, dilations=dilations), kernel)

    assert type(block.mix) is expected


def test_a_small_block_of_a_stage_with_branches_has_none() -> None:
    block = UniRepLKNetBlock(_stage(kernel=13, dilations=paper_branches(13)), 3)

    assert isinstance(block.mix, NormedConv)
    assert block.mix.conv.weight.shape == (8, 1, 3, 3)


def test_a_branch_wider_than_its_kernel_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"^dilations: .* got k = 5 and r = 2 in a kernel of 7;"):
        UniRepLKNetBlock(_stage(kernel=7, dilations=((5, 2),)), 7)


def test_an_unknown_structure_is_refused_with_all_that_can_be_built() -> None:
    with pytest.raises(
        SpaceError,
        match=r"^structure: must be a kind that can be built, got 'bottelneck'; "
        r"this version builds none, se, bottleneck, pointwise, depthwise$",
    ):
        UniRepLKNetBlock(_stage(structure="bottelneck"), 7)


def test_squeeze_and_excitation_scales_every_channel_by_its_gate() -> None:
    squeeze = SqueezeExcite(4, 2)
    nn.init.zeros_(squeeze.up.weight)
    assert squeeze.up.bias is not None
    squeeze.up.bias.data = torch.tensor([0.0, 100.0, -100.0, 0.0])

    y = squeeze(torch.ones(1, 4, 2, 2))

    assert y[0, :, 0, 0].tolist() == [0.5, 1.0, 0.0, 0.5]


def test_the_squeezed_width_is_at_least_one() -> None:
    squeeze = STRUCTURES["se"].build(3, 16, AUTO)

    assert isinstance(squeeze, SqueezeExcite)
    assert squeeze.down.out_channels == 1


@pytest.mark.parametrize("structure", ["bottleneck", "pointwise", "depthwise"])
def test_an_added_structure_stands_beside_a_shortcut(structure: str) -> None:
    added = STRUCTURES[structure].build(8, 4, AUTO).eval()
    for parameter in added.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 8, 5, 5)

    assert torch.equal(added(x), x)


def test_response_norm_divides_by_the_mean_length() -> None:
    norm = ResponseNorm(2)
    norm.gamma.data.fill_(1.0)
    norm.beta.data.fill_(10.0)  # type: ignore[union-attr]
    x = torch.tensor([[[[3.0, 4.0]], [[0.0, 0.0]]]])  # lengths 5 and 0, mean 2.5

    y = norm(x)

    torch.testing.assert_close(y, torch.tensor([[[[19.0, 22.0]], [[10.0, 10.0]]]]))


def test_the_gradient_of_response_norm_is_the_gradient() -> None:
    x, gamma, beta = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 4, 3, 2), (1, 1, 1, 4), (1, 1, 1, 4))
    )

    assert torch.autograd.gradcheck(respond, (x, gamma, beta))


def test_response_norm_of_a_black_map_has_a_finite_gradient() -> None:
    norm = ResponseNorm(3)
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)

    norm(x).sum().backward()

    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


def test_response_norm_does_not_overflow_in_half_precision() -> None:
    norm = ResponseNorm(2).half()

    with torch.no_grad():
        y = norm(torch.full((1, 2, 4, 4), 1000.0, dtype=torch.float16))

    assert y.isfinite().all()


def test_a_merged_feed_forward_keeps_only_two_layers_and_gamma() -> None:
    feed = NormedMlp(4, 8, layer_scale=0.1).double().eval()
    randomise(feed)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)

    merged = feed.merged()

    assert sorted(name for name, _ in merged.named_parameters()) == [
        "expand.bias",
        "expand.weight",
        "project.bias",
        "project.weight",
        "response.gamma",
    ]
    torch.testing.assert_close(merged(x), feed(x), rtol=1e-12, atol=1e-12)


def test_a_layer_scale_of_zero_is_no_layer_scale() -> None:
    assert NormedMlp(4, 8).scale is None
    assert NormedMlp(4, 8, layer_scale=1e-6).scale is not None


def test_drop_path_zeroes_whole_images_and_keeps_the_mean() -> None:
    drop = DropPath(0.25)

    y = drop(torch.ones(4000, 2, 1, 1)).flatten(1)

    assert torch.equal(y[:, 0], y[:, 1])
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert drop.eval()(torch.ones(5)).tolist() == [1.0] * 5


@pytest.mark.parametrize(
    ("structure", "params", "macs"),
    # Merged parameters and multiply-adds on 100 pixels of one block, by hand: width 8, hidden 32,
    # 13 x 13; none = 8 * 169 + 8 + 2 * 256 + 2 * 32 + 8, macs = 100 * (8 * 169 + 512).
    [
        ("none", 1944, 186_400),
        ("se", 1944 + 42, 186_400 + 32),  # 8 to 2 and back, with bias, once
        ("bottleneck", 1944 + 62, 186_400 + 5_000),  # 16 + 2, 18 + 2, 16 + 8
        ("pointwise", 1944 + 42, 186_400 + 3_200),
        ("depthwise", 1944 + 160, 186_400 + 14_400),  # 2 * (72 + 8)
    ],
)
def test_the_cost_of_a_block_is_what_paper_and_pencil_give(
    structure: str, params: int, macs: int
) -> None:
    part = BLOCKS["unireplknet"].cost(_stage(structure=structure), 13, 100)

    assert (part.params_merged, part.macs_merged) == (params, macs)


@pytest.mark.parametrize("block", sorted(BLOCKS))
@settings(max_examples=20)
@given(
    width=st.integers(1, 12),
    hidden=st.integers(0, 20).map(lambda half: 2 * half + 1),
    kernel=st.sampled_from([3, 7, 13]),
    factor=st.sampled_from([1, 1.3]),
)
def test_a_hidden_width_is_built_and_counted(
    block: str, width: int, hidden: int, kernel: int, factor: float
) -> None:
    family = FAMILIES[block]
    stage = Stage(
        depth=1,
        width=width,
        kernel=kernel,
        placement="L",
        dilations=paper_branches(kernel) if block == "unireplknet" else (),
        small_kernel=5 if block == "replknet" and kernel > 3 else None,
        strip=5 if block == "slak" and kernel > 3 else None,
        layer_scale=0.0 if block == "replknet" else 1e-6,
        ffn_hidden=hidden,
    )
    architecture = Architecture(
        size=(16, 16),
        block=block,
        stem=Stem(kind=family.stem, stride=1),
        transition=family.transition,
        head=family.head,
        width_factor=factor if block == "slak" else 1,
        stages=(stage,),
    )
    counted = cost(architecture, 3)
    with torch.device("meta"):
        network = build_network(architecture, 3)
        assert _num_params(network) == counted.params_train
        assert _num_params(merge_network(network)) == counted.params_inference
    assert any(
        parameter.shape[0] == hidden and parameter.dim() > 1 for parameter in network.parameters()
    )
    pair = counted.macs_inference - cost(_one_wider(architecture), 3).macs_inference
    assert pair == -2 * architecture.widths[0] * 16 * 16


def _one_wider(architecture: Architecture) -> Architecture:
    (stage,) = architecture.stages
    assert stage.ffn_hidden is not None
    return replace(architecture, stages=(replace(stage, ffn_hidden=stage.ffn_hidden + 1),))
