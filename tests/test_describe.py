from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import build_network, official_state_dict
from runs.describe import find_network, profile_page, profiled, space_page
from search_space.errors import ReplkError, RunError, SpaceError
from search_space.yaml_io import load_architecture
from tests.micro import SPACE, write_space

pytest_plugins = ["tests.micro_fixtures"]


@pytest.fixture(scope="module")
def smallest() -> dict[str, Any]:
    return profiled("unireplknet_a")


def test_a_published_network_is_profiled_at_224_px_with_1000_classes(
    smallest: dict[str, Any],
) -> None:
    assert smallest["input"] == {"channels": 3, "size": [224, 224]}
    assert smallest["classes"] == 1000
    assert smallest["params_train"] == 4_649_060
    assert smallest["params_merged"] == 4_437_300
    assert smallest["macs_train"] == smallest["meta_macs_train"] == 674_684_480
    assert smallest["macs_merged"] == smallest["meta_macs_merged"] == 639_843_520
    assert smallest["params_inference"] == 4_437_300
    assert smallest["macs_inference"] == smallest["meta_macs_inference"] == 639_843_520
    assert smallest["kernels"] == "3|13|13|13"
    assert smallest["depth"] == 12
    assert smallest["dead_taps"] == 0


def test_fvcore_s_total_and_what_it_cannot_count_stand_beside(smallest: dict[str, Any]) -> None:
    # Above the multiply-adds by the norms that fvcore counts.
    assert smallest["fvcore_total_train"] == 683_639_360
    assert smallest["fvcore_total_merged"] == 642_275_520
    assert smallest["uncounted"]["aten::gelu"] == 13
    assert smallest["uncounted"]["aten::sigmoid"] == 12


def test_a_profile_is_plain_json_and_a_page_with_every_number(smallest: dict[str, Any]) -> None:
    assert json.loads(json.dumps(smallest)) == smallest
    page = profile_page(smallest)
    assert page.splitlines()[0] == ("unireplknet_a (f826c9aa0207), input 224x224x3, 1000 classes")
    for number in ("4,649,060", "4,437,300", "674,684,480", "639,843,520", "642,275,520"):
        assert number in page
    assert "S4 NA" in page
    assert max(map(len, page.splitlines())) <= 100


def test_replknet_is_counted_in_three_forms() -> None:
    facts = profiled("replknet_31b")
    assert facts["params_train"] == 79_864_168
    assert facts["params_merged"] == 79_527_272
    assert facts["params_inference"] == 79_388_776
    assert facts["macs_merged"] == facts["meta_macs_merged"] == 15_353_525_248
    # The official network is counted 50,176 higher: its pooling is an operator that fvcore knows.
    assert facts["fvcore_total_train"] == 15_513_787_392
    assert facts["fvcore_total_merged"] == 15_423_570_944
    page = profile_page(facts)
    for number in ("79,864,168", "79,527,272", "79,388,776"):
        assert number in page


def test_a_sparse_network_is_counted_without_its_zeros(tmp_path: Path) -> None:
    path = tmp_path / "sparse.yaml"
    path.write_text(
        "input: {channels: 3, size: 32}\nblock: slak\nstages: [{depth: 2, width: 16, kernel: 13}]\n"
        "weights_sparsity: 0.5\n"
    )
    facts = profiled(str(path), classes=10)
    assert facts["params_nonzero"] < 0.6 * facts["params_train"]
    assert 0 < facts["macs_nonzero"] < facts["macs_train"]
    assert f"{facts['params_nonzero']:,} parameters of the training form" in profile_page(facts)


def test_official_weights_are_read_and_merged(tmp_path: Path) -> None:
    network = build_network(load_architecture("unireplknet_a"), 7)
    torch.nn.init.zeros_(network.head.classify.bias)
    path = tmp_path / "weights.pth"
    torch.save(official_state_dict(network), path)

    facts = profiled("unireplknet_a", size=(64, 64), weights=str(path))

    assert facts["classes"] == 7
    assert facts["weights"]["dtype"] == "float32"
    assert facts["weights"]["params_nonzero"] < facts["params_train"]
    assert facts["weights"]["merge_difference"] < 1e-12
    assert str(path) in profile_page(facts)
    with pytest.raises(RunError, match=r"^--classes: must be 7, as the weights have, got 8"):
        profiled("unireplknet_a", classes=8, weights=str(path))


def test_input_and_classes_can_be_others() -> None:
    facts = profiled("unireplknet_a", size=(64, 96), channels=1, classes=7)
    assert facts["input"] == {"channels": 1, "size": [64, 96]}
    assert facts["classes"] == 7
    assert facts["params_train"] < 4_649_060 - 993 * 320
    # Maps of 2 x 3 in the last stage: a kernel of 13 reaches beyond every pixel there.
    assert facts["dead_taps"] > 0


