from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from builders import Network, build_network, merge_network
from builders.backends import AUTO
from builders.depthwise import DepthwiseConv
from evaluators.receptive_field import (
    Extent,
    Floats,
    extent,
    receptive_fields,
    settle,
    unit_centres,
)
from search_space.architecture import Architecture, Stage, Stem, paper_branches
from search_space.families import FAMILIES

MIDDLE = (128.0, 128.0)


def gaussian(sigma: float, *, side: int = 256, centre: tuple[float, float] = MIDDLE) -> Floats:
    """A map whose mass lies as in a normal distribution."""
    rows, columns = (np.exp(-((np.arange(side) - at) ** 2) / (2 * sigma**2)) for at in centre)
    return np.outer(rows, columns)


def one_convolution(kernel: int, *, weight: float = 1.0) -> Network:
    """A network that is one depthwise convolution of equal weights, on the pixels themselves."""
    conv = DepthwiseConv(3, kernel)
    nn.init.constant_(conv.weight, weight)
    stage = Stage(depth=1, width=3, kernel=kernel, placement="L")
    architecture = Architecture(size=(64, 64), stem=Stem(stride=1), stages=(stage,))
    network = Network(
        architecture, stem=nn.Identity(), stages=[conv], transitions=[], head=nn.Identity()
    )
    return network.eval().requires_grad_(requires_grad=False)


def architecture_of(
    block: str,
    *,
    kernel: int = 3,
    depth: int = 2,
    stages: int = 1,
    stem: str | None = None,
    stride: int = 2,
    layer_scale: float = 1e-6,
) -> Architecture:
    """A small network of one family."""
    family = FAMILIES[block]
    row = Stage(
        depth=depth,
        width=12,
        kernel=kernel,
        placement="L" * depth,
        dilations=paper_branches(kernel) if block == "unireplknet" else (),
        layer_scale=layer_scale if "layer_scale" in family.stage_keys else 0.0,
        small_kernel=5 if block == "replknet" and kernel > 5 else None,
        strip=5 if block == "slak" and kernel > 5 else None,
    )
    return Architecture(
        size=(96, 96),
        block=block,
        stem=Stem(kind=stem or family.stem, stride=stride),
        transition=family.transition,
        head=family.head,
        stages=(row,) * stages,
    )


def settled(architecture: Architecture, images: torch.Tensor) -> Network:
    """The untrained network as it is measured, in its training form."""
    torch.manual_seed(1)
    network = build_network(architecture, 10)
    settle(network, images)
    return network


def last_extent(architecture: Architecture, images: torch.Tensor) -> Extent:
    """How far the last stage of an untrained network reaches."""
    merged = merge_network(settled(architecture, images))
    assert isinstance(merged, Network)
    field = receptive_fields(merged.requires_grad_(requires_grad=False), images)[-1]
    return extent(field.map, field.centre)


# Numbers of a map.


def test_a_uniform_map_gives_the_squares_of_the_official_script() -> None:
    found = extent(np.ones((1024, 1024)), (512, 512))
    assert found.r == pytest.approx((0.2009, 0.3001, 0.5013, 0.9903), abs=5e-5)
    assert found.sides_px == (459, 561, 725, 1019)
    assert found.area50 == 0.5
    assert found.area95 == pytest.approx(0.95, abs=1e-6)
    assert found.saturated


def test_the_peak_decides_what_r_is() -> None:
    # RepLKNet's script leaves the peak to the network; these are its numbers for three of them.
    wide = gaussian(100, side=1024, centre=(512, 512))
    halves = [extent(wide, (512, 512), peak=peak).r[2] for peak in (1e-3, 1, 1e3)]
    assert halves == pytest.approx([0.042, 0.048, 0.134], abs=5e-4)


def test_the_numbers_of_a_gaussian_without_a_logarithm_are_those_of_the_formula() -> None:
    found = extent(gaussian(20), MIDDLE)
    assert found.sigma_px == pytest.approx(20, abs=1e-3)
    assert found.area50 == pytest.approx(0.02658, abs=1e-4)  # 2 pi 400 ln 2 / 65536
    assert found.area95 == pytest.approx(0.11489, abs=1e-4)  # 2 pi 400 ln 20 / 65536
    assert found.frame < 1e-6
    assert not found.saturated


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e30])
def test_no_number_depends_on_the_magnitude_of_the_map(factor: float) -> None:
    before, after = extent(gaussian(20), MIDDLE), extent(factor * gaussian(20), MIDDLE)
    for name in ("r", "sides_px", "sigma_px", "area50", "area95", "frame"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-9), name


def test_numbers_without_a_logarithm_do_not_depend_on_the_peak() -> None:
    low, high = (extent(gaussian(20), MIDDLE, peak=peak) for peak in (1, 1e6))
    assert (low.sigma_px, low.area50, low.area95) == (high.sigma_px, high.area50, high.area95)
    assert high.r[2] > 2 * low.r[2]


