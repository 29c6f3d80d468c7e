from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.densities import SPARSITY_INITS
from runs import session
from runs.cli import cli
from runs.ending import INTERRUPTED, Interrupt
from runs.ending import run as exit_code_of
from runs.options import SPARSITY_NAMES
from search_space.errors import RunError, WorkFailed
from tests.micro import SPACE, Inputs, write_space

pytest_plugins = ["tests.micro_fixtures"]

ROOT = Path(__file__).parents[1]

Say = Callable[..., tuple[int, str, str]]


def one_sentence(error: str) -> str:
    """The message behind `Error: `, after checking that it is one line and no traceback."""
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, error
    assert error.splitlines()[-1] == lines[0]
    return lines[0].removeprefix("Error: ")


# Commands and options.


def test_the_console_has_exactly_these_commands() -> None:
    assert sorted(cli.commands) == [
        *("audit", "compare", "erf", "export", "guidelines"),
        *("profile", "report", "resume", "search", "space"),
    ]


@pytest.mark.slow
def test_options_without_a_command_are_those_of_search(say: Say, inputs: Inputs) -> None:
    given = ("--space", inputs.space, "--data", inputs.data, "--budget", "7", "--dry-run")
    code, printed, _ = say(*given)
    assert code == 0
    assert "7 trainings by tpe, objectives accuracy, latency, seed 0" in printed
    assert re.search(r"^time      about \d+ s \(", printed, re.MULTILINE)


@pytest.mark.slow
def test_how_zeros_are_shared_out_is_kept_with_the_run(
    say: Say, inputs: Inputs, tmp_path: Path
) -> None:
    given = ("--space", inputs.space, "--data", inputs.data, "--budget", "1", "--quiet")
    assert say(*given, "--sparsity-init", "erk", "--out", tmp_path / "run")[0] == 0
    assert "sparsity_init: erk" in (tmp_path / "run" / "run.yaml").read_text()


def test_the_words_of_sparsity_init_are_those_of_the_recipe() -> None:
    # Written twice, so that --help need not import torch.
    assert SPARSITY_NAMES == SPARSITY_INITS


def test_help_lists_commands_and_options(say: Say) -> None:
    code, printed, _ = say("--help")
    assert code == 0
    assert "replk-search --budget 200" in printed
    code, printed, _ = say("search", "-h")
    assert code == 0
    options = (
        "--budget --space --data --data-root --resize --out --seed --workers --device --objectives "
        "--sampler --warm-start --epochs --batch-size --sparsity-init "
        "--latency-backend --latency-batch --keep-weights --backend --dry-run --quiet"
    )
    assert [option for option in options.split() if option not in printed] == []


