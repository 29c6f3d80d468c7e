"""Counting on built networks: what is counted, what is not, and that nothing large is allocated."""

from __future__ import annotations

import resource

import pytest
import torch
from torch import nn

from builders.network import build_network, merge_network
from evaluators.counting import count, meta_macs, num_params
from search_space.architecture import Architecture, Stage, Stem
from search_space.yaml_io import load_architecture

SMALL = Architecture(
    size=(9, 7),
    channels=1,
    stem=Stem(stride=2),
    stages=(Stage(depth=1, width=4, kernel=7, placement="L", structure="se", ffn_ratio=2),),
)


def test_macs_are_those_of_convolutions_linear_layers_and_matrix_products() -> None:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3, padding=1)  # 72 weights on 15 pixels
            self.norm = nn.BatchNorm2d(4)
            self.line = nn.Linear(5, 6)  # 30 weights in 12 places

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.line(self.norm(self.conv(x)))
            return y.transpose(2, 3) @ y  # 4 products of (6, 3) and (3, 6)

    counted = count(Layers(), (3, 5), 2)

    assert counted.macs == 72 * 15 + 30 * 12 + 4 * 6 * 3 * 6
    assert counted.params == 76 + 8 + 36
    assert counted.fvcore_total == counted.macs + counted.by_operator["batch_norm"]
    assert "aten::transpose" not in counted.uncounted


def test_a_small_network_counts_to_what_paper_and_pencil_give() -> None:
    network = build_network(SMALL, 3)

    # Maps 5 x 4. Stem 9 * 2 * 20 + 9 * 2 * 4 * 20; 49 * 4 * 20; SE 8; pair 2 * 32 * 20; head 12.
    assert count(network, (9, 7), 1).macs == 360 + 1440 + 3920 + 8 + 1280 + 12


def test_uncounted_operators_are_named() -> None:
    counted = count(build_network(SMALL, 3), (9, 7), 1)

    assert counted.uncounted["aten::gelu"] == 2
    assert counted.uncounted["aten::sigmoid"] == 1
    assert counted.fvcore_total > counted.macs


def test_counting_does_not_touch_the_network() -> None:
    network = build_network(SMALL, 3).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    count(network, (9, 7), 1)

    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_any_dtype_and_the_meta_device_count_the_same(dtype: torch.dtype) -> None:
    with torch.device("meta"):
        meta = build_network(SMALL, 3)

    expected = count(build_network(SMALL, 3), (9, 7), 1)
    assert count(build_network(SMALL, 3).to(dtype), (9, 7), 1) == expected
    assert count(meta, (9, 7), 1) == expected


def test_the_second_opinion_agrees_on_a_published_network() -> None:
    architecture = load_architecture("unireplknet_t")

    assert meta_macs(architecture, 1000) == 5_003_516_800
    assert meta_macs(architecture, 1000, form="inference") == 4_898_993_920


def test_fvcore_counts_a_published_network_in_both_forms() -> None:
    with torch.device("meta"):
        network = build_network(load_architecture("unireplknet_a"), 1000)

    train = count(network, (224, 224), 3)
    merged = count(merge_network(network), (224, 224), 3)

    assert (train.params, train.macs, train.fvcore_total) == (4_649_060, 674_684_480, 683_639_360)
    assert (merged.params, merged.macs, merged.fvcore_total) == (
        4_437_300,
        639_843_520,
        642_275_520,
    )


@pytest.mark.slow
def test_a_network_of_386_million_weights_is_counted_without_them() -> None:
    with torch.device("meta"):
        network = merge_network(build_network(load_architecture("unireplknet_xl"), 1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    counted = count(network, (224, 224), 3)

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert counted.macs == 63_569_586_176
    assert num_params(network) == 386_529_064
    assert kilobytes < 600_000  # its weights alone are 1,546,000