def test_one_pixel_is_a_square_of_side_one() -> None:
    spot = np.zeros((8, 8))
    spot[4, 4] = 1
    found = extent(spot, (4, 4))
    assert found.r == (1 / 64,) * 4
    assert found.sides_px == (1, 1, 1, 1)
    assert (found.sigma_px, found.area50, found.area95) == (0, 1 / 64, 1 / 64)


def test_a_centre_between_pixels_has_squares_of_even_side() -> None:
    patch = np.zeros((64, 64))
    patch[32:36, 32:36] = 1
    found = extent(patch, (33.5, 33.5))
    assert found.sides_px[-1] == 4
    assert found.r[-1] == 16 / 4096
    assert found.sigma_px == pytest.approx((5 / 4) ** 0.5)  # (0.5^2 + 1.5^2) / 2 an axis


def test_a_map_in_a_corner_is_found_and_saturated() -> None:
    corner = np.zeros((64, 64))
    corner[:3, :3] = 1
    found = extent(corner, (32, 32))
    assert found.r[-1] == 1  # the original script fails here
    assert found.saturated


def test_a_map_that_the_border_cuts_is_saturated() -> None:
    assert not extent(gaussian(34), MIDDLE).saturated
    assert extent(gaussian(60), MIDDLE).saturated


def test_a_map_of_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the gradient is zero everywhere$"):
        extent(np.zeros((4, 4)), (2, 2))


# Maps of networks.


@pytest.mark.parametrize("kernel", [3, 7, 13])
def test_a_convolution_of_equal_weights_sees_exactly_its_kernel(kernel: int) -> None:
    (field,) = receptive_fields(one_convolution(kernel), torch.ones(2, 3, 64, 64))
    expected = np.zeros((64, 64))
    reach = kernel // 2
    expected[32 - reach : 33 + reach, 32 - reach : 33 + reach] = 3  # three colours
    assert np.array_equal(field.map, expected)
    assert np.array_equal(field.absolute, expected)
    assert field.centre == (32, 32)
    found = extent(field.map, field.centre)
    assert found.r[-1] == kernel**2 / 64**2
    assert found.sigma_px**2 == pytest.approx((kernel**2 - 1) / 12)


def test_r_does_not_depend_on_the_magnitude_of_the_gradient() -> None:
    images = torch.rand(2, 3, 64, 64)
    fields = [receptive_fields(one_convolution(9, weight=w), images)[0] for w in (1e-9, 1e6)]
    assert fields[0].map.max() < 1e-6 * fields[1].map.max()
    small, large = (extent(field.map, field.centre) for field in fields)
    assert small.r == large.r


def test_what_pushes_a_unit_down_is_in_the_absolute_map_only() -> None:
    network = one_convolution(5)
    with torch.no_grad():
        conv = network.stages[0]
        assert isinstance(conv, DepthwiseConv)
        conv.weight[:, :, 0] = -0.5
    (field,) = receptive_fields(network, torch.ones(1, 3, 64, 64))
    assert (field.map > 0).sum() == 20
    assert (field.absolute > 0).sum() == 25


def test_images_without_a_finite_gradient_are_left_out_and_counted() -> None:
    network = one_convolution(3)
    images = torch.ones(3, 3, 64, 64)
    whole = receptive_fields(network, images)[0]
    images[1, 0, 32, 32] = torch.nan
    torch.manual_seed(0)
    stem = nn.BatchNorm2d(3).eval().requires_grad_(requires_grad=False)
    network.stem = nn.Sequential(nn.GELU(), stem)
    (field,) = receptive_fields(network, images)
    assert (field.images, field.skipped) == (2, 1)
    assert (whole.images, whole.skipped) == (3, 0)
    assert np.isfinite(field.map).all()
    with pytest.raises(ValueError, match=r"^no image gave a finite gradient$"):
        receptive_fields(network, images[1:2])


def test_the_map_is_the_mean_over_images_however_they_are_batched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    architecture = architecture_of("unireplknet", kernel=7, stages=2)
    images = torch.randn(3, 3, 96, 96)
    merged = merge_network(settled(architecture, images))
    assert isinstance(merged, Network)
    merged.double().requires_grad_(requires_grad=False)
    seen: list[int] = []
    together = receptive_fields(merged, images.double(), report=seen.append)
    monkeypatch.setattr("evaluators.receptive_field.PIXELS", 96 * 96)
    apart = receptive_fields(merged, images.double(), report=seen.append)
    assert seen == [3, 1, 2, 3]
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.map, other.map, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("block", ["replknet", "convnext"])
def test_a_field_lies_around_the_centre_of_its_unit(block: str, stride: int) -> None:
    architecture = architecture_of(block, depth=1, stages=2, stride=stride)
    images = torch.randn(6, 3, 96, 96)
    merged = merge_network(settled(architecture, images))
    assert isinstance(merged, Network)
    for field in receptive_fields(merged.requires_grad_(requires_grad=False), images):
        for axis in (0, 1):
            (hit,) = np.nonzero(field.absolute.sum(axis=1 - axis))
            assert hit[0] > 0
            assert hit[-1] < 95
            # A ReLU may hide one pixel at one end.
            assert (hit[0] + hit[-1]) / 2 == pytest.approx(field.centre[axis], abs=0.5)