def test_the_version_is_told_also_where_nothing_is_installed(say: Say) -> None:
    code, printed, _ = say("--version")
    assert code == 0
    assert re.match(r"replk-search, version (\d+\.\d+|of a clone)", printed)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("serach",), "command: must be known, got 'serach'; did you mean 'search'?"),
        (("--bugdet", "3"), "No such option '--bugdet'"),
        (("--budget", "0"), "0 is not in the range x>=1"),
        (("--budget", "many"), "'many' is not a valid integer"),
        (("--epochs", "0"), "0.0 is not in the range x>0"),
        (("--epochs", "nan"), "recipe: epochs: must be a finite number above 0, got nan"),
        (("--batch-size", "1"), "1 is not in the range x>=2"),
        (("--workers", "0"), "0 is not in the range"),
        (("--sampler", "gp"), "'gp' is not one of 'tpe', 'random', 'nsgaii'"),
        (("--warm-start", "cold"), "'cold' is not one of 'anchors', 'published', 'none'"),
        (("--keep-weights", "some"), "'some' is not one of 'front', 'all', 'none'"),
        (("--resize", "32x"), "must be one side or HEIGHTxWIDTH in pixels, got '32x'"),
        (("--resize", "0"), "must be one side or HEIGHTxWIDTH in pixels, got '0'"),
        (("--device", "tpu"), "--device: must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        (("--objectives", "speed"), "--objectives: must be known, got 'speed'"),
        (("--objectives", "accuracy,acuracy"), "got 'acuracy'; did you mean 'accuracy'?"),
        (("--objectives", ","), "'--objectives': must name at least one"),
        (("--space", "nothing.yaml"), "nothing.yaml: must "),
        (("--space", "defualt"), "did you mean 'default'?"),
        (("--data", "/no/where"), "'/no/where': must be a folder of images"),
        (("--data", "cifar11"), "did you mean 'cifar10'?"),
        (("resume",), "Missing argument 'RUN'"),
        (("resume", "/no/where"), "/no/where: must be the directory of a run, there is none"),
        (("report", "/no/where"), "/no/where: must be the directory of a run, there is none"),
        (("compare", "/no/where"), "RUN: must be two runs or more, got 1"),
        (("profile", "unireplknet_xxl"), "did you mean 'unireplknet_xl'?"),
        (("profile", "unireplknet_a", "--size", "big"), "must be one side or HEIGHTxWIDTH"),
        (("space", "tiny", "--json"), "--json: must stand with 'published'; remove it"),
        (("space", "Published", "--size", "32"), "--size: must stand with a space, has no effect"),
        (("space", "unireplknet_a", "extra"), "unexpected extra argument"),
    ],
)
def test_a_mistake_is_exit_code_2_and_one_sentence(
    say: Say, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    if words[0].startswith("--"):
        words = ("--out", str(tmp_path / "run"), *words)
    code, printed, error = say(*words)
    assert code == 2
    assert said in one_sentence(error)
    assert printed == ""
    assert list(tmp_path.iterdir()) == []


MALFORMED = {
    "unknown key": ("stages:", "stagse:"),
    "even kernel": ("kernel: {choice: [3, 5, 7]}", "kernel: 12"),
    "kernel of a list in a list": ("kernel: {choice: [3, 5, 7]}", "kernel: {choice: [[3]]}"),
    "empty choice": ("width: {choice: [4, 6]}", "width: {choice: []}"),
    "twice the same choice": ("width: {choice: [4, 6]}", "width: {choice: [4, 4]}"),
    "a step that does not fit": ("step: 2", "step: 3"),
    "upside down": ("{int: [4, 8], step: 2}", "{int: [8, 4]}"),
    "both int and choice": ("{int: [4, 8], step: 2}", "{int: [4, 8], choice: [4]}"),
    "width of zero": ("{int: [4, 8], step: 2}", "0"),
    "width of text": ("{int: [4, 8], step: 2}", "wide"),
    "width not finite": ("{int: [4, 8], step: 2}", ".inf"),
    "depth of a float": ("depth: {choice: [1, 2]}", "depth: 1.5"),
    "unknown placement": ("ffn_ratio: 1", "placement: LX"),
    "unknown structure": ("choice: [none, se]", "choice: [none, sse]"),
    "a branch that is none": ("[none, paper, [[3, 1]]]", "[[3]]"),
    "a stride that no stem has": ("stride: 2", "stride: 3"),
    "duplicate key": ("name: micro", "name: micro\nname: micro"),
    "broken YAML": ("name: micro", "name: [micro"),
    "a tab": ("  - {depth: 1,", "\t- {depth: 1,"),
    "a list at the top": (SPACE, "- 1\n- 2\n"),
    "nothing": (SPACE, ""),
    "control characters": ("name: micro", "name: mi\x01cro"),
    "no stages": (SPACE, "name: x\n"),
    "constraint on what is no number": ("name: micro", "constraints: {params: {max: lots}}"),
    "constraint upside down": ("name: micro", "constraints: {params: {min: 9, max: 1}}"),
    "constraint on an unknown number": ("name: micro", "constraints: {prams: {max: 1}}"),
    "an alias that grows": (
        SPACE,
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n"
        "c: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nstages: [*c, *c, *c, *c, *c, *c]\n",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_space_is_exit_code_2_with_file_and_place(
    say: Say, inputs: Inputs, tmp_path: Path, name: str
) -> None:
    old, new = MALFORMED[name]
    assert old in SPACE
    path = write_space(tmp_path / "mine.yaml", SPACE.replace(old, new))
    out = tmp_path / "run"
    code, printed, error = say("--space", path, "--data", inputs.data, "--out", out)
    assert code == 2
    assert re.match(rf"{re.escape(str(path))}(:\d+)?: ", one_sentence(error))
    assert printed == ""
    assert not out.exists()


def test_a_space_that_is_no_text_or_too_long_is_exit_code_2(say: Say, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for content in (b"\xff\xfe\x00name", b"#" * 1_100_000):
        path.write_bytes(content)
        code, _, error = say("--space", path)
        assert (code, one_sentence(error).startswith(f"{path}:1: ")) == (2, True)
    code, _, error = say("--space", tmp_path)
    assert (code, one_sentence(error).startswith(f"{tmp_path}: ")) == (2, True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x80\x04pickled"])
def test_data_that_cannot_be_read_are_exit_code_2(
    say: Say, inputs: Inputs, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "mine.npz").write_bytes(content)
    code, _, error = say("--space", inputs.space, "--data", tmp_path / "mine.npz")
    assert code == 2
    assert one_sentence(error).startswith(f"{tmp_path / 'mine.npz'}: must be a whole .npz archive")


# Whole commands.


def test_a_search_never_overwrites_a_result(say: Say, inputs: Inputs, finished: Path) -> None:
    code, _, error = say("--space", inputs.space, "--data", inputs.data, "--out", finished)
    assert code == 2
    assert f"'replk-search resume {finished}'" in one_sentence(error)


def test_report_and_resume_of_a_finished_run(say: Say, run: Path) -> None:
    (run / "report.html").unlink()
    code, printed, _ = say("report", run)
    assert code == 0
    assert f"{run}/report.html" in printed.splitlines()
    assert (run / "report.html").exists()
    code, printed, _ = say("resume", run)
    assert code == 0
    assert "finished already" in printed
    code, _, error = say("resume", run, "--budget", "2")
    assert (code, "--budget: must be at least the 6" in one_sentence(error)) == (2, True)


def test_profile_prints_one_json_object_or_a_page(say: Say, run: Path) -> None:
    path = next((run / "architectures").iterdir())
    code, printed, _ = say("profile", f"{run}/{path.stem}", "--json")
    assert code == 0
    facts = json.loads(printed)
    assert facts["id"] == path.stem
    assert {"params_train", "params_merged", "macs_train", "macs_merged"} < facts.keys()
    assert {"fvcore_total_train", "fvcore_total_merged", "uncounted"} < facts.keys()
    code, printed, _ = say("profile", path, "--size", "24x32", "--classes", "3")
    assert code == 0
    assert "input 24x32x1, 3 classes" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params_train", "params_merged", "macs_train", "macs_merged"),
    [
        ("a", 4_649_060, 4_437_300, "0.6747", "0.6398"),
        ("f", 6_489_328, 6_235_216, "0.9469", "0.9051"),
        ("p", 11_080_520, 10_741_704, "1.6288", "1.5731"),
        ("n", 18_818_880, 18_318_560, "2.8489", "2.7665"),
        ("t", 31_693_420, 31_037_980, "5.0035", "4.8990"),
        ("s", 56_456_704, 55_645_984, "9.2194", "9.0940"),
        ("b", 99_089_416, 98_008_456, "16.2244", "16.0572"),
        ("l", 220_076_056, 218_454_616, "36.1324", "35.8815"),
        ("xl", 388_690_984, 386_529_064, "63.9041", "63.5696"),
    ],
)
def test_published_networks_cost_what_the_released_code_costs(
    say: Say,
    name: str,
    params_train: int,
    params_merged: int,
    macs_train: str,
    macs_merged: str,
) -> None:
    code, printed, _ = say("profile", f"unireplknet_{name}", "--json")
    assert code == 0
    facts = json.loads(printed)
    assert (facts["params_train"], facts["params_merged"]) == (params_train, params_merged)
    assert f"{facts['macs_train'] / 1e9:.4f}" == macs_train
    assert f"{facts['macs_merged'] / 1e9:.4f}" == macs_merged
    for form in ("train", "merged"):
        assert facts[f"meta_macs_{form}"] == facts[f"macs_{form}"]
        assert facts[f"fvcore_total_{form}"] > facts[f"macs_{form}"]


def test_published_networks_are_listed_in_any_case_and_as_json(say: Say) -> None:
    code, printed, _ = say("space", "PUBLISHED")
    assert code == 0
    assert re.search(r"^replknet_31b .* 79\.5M 15\.35G +83\.5 224$", printed, re.MULTILINE)
    code, printed, _ = say("space", "published", "--json")
    assert code == 0
    assert len(json.loads(printed)) == 42


def test_a_file_of_that_name_goes_before_the_list(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_space(tmp_path / "published", "stages:\n  - {depth: 1, width: 4, kernel: 3}\n")
    monkeypatch.chdir(tmp_path)
    code, printed, _ = say("space", "published")
    assert code == 0
    assert printed.startswith("published: input 28x28x1")


def test_space_describes_the_shipped_space(say: Say) -> None:
    code, printed, _ = say("space", "default", "--samples", "1")
    assert code == 0
    assert printed.startswith("default: input 28x28x1")
    assert say("space", "--samples", "1")[1] == printed


# Ends.


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RunError("--out x: must not exist"), 2, "Error: --out x: must not exist\n"),
        (WorkFailed("x: 20 of 20 trials failed"), 1, "Error: x: 20 of 20 trials failed\n"),
        (KeyboardInterrupt("Go on."), INTERRUPTED, "\nInterrupted. Go on.\n"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
    ],
)
def test_what_ends_a_command_has_its_exit_code_and_its_sentence(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def action() -> None:
        raise error

    assert exit_code_of(action) == code
    assert capsys.readouterr().err == said


def test_ctrl_c_in_a_command_keeps_its_sentence(
    say: Say, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "is_finished", interrupted)
    code, _, error = say("resume", run)
    assert code == 130
    assert (
        f"Interrupted. Everything finished is on disk; go on with 'replk-search resume {run}'"
        in (error)
    )


def test_a_signal_waits_until_a_child_is_started() -> None:
    interrupt = Interrupt()
    handler = signal.signal(signal.SIGINT, interrupt)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        interrupt(signal.SIGTERM, None)
        with pytest.raises(KeyboardInterrupt):
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    with pytest.raises(KeyboardInterrupt):
        Interrupt()(signal.SIGTERM, None)


def test_a_full_disk_is_a_sentence_wherever_it_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")

    assert exit_code_of(action) == 1
    assert capsys.readouterr().err == (
        "Error: /tmp/x: the disk takes no more, No space left on device\n"
    )


def test_a_bug_keeps_its_traceback() -> None:
    def action() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exit_code_of(action)


def program(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "runs", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
def test_a_terminal_that_knows_no_utf_8_shows_escapes(tmp_path: Path) -> None:
    path = write_space(
        tmp_path / "s.yaml",
        "name: Große\ninput: {channels: 1, size: 8}\n"
        "stages:\n  - {depth: 1, width: 4, kernel: 3}\n",
    )
    done = program("space", path, PYTHONIOENCODING="iso8859-5")
    assert done.stderr == b""
    assert done.returncode == 0
    assert done.stdout.startswith(b"Gro\\xdfe: input 8x8x1")


def test_a_reader_who_leaves_ends_a_page_without_a_traceback() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "runs", "search", "--help"],
        cwd=ROOT,
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(theirs)
    assert done.stderr == b""
    assert done.returncode in (0, 1, -signal.SIGPIPE)
