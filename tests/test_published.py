from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import pytest

from evaluators.cost import cost
from runs.published import published_facts_json, published_page, published_rows
from search_space.published import Published, published_facts, published_networks
from search_space.yaml_io import load_architecture

NETWORKS = {network.name: network for network in published_networks()}

# Records of runs are keyed by these: they never change.
IDS = {
    "convnext_b": "85c707cf5e87",
    "convnext_l": "0a3d8bc74531",
    "convnext_s": "c4e359759bda",
    "convnext_t": "053fdcd170d1",
    "convnext_xl": "cedd655db270",
    "replknet_31b": "388f3f152647",
    "replknet_31l": "796bc573cdd5",
    "replknet_b_13": "864ea85e9dbe",
    "replknet_b_25": "a2642e490ca7",
    "replknet_b_3": "8369acbadf1d",
    "replknet_b_31": "388f3f152647",
    "replknet_b_7": "5c773202d7fa",
    "replknet_xl": "96cfe1ee3e38",
    "slak_b": "8064505af2d8",
    "slak_s": "50071a8fbd1b",
    "slak_t": "b30b8e65c117",
    "unireplknet_a": "f826c9aa0207",
    "unireplknet_ablation_bottleneck": "e8476f788a90",
    "unireplknet_ablation_depth_l": "f7519676b424",
    "unireplknet_ablation_depth_ls": "fa289b1ca8a4",
    "unireplknet_ablation_depth_lss": "873ab51ec73e",
    "unireplknet_ablation_depthwise": "4408042d54ed",
    "unireplknet_ablation_kernel_13_13_13_13": "7b3f7990f109",
    "unireplknet_ablation_kernel_3_11_11_11": "ffb49e47269a",
    "unireplknet_ablation_kernel_3_13_13_3": "20cdb588e7dc",
    "unireplknet_ablation_kernel_3_13_3_13": "92f6ba75adfc",
    "unireplknet_ablation_kernel_3_15_15_15": "45af600b2670",
    "unireplknet_ablation_kernel_3_3_13_13": "8e14436ee4cb",
    "unireplknet_ablation_none": "7165445fb022",
    "unireplknet_ablation_pointwise": "598026d1f127",
    "unireplknet_ablation_reparam_kernels": "618bbae5c00a",
    "unireplknet_ablation_reparam_none": "4f7b6c825a93",
    "unireplknet_ablation_reparam_sizes": "ccde1760c7b9",
    "unireplknet_ablation_se": "d2a61bb38ff5",
    "unireplknet_b": "3366e32c05f4",
    "unireplknet_f": "2818afede4ad",
    "unireplknet_l": "5249a7a82046",
    "unireplknet_n": "2bc4ffbc8fa3",
    "unireplknet_p": "19d7a38997d1",
    "unireplknet_s": "873ab51ec73e",
    "unireplknet_t": "84b7f40aaa43",
    "unireplknet_xl": "4bd13eb9fe27",
}

ABLATIONS = (
    *("none", "bottleneck", "pointwise", "depthwise", "se"),
    *("reparam_none", "reparam_kernels", "reparam_sizes"),
    *("kernel_3_11_11_11", "kernel_3_3_13_13", "kernel_3_13_3_13", "kernel_3_13_13_3"),
    *("kernel_3_15_15_15", "kernel_13_13_13_13"),
    *("depth_l", "depth_ls", "depth_lss"),
)