@pytest.mark.parametrize(
    ("block", "centres"),
    [
        ("unireplknet", [(256, 256), (256, 256), (256, 256), (256, 256)]),
        ("replknet", [(256, 256), (256, 256), (256, 256), (256, 256)]),
        ("convnext", [(257.5, 257.5), (259.5, 259.5), (263.5, 263.5), (271.5, 271.5)]),
    ],
)
def test_the_centres_at_512_pixels_are_those_of_strides_and_paddings(
    block: str, centres: list[tuple[float, float]]
) -> None:
    with torch.device("meta"):
        network = build_network(architecture_of(block, stages=4, stride=4), 10)
    sides = [(128, 128), (64, 64), (32, 32), (16, 16)]
    assert unit_centres(network, sides) == centres


# Untrained networks.


@pytest.mark.parametrize("block", ["unireplknet", "slak", "convnext"])
@pytest.mark.parametrize("layer_scale", [0.0, 1e-6])
def test_a_settled_block_adds_a_fixed_share_of_the_deviation_of_its_input(
    block: str, layer_scale: float
) -> None:
    architecture = architecture_of(block, kernel=7, layer_scale=layer_scale)
    images = torch.randn(4, 3, 48, 48)
    network = settled(architecture, images)
    assert not network.training
    x_BCHW = network.requires_grad_(requires_grad=False).stem(images)
    for module in network.stages[0].children():
        y_BCHW = module(x_BCHW)
        added, had = ((y_BCHW - x_BCHW).var((0, 2, 3)).mean(), x_BCHW.var((0, 2, 3)).mean())
        assert float((added / had).sqrt()) == pytest.approx(0.03, rel=2e-3)
        x_BCHW = y_BCHW


def test_both_halves_of_a_pair_of_replknet_are_scaled() -> None:
    network = settled(architecture_of("replknet", kernel=7, depth=1), torch.randn(4, 3, 48, 48))
    norms = [m for m in network.stages.modules() if isinstance(m, nn.BatchNorm2d)]
    factors = [norm.weight.detach()[0].item() for norm in norms]
    scaled = [factor for factor in factors if factor != 1]
    assert len(scaled) == 2
    assert all(0.003 < factor < 0.06 for factor in scaled)


def test_batch_norms_of_a_settled_network_have_the_statistics_of_the_images() -> None:
    images = 5 + 3 * torch.randn(4, 3, 48, 48)
    network = settled(architecture_of("replknet"), images)
    first = network.stem(images)
    norm = next(m for m in network.stages.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.running_mean is not None
    # The stem normalised by the variance of the batch there, by that of a sample here.
    torch.testing.assert_close(norm.running_mean, first.mean((0, 2, 3)), rtol=5e-3, atol=5e-3)


def test_settling_leaves_nothing_behind() -> None:
    network = settled(architecture_of("unireplknet", kernel=7), torch.randn(2, 3, 48, 48))
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not isinstance(module, DepthwiseConv) or module.backends is AUTO


@pytest.mark.parametrize("block", ["unireplknet", "replknet", "slak", "convnext"])
def test_larger_kernels_see_more(block: str) -> None:
    images = torch.randn(2, 3, 96, 96)
    found = [last_extent(architecture_of(block, kernel=k, depth=4), images) for k in (3, 9, 15)]
    assert found[0].sigma_px < found[1].sigma_px < found[2].sigma_px
    assert found[0].r[2] < found[1].r[2] < found[2].r[2]
    assert found[0].area95 < found[1].area95 < found[2].area95


def test_deeper_stages_see_more() -> None:
    images = torch.randn(2, 3, 96, 96)
    merged = merge_network(settled(architecture_of("convnext", kernel=5, stages=3), images))
    assert isinstance(merged, Network)
    fields = receptive_fields(merged.requires_grad_(requires_grad=False), images)
    sigmas = [extent(field.map, field.centre).sigma_px for field in fields]
    assert [field.stage for field in fields] == [1, 2, 3]
    assert sigmas == sorted(sigmas)
    assert sigmas[0] < sigmas[-1] / 2
