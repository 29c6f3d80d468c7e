from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from builders import build_network, official_state_dict
from evaluators.data import load_data
from evaluators.receptive_field import Field, extent
from runs.cli import cli
from runs.ending import run as exit_code_of
from runs.erf import begin
from runs.field_figure import Column, field_figure, images_text, svg
from runs.fields import Settings, find_subjects, images_for, measure, samples_for
from search_space.errors import RunError
from search_space.yaml_io import load_architecture
from tests.micro import Inputs

pytest_plugins = ["tests.micro_fixtures"]

NETWORK = """\
name: {name}
input: {{channels: 3, size: 64}}
block: {block}
stem: {{kind: {stem}, stride: 2}}
stages:
  - {{depth: 1, width: 8, kernel: {kernel}, placement: L}}
  - {{depth: 2, width: 12, kernel: {kernel}, placement: L}}
every_stage: {{ffn_ratio: 2}}
"""

Erf = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nets(tmp_path: Path) -> tuple[Path, Path]:
    """A ConvNeXt of 3x3 kernels and a RepLKNet of 13x13."""
    paths = tmp_path / "small.yaml", tmp_path / "large.yaml"
    words = (("convnext", "patchify", 3), ("replknet", "replknet", 13))
    for path, (block, stem, kernel) in zip(paths, words, strict=True):
        text = NETWORK.format(name=path.stem, block=block, stem=stem, kernel=kernel)
        path.write_text(text, encoding="utf-8")
    return paths


