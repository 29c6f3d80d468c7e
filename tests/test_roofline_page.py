from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluators import roofline
from evaluators.cost import cost
from evaluators.machine import Machine
from runs.cli import cli
from runs.ending import run as exit_code_of
from runs.roofline_page import roofline_text
from search_space.yaml_io import load_architecture

pytest_plugins = ["tests.micro_fixtures"]

NETWORK = """\
input: {channels: 3, size: 32}
stem: {stride: 2}
stages:
  - {depth: 1, width: 8, kernel: 3}
  - {depth: 3, width: 16, kernel: 7}
shared: {structure: se}
"""
ROOFS = Machine(
    peaks={"matrix product": 50.0, "convolution": 100.0},
    bandwidths=((2**18, 100.0), (2**28, 10.0)),
    call_us=1.5,
)

Profile = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave the measurement of the machine out, and most of the rounds."""
    monkeypatch.setattr(roofline, "measure_machine", lambda _: ROOFS)
    monkeypatch.setattr(roofline, "MAX_ROUNDS", roofline.MIN_ROUNDS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NETWORK, encoding="utf-8")


@pytest.fixture
def profile(capsys: pytest.CaptureFixture[str]) -> Profile:
    """Run `profile` in this process: its exit code, what it printed, what it complained."""

    def command(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        given = ["profile", *map(str, words)]
        code = exit_code_of(
            lambda: cli.main(given, prog_name="replk-search", standalone_mode=False)
        )
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def test_the_page_shows_roofs_layers_and_where_the_files_are(profile: Profile) -> None:
    code, printed, error = profile("net.yaml", "--classes", "5", "--roofline", "--out", "mine")
    assert (code, error) == (0, "")
    lines = printed.splitlines()
    assert lines[0].startswith("net.yaml (")  # what a profile shows comes first, as without
    text = " ".join(printed.split())
    assert "at most 100.0 GFLOP/s (convolution), 10.0 GB/s from memory, 100.0 from the" in text
    assert re.search(r"The layers take \d+\.\d+ of the \d+\.\d+ ms of the whole", text)
    for part in ("stem", "stage 1", "to stage 2", "stage 2", "head", "large depthwise, 3 layers"):
        assert any(line.startswith(f"{part} ") for line in lines)
    assert any(line.startswith("  3x depthwise 7x7, 16 at 8x8 ") for line in lines)
    assert any(line.startswith("  3x SqueezeExcite at 16x8x8 ") for line in lines)
    assert max(map(len, lines)) <= 100
    names = [f"roofline.{ending}" for ending in ("png", "svg", "csv", "json")]
    assert sorted(path.name for path in Path("mine").iterdir()) == sorted(names)
    assert all(f"mine/{name}" in printed for name in names)
    assert Path("mine/roofline.png").read_bytes().startswith(b"\x89PNG")
    assert Path("mine/roofline.svg").read_text().count("<svg ") == 1


def test_rows_of_the_table_add_up(profile: Profile) -> None:
    code, printed, _ = profile("net.yaml", "--roofline")
    assert code == 0
    shown = re.findall(r"^( *)\S.*?  +(\d+\.\d{3}) +(\d+\.\d) +(\d+\.\d\d) ", printed, re.MULTILINE)
    layers, parts_and_kinds = (
        [[float(v) for v in row[1:]] for row in shown if bool(row[0]) == inner]
        for inner in (True, False)
    )
    whole = parts_and_kinds[-1]
    for column, slack in ((0, 0.03), (1, 1.5), (2, 0.3)):
        assert sum(row[column] for row in layers) == pytest.approx(whole[column], abs=slack)
        # The parts of the network, its kinds of layers, and all of them.
        total = sum(row[column] for row in parts_and_kinds)
        assert total == pytest.approx(3 * whole[column], abs=3 * slack)
    assert whole[1] == 100.0


def test_json_and_files_hold_the_same_facts(profile: Profile) -> None:
    words = ("--size", "24x40", "--channels", "1", "--classes", "5", "--latency-batch", "3")
    code, printed, error = profile("net.yaml", *words, "--roofline", "--json", "--out", "a/b")
    assert (code, error) == (0, "")
    facts = json.loads(printed)
    assert facts == json.loads(Path("a/b/roofline.json").read_text())
    found = facts["roofline"]
    assert found["batch_size"] == 3
    assert found["device"]["device"] == "cpu"
    assert found["files"] == [f"a/b/roofline.{ending}" for ending in ("png", "svg", "csv", "json")]
    layers = found["layers"]
    assert layers[0]["output"] == [3, 4, 12, 20]
    assert sum(layer["macs"] for layer in layers) == 3 * facts["macs_inference"]
    assert sum(layer["share"] for layer in layers) == pytest.approx(1)
    assert sum(layer["ms"] for layer in layers) == pytest.approx(found["layers_ms"])
    for layer in layers:
        compute = 2 * layer["effective_macs"] / (found["machine"]["peak_gflops"] * 1e6)
        memory = layer["bytes"] / (layer["bandwidth_gbs"] * 1e6)
        assert layer["bound_ms"] == pytest.approx(max(compute, memory))
        assert layer["of_bound"] == pytest.approx(layer["bound_ms"] / layer["ms"])
        calls = 1.5e-3 * layer["operators"]
        least = {"compute": compute, "memory": memory, "calls": calls}
        assert least[layer["limit"]] == pytest.approx(max(least.values()))
    rows = list(csv.DictReader(Path("a/b/roofline.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == [layer["name"] for layer in layers]
    assert [int(row["bytes"]) for row in rows] == [layer["bytes"] for layer in layers]
    assert rows[0]["output"] == "3x4x12x20"


def test_a_network_of_a_run_is_measured(profile: Profile, finished: Path) -> None:
    network = next((finished / "architectures").iterdir()).stem
    code, printed, _ = profile(f"{finished}/{network}", "--roofline", "--json")
    assert code == 0
    facts = json.loads(printed)
    assert facts["classes"] == 4
    own = load_architecture(str(finished / "architectures" / f"{network}.yaml"))
    macs = sum(layer["macs"] for layer in facts["roofline"]["layers"])
    assert macs == cost(own, 4).macs_inference
    assert Path(facts["roofline"]["files"][0]).parent.match(f"results/roofline-{network}-2*")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unireplknet_a", "replknet_31b", "slak_t", "convnext_t"])
def test_a_published_network_is_measured(profile: Profile, name: str) -> None:
    code, printed, _ = profile(name, "--size", "64", "--roofline", "--json")
    assert code == 0
    facts = json.loads(printed)
    layers = facts["roofline"]["layers"]
    assert sum(layer["macs"] for layer in layers) == facts["macs_inference"]
    assert Path(facts["roofline"]["files"][0]).parent.match(f"results/roofline-{name}-2*")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["net.yaml", "--roofline", "--out", "full"],
            "--out full: must not exist yet, a result is ",
        ),
        (["net.yaml", "--roofline", "--out", "net.yaml"], "--out net.yaml: must not exist yet"),
        (["net.yaml", "--roofline", "--out", "net.yaml/x"], "must be a directory of yours, got: "),
        (["net.yaml", "--out", "new"], "--out: must stand with --roofline; remove it"),
        (["net.yaml", "--latency-backend", "torch"], "must stand with --latency; remove it"),
        (["net.yaml", "--latency-batch", "4"], "must stand with --latency or --roofline; remove"),
        (["net.yaml", "--roofline", "--out", "new", "--device", "tpu"], "--device: must be auto"),
        (["unireplknet_z", "--roofline", "--out", "new"], "did you mean 'unireplknet_"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    profile: Profile, words: list[str], said: str
) -> None:
    Path("full").mkdir()
    Path("full/old.txt").write_text("mine")
    code, printed, error = profile(*words)
    assert (code, printed) == (2, "")
    assert said in error.splitlines()[-1]
    assert error.splitlines()[-1].startswith("Error: ")
    assert sorted(path.name for path in Path().iterdir()) == ["full", "net.yaml"]
    assert [path.name for path in Path("full").iterdir()] == ["old.txt"]


def test_a_disturbed_measurement_is_told(profile: Profile) -> None:
    _, printed, _ = profile("net.yaml", "--roofline", "--json")
    found: dict[str, Any] = json.loads(printed)["roofline"]

    def said(**rounds: int) -> str:
        return " ".join(roofline_text(found | rounds).split())

    assert "medians of 40 rounds. ms time%" in said(rounds=40, disturbed=0, left_out=0)
    spared = said(rounds=40, disturbed=0, left_out=2)
    assert "of 40 rounds. 2 more are left out: something else took the core. ms" in spared
    disturbed = said(rounds=9, disturbed=5, left_out=0)
    assert "Disturbed: something else took the core in 5 of them; measure again" in disturbed