def test_latency_is_measured_where_it_is_asked_for(finished: Path) -> None:
    name = next((finished / "architectures").iterdir())
    facts = profiled(str(name), classes=4, latency_device="cpu", batch_size=3)
    measured = facts["latency"]
    assert 0 < measured["low_ms"] <= measured["median_ms"] <= measured["high_ms"]
    assert measured["batch_size"] == 3
    assert measured["device"]["device"] == "cpu"
    assert measured["backend"] == "onnxruntime"
    assert isinstance(measured["disturbed"], bool)
    assert "for a batch of 3, merged, by ONNX Runtime, on " in profile_page(facts)


@pytest.mark.parametrize("disturbed", [False, True])
def test_a_disturbed_latency_says_by_what(finished: Path, disturbed: bool) -> None:  # noqa: FBT001
    name = next((finished / "architectures").iterdir())
    facts = profiled(str(name), classes=4, latency_device="cpu", latency_backend="torch")
    told = {"descheduled": 0.25, "foreign": 0.48, "drift": -0.03, "disturbed": disturbed}
    page = profile_page(facts | {"latency": facts["latency"] | told})
    assert "for a batch of 1, merged, by torch, channels last, on " in page
    assert disturbed == (
        "disturbed: the core was taken away in 25.0% of the rounds, others used 48% of the CPUs, "
        "the reference's time changed by 3%; measure again" in " ".join(page.split())
    )


def test_a_network_of_a_run_is_found_by_its_id_with_the_classes_of_the_run(finished: Path) -> None:
    path = next((finished / "architectures").iterdir())
    network, classes = find_network(f"{finished}/{path.stem}")
    assert network.id == path.stem
    assert classes == 4
    assert find_network(str(path)) == (network, 1000)
    assert profiled(f"{finished}/{path.stem}")["classes"] == 4


def test_an_id_that_the_run_does_not_have_suggests_the_nearest(finished: Path) -> None:
    known = next((finished / "architectures").iterdir()).stem
    with pytest.raises(RunError, match=rf"got '{known[:-1]}'; did you mean '{known}'\?$"):
        find_network(f"{finished}/{known[:-1]}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unireplknet_z", r"^unireplknet_z: must be a YAML file or a shipped name, .*did you mean"),
        ("nothing.yaml", r"^nothing.yaml: must "),
        (
            "default",
            r"^default.yaml:\d+: shared.structure: must be one value in a network, got an axis",
        ),
        ("", r"must be"),
    ],
)
def test_what_is_no_network_is_refused(name: str, said: str) -> None:
    with pytest.raises(ReplkError, match=said):
        profiled(name)


def test_a_network_is_profiled_even_on_one_pixel() -> None:
    facts = profiled("unireplknet_a", size=(1, 1))
    assert facts["macs_train"] == facts["meta_macs_train"]
    assert facts["dead_taps"] > 0


def given(**changes: Any) -> dict[str, Any]:
    return {"size": None, "channels": None, "classes": 10, "samples": 2, "seed": 0, **changes}


def test_the_page_of_the_shipped_space_has_axes_size_and_samples() -> None:
    page = space_page("default", **given())
    lines = page.splitlines()
    assert lines[0].startswith("default: input 28x28x1 (")
    assert any(line.startswith("  stages[1].kernel ") and "13" in line for line in lines)
    assert any(line.startswith("distinct networks   ") for line in lines)
    assert page == space_page("default", **given())
    assert len(lines) == len(space_page("default", **given(samples=0)).splitlines()) + 4
    assert max(map(len, lines)) <= 100


def test_the_page_of_a_space_counts_what_meets_the_constraints(tmp_path: Path) -> None:
    text = SPACE + "constraints:\n  params: {max: 900}\n  macs: {min: 1, max: 1e6}\n"
    path = write_space(tmp_path / "micro.yaml", text)
    page = space_page(str(path), **given(size=(12, 12), channels=1, classes=4))
    assert "micro: input 12x12x1 (given by --size" in page
    assert "distinct networks   672" in page
    assert "within the constraints, all checked" in page
    assert f"{path}:12: constraints.params: at most 900" in page
    assert "constraints.macs: at least 1 and at most 1,000,000" in page


def test_what_a_space_wastes_is_said(tmp_path: Path) -> None:
    # On a map of 2 x 2 a kernel of 5 is one of 3.
    text = (
        "input: {channels: 1, size: 4}\n"
        "stem: {stride: 2}\n"
        "stages:\n  - {depth: 1, width: 4, kernel: {choice: [3, 5]}}\n"
    )
    page = space_page(str(write_space(tmp_path / "s.yaml", text)), **given())
    assert "s: input 4x4x1 (as the YAML says)" in page
    assert "distinct networks   1" in page
    assert "choices that make nothing new" in page


def test_a_space_of_floats_is_infinite_and_one_of_one_network_has_no_axis(tmp_path: Path) -> None:
    row = "stages:\n  - {depth: 1, width: 4, kernel: 3, ffn_ratio: %s}\n"
    endless = write_space(tmp_path / "f.yaml", row % "{float: [1, 4]}")
    assert "infinitely many" in space_page(str(endless), **given())
    single = write_space(tmp_path / "one.yaml", row % "2")
    assert "  none: one network" in space_page(str(single), **given())


def test_a_space_that_is_none_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"^defualt: .*did you mean 'default'"):
        space_page("defualt", **given())