@pytest.fixture
def erf(capsys: pytest.CaptureFixture[str]) -> Erf:
    """Run `erf` on two images of 64 pixels: its exit code, what it printed, what it complained."""

    def command(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        given = ["erf", "--size", "64", "--images", "2", *(str(word) for word in words)]
        code = exit_code_of(
            lambda: cli.main(given, prog_name="replk-search", standalone_mode=False)
        )
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def complaint(error: str) -> str:
    """The one sentence behind `Error: `."""
    assert "Traceback" not in error
    (line,) = (line for line in error.splitlines() if line.startswith("Error: "))
    return line.removeprefix("Error: ")


# Files and table.


def test_the_command_writes_figure_and_tables(
    erf: Erf, nets: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "fields"
    code, printed, said = erf(*nets, "--out", out)
    assert code == 0, said
    assert sorted(p.name for p in out.iterdir()) == ["erf.csv", "erf.json", "erf.png", "erf.svg"]
    assert (out / "erf.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "erf.svg").read_text("utf-8")
    for word in ("r20 %", "r30 %", "r50 %", "r99 %", "sigma px", "area50 %", "area95 %"):
        assert word in printed
    assert printed.count("untrained") == 2
    assert printed.count("2 (last)") == 2
    assert "every block scaled to add 0.03" in " ".join(printed.split())
    with (out / "erf.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == ["1", "2", "1", "2"]
    assert {"r99", "sigma_px", "area50", "area95", "saturated", "abs_sigma_px"} <= set(rows[0])
    assert float(rows[1]["sigma_px"]) < float(rows[3]["sigma_px"])


def test_json_prints_one_object_and_the_same_is_on_the_disk(
    erf: Erf, nets: tuple[Path, Path], tmp_path: Path
) -> None:
    code, printed, said = erf(nets[0], "--json", "--quiet", "--peak", "10", "--out", tmp_path / "x")
    assert (code, said) == (0, "")
    facts = json.loads(printed)
    files = facts.pop("files")
    assert facts == json.loads((tmp_path / "x" / "erf.json").read_text("utf-8"))
    assert all(Path(path).exists() for path in files)
    assert facts["peak"] == 10
    (network,) = facts["networks"]
    assert network["trained"] is False
    last = network["stages"][-1]
    assert 0 < last["r20"] <= last["r30"] <= last["r50"] <= last["r99"] <= 1
    assert (last["images"], last["skipped"]) == (2, 0)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(
    erf: Erf, nets: tuple[Path, Path], tmp_path: Path
) -> None:
    found = []
    for number, seed in enumerate(("1", "1", "2")):
        _, printed, _ = erf(nets[1], "--json", "--seed", seed, "--out", tmp_path / str(number))
        found.append([stage["sigma_px"] for stage in json.loads(printed)["networks"][0]["stages"]])
    assert found[0] == found[1] != found[2]


def test_without_out_the_files_go_into_results(
    erf: Erf, nets: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert erf(nets[0], "--quiet")[0] == 0
    assert erf(nets[0], "--quiet")[0] == 0
    made = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert len(made) == 2
    assert all(re.fullmatch(r"erf-\d{8}-\d{6}(-2)?", name) for name in made)


@pytest.mark.slow
def test_the_order_of_the_published_study_shows(erf: Erf, tmp_path: Path) -> None:
    names = ("convnext_t", "unireplknet_t", "replknet_31b")
    words = ("--size", "512", "--images", "4", "--json")
    code, printed, said = erf(*names, *words, "--out", tmp_path / "x")
    assert code == 0, said
    last = [network["stages"][-1] for network in json.loads(printed)["networks"]]
    for key in ("sigma_px", "area50", "area95", "r20", "r30", "r50"):
        small, middle, large = (stage[key] for stage in last)
        assert small < 0.8 * middle, key
        assert middle < large, key


# Weights.


def test_a_network_of_a_run_is_measured_with_the_weights_that_the_run_kept(
    erf: Erf, run: Path, tmp_path: Path
) -> None:
    with (run / "trials.csv").open(encoding="utf-8") as file:
        trial = next(row for row in csv.DictReader(file) if row["state"] == "complete")
    name = run / trial["id"]
    found = {}
    for words in (("--json",), ("--json", "--untrained")):
        code, printed, said = erf(name, *words, "--out", tmp_path / words[-1])
        assert code == 0, said
        (found[words],) = json.loads(printed)["networks"]
    trained, untrained = found.values()
    assert trained["trained"] is True
    assert re.fullmatch(r"weights/(final-\w+|\d+)\.safetensors", trained["weights"])
    assert (untrained["trained"], untrained["weights"]) == (False, "drawn anew")
    assert trained["stages"][0]["sigma_px"] != untrained["stages"][0]["sigma_px"]


def test_damaged_weights_of_a_run_are_a_users_mistake(
    erf: Erf, run: Path, inputs: Inputs, tmp_path: Path
) -> None:
    for path in (run / "weights").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with (run / "trials.csv").open(encoding="utf-8") as file:
        trial = next(row for row in csv.DictReader(file) if row["state"] == "complete")
    code, _, said = erf(run / trial["id"], "--data", inputs.data, "--out", tmp_path / "x")
    assert code == 2
    assert re.search(r"safetensors: must be the weights of .* measure it with --untrained", said)


def test_a_network_with_an_official_checkpoint_is_measured_trained(
    erf: Erf, nets: tuple[Path, Path], tmp_path: Path
) -> None:
    network = build_network(load_architecture(str(nets[0])), 7)
    torch.save({"model": official_state_dict(network)}, tmp_path / "official.pth")
    given = f"{nets[0]}={tmp_path / 'official.pth'}"
    code, printed, said = erf(*nets, "--weights", given, "--json", "--out", tmp_path / "x")
    assert code == 0, said
    first, second = json.loads(printed)["networks"]
    assert (first["trained"], second["trained"]) == (True, False)
    assert first["weights"].endswith("official.pth")
    assert first["normalised"]["by"] == "those of ImageNet"
    assert second["normalised"]["by"] == "those of fashion_mnist_12k"


# Images.


def test_a_network_of_a_run_is_measured_on_the_runs_data_and_others_on_the_shipped(
    erf: Erf, nets: tuple[Path, Path], run: Path, inputs: Inputs, tmp_path: Path
) -> None:
    with (run / "trials.csv").open(encoding="utf-8") as file:
        name = run / next(row for row in csv.DictReader(file) if row["state"] == "complete")["id"]
    with np.load(inputs.data) as arrays:
        pixels = arrays["train_images"]
    code, printed, said = erf(name, nets[0], "--json", "--out", tmp_path / "own")
    assert code == 0, said
    facts = json.loads(printed)
    first, second = facts["networks"]
    assert facts["data"] is None
    assert [first["data"]["name"], second["data"]["name"]] == ["shapes", "fashion_mnist_12k"]
    assert first["normalised"]["by"] == "those of shapes"
    assert first["normalised"]["mean"] == pytest.approx([pixels.mean()])
    assert first["normalised"]["deviation"] == pytest.approx([pixels.std()])
    code, printed, said = erf(name, "--data", "fashion_mnist_12k", "--out", tmp_path / "other")
    assert code == 0, said
    assert "64x64 px, 2 images of fashion_mnist_12k" in printed
    assert "Untrained" not in printed  # nobody is


def test_the_data_of_each_network_stand_in_the_table_where_they_differ(
    erf: Erf, nets: tuple[Path, Path], run: Path, tmp_path: Path
) -> None:
    with (run / "trials.csv").open(encoding="utf-8") as file:
        name = run / next(row for row in csv.DictReader(file) if row["state"] == "complete")["id"]
    code, printed, said = erf(name, nets[0], "--out", tmp_path / "x")
    assert code == 0, said
    assert "every block scaled" in " ".join(printed.split())
    assert re.search(r" trained +shapes +1 ", printed)
    assert re.search(r" untrained +fashion_mnist_12k +1 ", printed)


def test_images_of_a_run_that_are_gone_are_refused_with_a_way_out(
    erf: Erf, run: Path, tmp_path: Path
) -> None:
    plan = run / "run.yaml"
    plan.write_text(plan.read_text("utf-8").replace("shapes.npz", "gone.npz"), encoding="utf-8")
    with (run / "trials.csv").open(encoding="utf-8") as file:
        name = run / next(csv.DictReader(file))["id"]
    code, _, error = erf(name, "--out", tmp_path / "x")
    assert code == 2
    assert re.search(r"gone\.npz.*, or name others with --data$", complaint(error))


@pytest.mark.parametrize(
    ("name", "by", "mean"),
    [
        ("convnext_t", "those of ImageNet", [123.675, 116.28, 103.53]),
        ("replknet_xl", "0.5 and 0.5", [127.5, 127.5, 127.5]),
    ],
)
def test_images_for_an_official_checkpoint_are_normalised_as_its_authors_did(
    name: str, by: str, mean: list[float]
) -> None:
    settings = Settings(size=(64, 64), images=2, weights=(f"{name}=x.pth",))
    (sample,) = samples_for(find_subjects([name], settings), settings)
    assert sample.normalised == by
    assert list(sample.statistics[0]) == mean
    # Resized, the data's darkest pixel is 0 still: what it becomes shows the statistics.
    for colour, (middle, deviation) in enumerate(zip(*sample.statistics, strict=True)):
        assert float(sample.images[:, colour].min()) == pytest.approx(-middle / deviation)


def test_images_are_resized_normalised_and_moved_and_grey_becomes_three_colours() -> None:
    data = load_data()
    images = images_for(data, 3, Settings(size=(56, 84), images=4), statistics=data.mean_std)
    assert images.shape == (4, 3, 56, 84)
    assert torch.equal(images[:, 0], images[:, 2])
    assert abs(float(images.mean())) < 0.5
    assert 0.5 < float(images.std()) < 1.5
    # Unmoved, every corner would be the black of the border.
    black = (0 - data.mean_std[0][0]) / data.mean_std[1][0]
    assert not np.allclose(images[:, 0, 0, 0], black)


# Mistakes.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["convnet_t"], r"did you mean 'convnext_\w+'\?"),
        (
            ["{small}", "--images", "9999"],
            r"^--images: must be at most the 2000 test images ",
        ),
        (["{small}", "--weights", "small"], r"^--weights: must be NET=FILE, got 'small'; "),
        (["{small}", "--weights", "x=y.pth"], r"^--weights: must name one of the networks to "),
        (
            ["{small}", "--weights", "{small}=y.pth", "--untrained"],
            r"^--weights: must stand without --untrained, got both; leave out one$",
        ),
        (["{small}", "--weights", "{small}=no.pth"], r"^no\.pth: must be a checkpoint file, got "),
        (["{small}", "--peak", "nan"], r"'--peak': must be a number from .*, got nan; for example"),
        (["{small}", "--size", "2"], r"^--size: must leave every stage of .* a map, got 2x2; use "),
        (["{small}", "--data", "nowhere"], r"^'nowhere': must be a folder of images, an \.npz "),
        (["{small}", "--out", "{full}"], r"^--out .*: must not exist yet, a result is never "),
        (["{small}", "--out", "{small}"], r"^--out .*: must not exist yet, a result is never "),
        (
            ["{small}", "--out", "{small}/x"],
            r"^--out .*: must be a directory of yours, got: Not a ",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    erf: Erf, nets: tuple[Path, Path], tmp_path: Path, words: list[str], said: str
) -> None:
    places = {"small": nets[0], "full": tmp_path}
    given = [word.format(**places) for word in words]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "x")]
    code, printed, error = erf(*given)
    assert (code, printed) == (2, "")
    assert re.search(said, complaint(error))
    assert not (tmp_path / "x").exists()


def test_every_checkpoint_is_read_before_the_first_network_is_measured(
    erf: Erf, nets: tuple[Path, Path], tmp_path: Path
) -> None:
    torch.save({"model": {}}, tmp_path / "empty.pth")
    for file in ("nonexistent.pth", "empty.pth"):
        given = f"{nets[1]}={tmp_path / file}"
        code, _, error = erf(*nets, "--weights", given, "--out", tmp_path / "x")
        assert code == 2
        assert file in complaint(error)
        assert error.startswith("Error: ")  # no line of a measured network before it
    assert not (tmp_path / "x").exists()


def test_an_unwritable_directory_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(RunError, match=r"got: Permission denied; name another"):
        begin(["x"], Settings(), out=tmp_path / "closed" / "x", as_json=False, quiet=True)


def test_images_of_other_colours_are_refused(
    erf: Erf, run: Path, tmp_path: Path, inputs: Inputs
) -> None:
    with np.load(inputs.data) as arrays:
        coloured = {
            key: np.repeat(value[..., None], 3, axis=3) if key.endswith("images") else value
            for key, value in arrays.items()
        }
    np.savez(tmp_path / "coloured.npz", **coloured)
    with (run / "trials.csv").open(encoding="utf-8") as file:
        name = run / next(csv.DictReader(file))["id"]
    given = ("--data", tmp_path / "coloured.npz", "--out", tmp_path / "x")
    code, _, error = erf(name, *given)
    assert code == 2
    assert re.match(
        r"coloured: images must have 1 channel for this network, got 3; name another "
        r"data set with --data$",
        complaint(error),
    )


def test_a_network_without_a_gradient_is_failed_work(
    erf: Erf, nets: tuple[Path, Path], tmp_path: Path
) -> None:
    network = build_network(load_architecture(str(nets[0])), 7)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    torch.save(official_state_dict(network), tmp_path / "zeros.pth")
    given = f"{nets[0]}={tmp_path / 'zeros.pth'}"
    code, _, error = erf(nets[0], "--weights", given, "--out", tmp_path / "x")
    assert code == 1
    assert re.search(r"must let a gradient through .* is zero everywhere; try ", complaint(error))
    assert not (tmp_path / "x").exists()


# Figure.


def test_the_figure_shows_every_stage_of_every_network_in_the_same_bytes_each_time(
    nets: tuple[Path, Path],
) -> None:
    settings = Settings(size=(64, 48), images=2)
    columns = []
    subjects = find_subjects([str(path) for path in nets], settings)
    for subject, sample in zip(subjects, samples_for(subjects, settings), strict=True):
        found = measure(subject, sample, settings)
        columns.append(
            Column(
                name="$a$_b",
                note="untrained",
                data="shapes",
                fields=found.fields,
                extents=found.extents,
            )
        )
    figures = [field_figure(columns * 3, peak=1e3, note="as drawn") for _ in range(2)]
    assert len(figures[0].axes) == 6 * 2 + 1  # and the colour bar
    shown = [text.get_text() for text in figures[0].texts]
    assert any("shown as log10(1 + x)" in text for text in shown)
    assert any("Untrained: as drawn." in text for text in shown)
    assert svg(figures[0]) == svg(figures[1])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ([(4, 0), (4, 0)], "4 images"),
        ([(1, 0)], "1 image"),
        ([(3, 1), (3, 1)], "3 of 4 images"),
        ([(3, 1), (4, 0)], "3 to 4 of 4 images"),
    ],
)
def test_the_images_that_were_used_are_told(fields: list[tuple[int, int]], text: str) -> None:
    drawn = [replace(drawn_field((8, 8)), images=used, skipped=left) for used, left in fields]
    assert images_text(drawn) == text


def drawn_field(size: tuple[int, int]) -> Field:
    """A field of four images, all of them the same everywhere."""
    return Field(
        stage=1,
        centre=(size[0] // 2, size[1] // 2),
        map=np.ones(size),
        absolute=np.ones(size),
        images=4,
        skipped=0,
    )


@pytest.mark.parametrize("size", [(64, 64), (33, 97), (97, 33), (8, 512)])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_no_word_of_the_figure_leaves_it_or_lies_on_another(
    size: tuple[int, int], count: int
) -> None:
    field = drawn_field(size)
    found = extent(field.map, field.centre)
    column = Column(
        name="a/long/way/to/" * 5 + "network.yaml",
        note="untrained",
        data="a_data_set_with_quite_a_long_name" * 2,
        fields=[field] * 4,
        extents=[found] * 4,
    )
    other = replace(column, data="other")
    figure = field_figure([column, other, *[column] * 4][:count], peak=1e3, note="drawn " * 30)
    figure.draw_without_rendering()
    words = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    boxes = [text.get_window_extent() for text in words]
    for text, box in zip(words, boxes, strict=True):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    for (one, first), (two, second) in combinations(zip(words, boxes, strict=True), 2):
        assert not first.overlaps(second), (one, two)


def test_help_says_what_is_done_to_an_untrained_network(erf: Erf) -> None:
    code, printed, _ = erf("--help")
    assert code == 0
    text = " ".join(printed.split())
    assert "every block is scaled to add 3 % of the deviation of its input" in text
    assert "its batch norms are set by the images" in text