# Parameters of the training and the merged form, multiply-adds of both at 224 px in units of
# 10^5, as counted on the official code.
COUNTS = {
    "unireplknet_a": (4_649_060, 4_437_300, 6_747, 6_398),
    "unireplknet_f": (6_489_328, 6_235_216, 9_469, 9_051),
    "unireplknet_p": (11_080_520, 10_741_704, 16_288, 15_731),
    "unireplknet_n": (18_818_880, 18_318_560, 28_489, 27_665),
    "unireplknet_t": (31_693_420, 31_037_980, 50_035, 48_990),
    "unireplknet_s": (56_456_704, 55_645_984, 92_194, 90_940),
    "unireplknet_b": (99_089_416, 98_008_456, 162_244, 160_572),
    "unireplknet_l": (220_076_056, 218_454_616, 361_324, 358_815),
    "unireplknet_xl": (388_690_984, 386_529_064, 639_041, 635_696),
    "replknet_31b": (79_864_168, 79_527_272, 154_313, 153_535),
    "replknet_31l": (172_671_016, 172_165_672, 327_807, 326_641),
    "replknet_xl": (335_435_752, 335_399_656, 630_789, 630_789),
    "replknet_b_3": (71_906_408, 71_894_376, 129_387, 129_387),
    "replknet_b_7": (72_712_552, 72_375_656, 131_409, 130_631),
    "replknet_b_13": (74_156_392, 73_819_496, 135_142, 134_364),
    "replknet_b_25": (78_709_096, 78_372_200, 148_870, 148_092),
    "replknet_b_31": (79_864_168, 79_527_272, 154_313, 153_535),
    "slak_t": (50_703_838, 50_703_838, 87_048, 87_048),
    "slak_s": (91_131_820, 91_131_820, 166_040, 166_040),
    "slak_b": (157_950_792, 157_950_792, 285_091, 285_091),
    "convnext_t": (28_589_128, 28_589_128, 44_555, 44_555),
    "convnext_s": (50_223_688, 50_223_688, 86_837, 86_837),
    "convnext_b": (88_591_464, 88_591_464, 153_547, 153_547),
    "convnext_l": (197_767_336, 197_767_336, 343_614, 343_614),
    "convnext_xl": (350_196_968, 350_196_968, 609_210, 609_210),
}


def test_every_published_network_is_shipped() -> None:
    ablations = {f"unireplknet_ablation_{name}" for name in ABLATIONS}
    assert set(NETWORKS) == set(COUNTS) | ablations


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_those_of_the_official_code(name: str) -> None:
    found = cost(NETWORKS[name].architecture, 1000)
    assert (
        found.params_train,
        found.params_merged,
        round(found.macs_train / 1e5),
        round(found.macs_merged / 1e5),
    ) == COUNTS[name]


@pytest.mark.parametrize("name", [n for n in NETWORKS if not n.startswith("slak")])
def test_printed_figures_are_what_we_count_on_images_of_the_printed_size(name: str) -> None:
    network = NETWORKS[name]
    counted = cost(replace(network.architecture, size=(network.size, network.size)), 1000)
    if network.params is not None:
        # Printed in millions or tenths of them; some of the authors' counts are a little lower.
        exact = name.startswith("unireplknet_ablation")
        unit = 1e6 if network.params % 1e6 == 0 else 1e5 if exact else 2e5
        assert abs(counted.params_merged - network.params) < unit
    if network.macs is not None:
        unit = 1e9 if network.macs > 1e11 else 1e8 if network.macs % 1e8 == 0 else 1e7
        assert abs(counted.macs_merged - network.macs) < unit


def test_widths_of_slak_are_those_of_its_authors() -> None:
    assert NETWORKS["slak_t"].architecture.widths == (124, 249, 499, 998)
    assert NETWORKS["slak_b"].architecture.widths == (166, 332, 665, 1331)
    assert NETWORKS["slak_t"].architecture.weights_sparsity == 0.4


def test_two_trainings_of_one_network_are_the_same_network() -> None:
    for one, other in (
        ("replknet_31b", "replknet_b_31"),
        ("unireplknet_s", "unireplknet_ablation_depth_lss"),
    ):
        assert NETWORKS[one].architecture == NETWORKS[other].architecture
        assert NETWORKS[one].top1 > NETWORKS[other].top1


def test_published_networks_carry_their_facts() -> None:
    assert published_facts("unireplknet_t")["top1"] == 83.2
    assert published_facts("replknet_31l") == {
        "top1": 86.6,
        "params": 172e6,
        "macs": 96e9,
        "size": 384,
        "pretraining": "ImageNet-22K",
        "source": "RepLKNet, arXiv 2203.06717",
    }
    assert published_facts("tiny") == {}


