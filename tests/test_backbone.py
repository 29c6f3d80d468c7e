"""Networks without their head: maps, sizes, sharing of weights, graphs, layouts, training."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import builders
from builders.backbone import Backbone, build_backbone, features_only
from builders.layers import MapNorm
from builders.network import Network, build_network, merge_network
from search_space.architecture import Architecture, Stage, Stem
from search_space.errors import DataError, SpaceError
from search_space.yaml_io import load_architecture
from tests.family_architectures import EVERY, FAMILY, MIXED, small_architecture
from tests.random_architectures import randomise

every = pytest.mark.parametrize("name", EVERY)
# Building a graph takes seconds: the mixtures wait for the slow tests.
every_graph = pytest.mark.parametrize(
    "name", [*FAMILY, *(pytest.param(name, marks=pytest.mark.slow) for name in MIXED)]
)


def _images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def _backbone(architecture: Architecture) -> Backbone:
    """Build a backbone in eval mode of which no parameter and no statistic has its first value."""
    backbone = build_backbone(architecture)
    randomise(backbone)
    return backbone.eval()


def _half(architecture: Architecture) -> Architecture:
    """Give the first two of four stages: everything of the family in half the time."""
    return replace(architecture, stages=architecture.stages[:2])


def _same(actual: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(got, wanted) for got, wanted in zip(actual, expected, strict=True))


def _assert_near(actual: list[Tensor], expected: list[Tensor], *, near: float) -> None:
    assert len(actual) == len(expected)
    for got, wanted in zip(actual, expected, strict=True):
        scale = wanted.abs().max().item()
        torch.testing.assert_close(got, wanted, rtol=0, atol=near * scale, check_stride=False)


def test_unireplknet_gives_four_maps_with_their_published_strides_and_widths() -> None:
    with torch.device("meta"):
        backbone = build_backbone(load_architecture("unireplknet_a")).eval()
        maps = backbone(torch.empty(1, 3, 224, 224))

    assert backbone.widths == (40, 80, 160, 320)
    assert backbone.strides == (4, 8, 16, 32)
    assert [tuple(y.shape) for y in maps] == [
        (1, 40, 56, 56),
        (1, 80, 28, 28),
        (1, 160, 14, 14),
        (1, 320, 7, 7),
    ]


@every
def test_features_only_shares_the_weights_of_the_network(name: str) -> None:
    network = build_network(EVERY[name], 3)
    randomise(network)
    network.eval()
    backbone = features_only(network)
    x = _images(2, 3, 40, 64)

    with torch.no_grad():
        assert _same(backbone(x), network.features(x))
        own = {id(parameter) for parameter in network.parameters()}
        assert {id(parameter) for parameter in backbone.parameters()} <= own
        next(backbone.stem.parameters()).mul_(2)
        assert _same(backbone(x), network.features(x))


@every
def test_a_backbone_has_the_names_of_the_network_without_its_head(name: str) -> None:
    network = build_network(EVERY[name], 3)

    names = [key for key in network.state_dict() if not key.startswith("head.")]
    assert list(build_backbone(EVERY[name]).state_dict()) == names


def test_the_state_dict_of_a_network_loads_whichever_stages_are_used() -> None:
    network = build_network(FAMILY["slak"], 3).eval()
    randomise(network)
    backbone = build_backbone(FAMILY["slak"], out_stages=(2, 0)).eval()
    parent = nn.ModuleDict({"body": build_backbone(FAMILY["slak"], out_stages=(1,))})
    x = _images(1, 3, 32, 64)

    backbone.load_state_dict(network.state_dict())
    parent.load_state_dict({f"body.{key}": value for key, value in network.state_dict().items()})

    first, second, third, _ = network.features(x)
    assert _same(backbone(x), [third, first])
    assert torch.equal(parent.eval()["body"](x)[0], second)


def test_a_state_dict_of_another_family_is_refused() -> None:
    with pytest.raises(RuntimeError, match="Missing key"):
        build_backbone(FAMILY["slak"]).load_state_dict(
            build_network(FAMILY["convnext"], 3).state_dict()
        )


def test_stages_behind_the_last_chosen_are_not_built() -> None:
    backbone = build_backbone(FAMILY["convnext"], out_stages=(-3, 0))

    assert (len(backbone.stages), len(backbone.transitions)) == (2, 1)
    assert (backbone.out_stages, backbone.widths, backbone.strides) == ((1, 0), (8, 6), (8, 4))
    assert [tuple(y.shape) for y in backbone(_images(1, 3, 32, 32))] == [
        (1, 8, 4, 4),
        (1, 6, 8, 8),
    ]


@pytest.mark.parametrize("stages", [(), (4,), (-5,), (1, 1), (3, -1)])
def test_a_stage_that_does_not_exist_is_refused(stages: tuple[int, ...]) -> None:
    with pytest.raises(SpaceError, match=r"^out_stages: must name different stages from 0 to 3, "):
        build_backbone(FAMILY["convnext"], out_stages=stages)


def test_every_output_can_have_a_norm_of_its_own() -> None:
    x = _images(2, 3, 64, 64)
    layer = build_backbone(FAMILY["unireplknet"], out_norms="layer")
    batch = build_backbone(FAMILY["replknet"], out_norms="batch", out_stages=(1, 2, 3))

    assert [type(norm) for norm in layer.out_norms] == [MapNorm] * 4
    for y in layer(x):
        torch.testing.assert_close(y.mean(dim=1), torch.zeros_like(y[:, 0]), rtol=0, atol=1e-5)
    assert [type(norm) for norm in batch.out_norms] == [nn.BatchNorm2d] * 3
    for y in batch(x):
        mean = y.mean(dim=(0, 2, 3))
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-5)


@every
@pytest.mark.parametrize("size", [(65, 97), (127, 34), (33, 224), (32, 32)])
def test_any_size_runs_in_and_out_of_training(name: str, size: tuple[int, int]) -> None:
    backbone = build_backbone(EVERY[name])
    expected = list(replace(EVERY[name], size=size).maps)

    for form in (backbone.train(), merge_network(backbone)):
        maps = form(_images(2, 3, *size))

        assert [tuple(y.shape[2:]) for y in maps] == expected
        assert all(y.isfinite().all() for y in maps)


@every
def test_the_least_size_runs_and_one_pixel_less_is_refused(name: str) -> None:
    backbone = build_backbone(EVERY[name])
    least = backbone.least_side()

    maps = backbone(_images(2, 3, least, least))
    assert min(maps[-1].shape[2:]) == 1
    if least > 1:
        sentence = (
            f"^images: each side must be at least {least} pixels for every stage to make a map, "
            f"got {least + 9} x {least - 1}; resize them$"
        )
        with pytest.raises(DataError, match=sentence):
            backbone(_images(2, 3, least + 9, least - 1))


def test_the_least_side_is_that_of_the_paddings() -> None:
    sides = {
        name: build_backbone(architecture).least_side() for name, architecture in EVERY.items()
    }

    assert sides == {
        "unireplknet": 1,
        "replknet": 1,
        "slak": 32,
        "convnext": 32,
        "replknet kernels, unireplknet stem": 1,
        "unireplknet, patchify, convnext transition": 16,
        "slak, replknet stem and transition": 1,
        "convnext at full size": 1,
    }


def test_a_network_refuses_images_that_are_too_small_too() -> None:
    with pytest.raises(DataError, match=r"^images: each side must be at least 32 pixels"):
        build_network(FAMILY["convnext"], 3)(_images(1, 3, 31, 64))


def test_one_image_of_one_pixel_trains_without_batch_norms_only() -> None:
    with pytest.raises(DataError, match=r"^images: batch norms need more than one value"):
        build_backbone(FAMILY["unireplknet"])(_images(1, 3, 32, 32))

    build_backbone(FAMILY["unireplknet"])(_images(1, 3, 33, 32))
    build_backbone(FAMILY["unireplknet"]).eval()(_images(1, 3, 32, 32))
    build_backbone(FAMILY["convnext"])(_images(1, 3, 32, 32))


def test_images_without_a_batch_are_refused() -> None:
    with pytest.raises(DataError, match=r"^images: must have four dimensions .* got \(3, 64, 64\)"):
        build_backbone(FAMILY["convnext"])(_images(3, 64, 64))


@every
def test_a_merged_backbone_equals_the_backbone(name: str) -> None:
    backbone = _backbone(EVERY[name]).double()
    x = _images(2, 3, 65, 48, dtype=torch.float64)

    with torch.no_grad():
        _assert_near(merge_network(backbone)(x), backbone(x), near=1e-12)


@every
def test_layouts_give_equal_maps(name: str) -> None:
    backbone = _backbone(EVERY[name])
    x = _images(2, 3, 65, 48)
    wide = _images(2, 3, 65, 96)[:, :, :, ::2]

    with torch.no_grad():
        expected = backbone(x)
        actual = backbone(x.contiguous(memory_format=torch.channels_last))
        assert _same(actual, expected)
        planar = copy.deepcopy(backbone).to(memory_format=torch.contiguous_format)
        _assert_near(planar(x), expected, near=1e-5)
        assert _same(backbone(wide), backbone(wide.contiguous()))


@every_graph
def test_a_backbone_exports(name: str) -> None:
    backbone = _backbone(EVERY[name])
    x = _images(2, 3, 64, 96)

    for form in (backbone, merge_network(backbone)):
        exported = torch.export.export(form, (x,))

        calls = [node for node in exported.graph.nodes if node.op == "call_function"]
        assert all(str(node.target).startswith("aten.") for node in calls)
        _assert_near(exported.module()(x), form(x), near=1e-5)


@every_graph
def test_a_merged_backbone_exports_with_a_range_of_sizes(name: str) -> None:
    merged = merge_network(_backbone(EVERY[name]))
    assert isinstance(merged, Backbone)
    least = merged.least_side(pixels=2)
    sizes = {
        0: Dim("images", min=1, max=64),
        2: Dim("height", min=least, max=1024),
        3: Dim("width", min=least, max=1024),
    }

    exported = torch.export.export(merged, (_images(2, 3, 64, 96),), dynamic_shapes=(sizes,))

    for shape in ((1, 3, 101, 67), (3, 3, least, least + 40)):
        x = _images(*shape)
        _assert_near(exported.module()(x), merged(x), near=1e-5)


# Named ranges fail here where a batch norm follows a map of H // 4 pixels: torch 2.13 asks of every
# one of them that 1 % (C (W // 4)) != 0. It finds the ranges itself.
@every_graph
def test_a_training_form_exports_with_sizes_that_torch_finds(name: str) -> None:
    backbone = _backbone(EVERY[name])
    sizes = {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}

    exported = torch.export.export(backbone, (_images(2, 3, 64, 96),), dynamic_shapes=(sizes,))

    for shape in ((1, 3, 101, 67), (3, 3, 64, 128)):
        x = _images(*shape)
        _assert_near(exported.module()(x), backbone(x), near=1e-5)


@pytest.mark.slow
def test_a_compiled_backbone_gives_equal_maps_at_a_second_size() -> None:
    torch._dynamo.reset()
    backbone = _backbone(_half(FAMILY["slak"]))
    compiled = torch.compile(backbone, backend="aot_eager", fullgraph=True)

    with torch.no_grad():
        for shape in ((2, 3, 64, 96), (3, 3, 75, 66)):
            _assert_near(compiled(_images(*shape)), backbone(_images(*shape)), near=1e-5)


@every_graph
def test_a_compiled_network_has_the_gradients_of_an_eager_one(name: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    network = build_network(_half(EVERY[name]), 3).double()
    randomise(network)
    other = copy.deepcopy(network)
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    x, labels = _images(2, 3, 64, 64, dtype=torch.float64), torch.tensor([0, 2])

    for form in (network, compiled):
        nn.functional.cross_entropy(form(x), labels).backward()

    for (key, expected), (_, actual) in zip(
        network.named_parameters(), other.named_parameters(), strict=True
    ):
        assert expected.grad is not None, key
        assert actual.grad is not None, key
        scale = expected.grad.abs().max().item()
        torch.testing.assert_close(
            actual.grad, expected.grad, rtol=0, atol=1e-9 * scale + 1e-15, msg=key
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_inductor_gives_equal_logits_and_trains(name: str) -> None:
    torch._dynamo.reset()
    network = build_network(_half(FAMILY[name]), 3)
    randomise(network)
    network.eval()
    x = _images(2, 3, 64, 64)
    compiled = torch.compile(network)

    with torch.no_grad():
        _assert_near([compiled(x)], [network(x)], near=1e-4)
    compiled.train()
    compiled(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@every
def test_a_backbone_trains_under_autocast(name: str) -> None:
    backbone = build_backbone(EVERY[name])
    x = _images(2, 3, 64, 64)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = backbone(x)
        loss = torch.stack([y.float().square().mean() for y in maps]).sum()
    loss.backward()

    assert loss.isfinite()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@every
def test_every_parameter_gets_a_gradient_and_a_step_lowers_the_loss(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(EVERY[name], 3)
    randomise(network)  # at its first value GRN's beta passes, but gamma hides what is before it
    x, labels = _images(4, 3, 64, 64), torch.tensor([0, 1, 2, 1])
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = nn.functional.cross_entropy(network(x), labels)

    before.backward()

    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key
    optimizer.step()
    assert nn.functional.cross_entropy(network(x), labels).item() < before.item()


@every
def test_copies_and_pickles_keep_the_output(name: str) -> None:
    network = build_network(EVERY[name], 3)
    randomise(network)
    network.eval()
    x = _images(2, 3, 48, 64)

    for form in (network, merge_network(network), features_only(network)):
        expected = form(x)
        for other in (copy.deepcopy(form), pickle.loads(pickle.dumps(form))):
            actual = other(x)
            pairs = zip(
                actual if isinstance(actual, list) else [actual],
                expected if isinstance(expected, list) else [expected],
                strict=True,
            )
            assert all(torch.equal(got, wanted) for got, wanted in pairs)


def test_drop_path_acts_in_training_only() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(FAMILY["convnext"], drop_path=0.9)
    randomise(backbone)
    x = _images(8, 3, 32, 32)

    assert not torch.equal(backbone(x)[-1], backbone(x)[-1])
    backbone.eval()
    assert torch.equal(backbone(x)[-1], backbone(x)[-1])


def test_a_space_of_fewer_stages_gives_fewer_maps() -> None:
    architecture = small_architecture("unireplknet", stride=1)
    backbone = build_backbone(replace(architecture, stages=architecture.stages[:2]))

    assert (backbone.widths, backbone.strides) == ((6, 8), (1, 2))


def test_channels_come_from_the_architecture() -> None:
    architecture = replace(FAMILY["slak"], channels=1, stem=Stem(kind="patchify", stride=4))

    assert len(build_backbone(architecture)(_images(1, 1, 64, 32))) == 4


def test_builders_exports_the_backbone() -> None:
    assert builders.features_only is features_only
    assert builders.build_backbone is build_backbone
    assert builders.Backbone is Backbone
    assert isinstance(build_network(FAMILY["slak"], 2), Network)


def test_a_norm_behind_the_last_map_wants_more_than_one_pixel_in_training_too() -> None:
    architecture = Architecture(
        size=(8, 8),
        block="convnext",
        stem=Stem(kind="patchify"),
        transition="convnext",
        stages=(Stage(depth=1, width=4, placement="S"), Stage(depth=1, width=8, placement="S")),
    )
    backbone = build_backbone(architecture, out_norms="batch").train()
    with pytest.raises(DataError, match="batch norms need more than one value a channel"):
        backbone(torch.zeros(1, 3, 8, 8))
    network = build_network(replace(architecture, head="norm_pool"), 3).train()
    with pytest.raises(DataError, match="batch norms need more than one value a channel"):
        network(torch.zeros(1, 3, 8, 8))


def test_an_unknown_norm_is_refused() -> None:
    architecture = Architecture(
        size=(8, 8), stem=Stem(), stages=(Stage(depth=1, width=4, placement="S"),)
    )
    with pytest.raises(SpaceError, match=r"^out_norms: must be known, got 'instance'"):
        build_backbone(architecture, out_norms="instance")  # type: ignore[arg-type]