def test_figures_that_were_not_read_in_the_paper_say_so() -> None:
    second = [name for name, network in NETWORKS.items() if network.second_hand]
    assert second == ["replknet_b_25", "replknet_b_31"]


def test_a_top_1_is_told_with_how_it_came_about() -> None:
    assert NETWORKS["unireplknet_a"].text == "77 % at 224 px"
    assert NETWORKS["replknet_xl"].text == "87.8 % at 320 px after MegData73M"
    assert NETWORKS["replknet_b_31"].text == "83.07 % at 224 px in 120 epochs (second-hand)"


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_facts_are_plausible_and_name_their_source(network: Published) -> None:
    assert 75 < network.top1 < 90
    assert network.size in (224, 320, 384)
    assert network.pretraining in ("none", "ImageNet-22K", "MegData73M")
    assert re.match(r"\w+, arXiv \d{4}\.\d{5}", network.source)
    assert network.epochs in (None, 100, 120)


# The table.


def test_the_table_holds_every_network_by_family_and_size() -> None:
    rows = published_rows()
    assert {row.network.name for row in rows} == set(NETWORKS)
    families = [row.network.architecture.block for row in rows]
    assert families == sorted(families, key=["unireplknet", "replknet", "slak", "convnext"].index)
    sizes = [row.cost.params_merged for row in rows if row.network.architecture.block == "slak"]
    assert sizes == sorted(sizes)


def test_the_table_fits_120_columns_and_says_what_is_counted_and_what_is_published() -> None:
    lines = published_page().splitlines()
    assert max(map(len, lines)) <= 120
    rows = {line.split()[0]: " ".join(line.split()) for line in lines if line.strip()}
    assert rows["unireplknet_t"] == (
        "unireplknet_t 3-3-18-3 3-13-13/3-13 80-160-320-640 31.0M 4.90G 83.2 224"
    )
    assert rows["replknet_xl"] == (
        "replknet_xl 2-2-18-2 27-27-27-13 256-512-1024-2048 335.4M 63.08G 87.8 320 MegData73M"
    )
    assert rows["slak_t"] == ("slak_t 3-3-9-3 51-49-47-13 124-249-499-998 50.7M 8.70G 82.5 224")
    assert rows["replknet_b_31"].endswith("83.07* 224 120 epochs")
    assert rows["unireplknet_s"].split()[2] == "3-13-13/3/3-13"
    text = " ".join(lines)
    assert "Computed by us: params and MACs" in text
    assert "Published by the authors: top-1" in text
    assert "* second-hand" in text


def test_the_table_as_json_keeps_computed_and_published_figures_apart() -> None:
    facts = {row["name"]: row for row in json.loads(json.dumps(published_facts_json()))}
    assert set(facts) == set(NETWORKS)
    found = facts["unireplknet_b"]
    assert found["family"] == "unireplknet"
    assert found["depths"] == [3, 3, 27, 3]
    assert found["kernels"][2][:4] == [13, 3, 3, 13]
    assert found["computed"]["params_merged"] == 98_008_456
    assert found["published"] == {
        "top1": 87.4,
        "size": 384,
        "pretraining": "ImageNet-22K",
        "source": "UniRepLKNet, arXiv 2311.15599",
        "params": 97.9e6,
        "macs": 47.2e9,
        "second_hand": False,
    }


def test_the_id_and_the_json_of_every_published_network_are_frozen() -> None:
    networks = {name: load_architecture(name) for name in IDS}
    assert {name: network.id for name, network in networks.items()} == IDS
    assert set(NETWORKS) <= set(IDS)
    texts = [network.to_json() + network.canonical.to_json() for network in networks.values()]
    digest = hashlib.sha256("".join(texts).encode()).hexdigest()
    assert digest == "039897d2616e7ce6dc8ca461ed3304a0dced5d316c679cc735c57e0107f7360b"
