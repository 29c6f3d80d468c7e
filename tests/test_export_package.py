"""A network of a run as a package: whole or not at all, its words and numbers, its own check."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from builders import inference_network
from builders.native import NoCompiler, compiled
from evaluators.scores import evaluate
from runs import session
from runs.backends import user_cache
from runs.export import package, training_on
from runs.export.chosen import Chosen, choose, kept_network
from runs.export.onnx_file import onnx_model
from runs.export.package import Exported, checked, export_network
from runs.history import History
from runs.plan import Plan, load_plan
from runs.records import read_events
from search_space.errors import RunError, WorkFailed
from tests.micro import Inputs

pytest_plugins = ["tests.micro_fixtures"]

ROOT = Path(__file__).parents[1]
FILES = {
    *("model.py", "weights.safetensors", "model.onnx", "architecture.yaml", "classes.json"),
    *("example.safetensors", "check.py", "README.md", "LICENSE"),
}
Say = Callable[..., tuple[int, str, str]]


def chosen_of(run: Path, word: str = "best") -> tuple[Plan, History, Chosen]:
    plan, history = load_plan(run), History(read_events(run))
    return plan, history, choose(run, plan, history, word)


@pytest.fixture(scope="module")
def best(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The recommended network of the micro run."""
    return export_network(
        finished, "best", tmp_path_factory.mktemp("packages") / "new" / "best", quiet=True
    )


def test_package_holds_what_it_says_and_nothing_else(best: Exported) -> None:
    assert {path.name for path in best.path.iterdir()} == FILES
    assert [path.name for path in best.path.parent.iterdir()] == ["best"]
    named = re.findall(r"^\| `([^`]+)` \|", (best.path / "README.md").read_text("utf-8"), re.M)
    assert set(named) == FILES - {"README.md"}
    classes = json.loads((best.path / "classes.json").read_text("utf-8"))
    assert len(classes) == 4


def test_all_forms_agree(best: Exported) -> None:
    found = checked(best.path)
    assert len(found) == 6
    assert all(worst <= 1e-5 for _, worst in found)
    assert best.onnx_difference <= 1e-5
    assert f"{best.onnx_difference:.1e}" in (best.path / "README.md").read_text("utf-8")
    assert any(f"{best.onnx_difference:.1e}" in line for line in best.lines)


def test_weights_are_the_longest_trained_and_the_readme_says_how_long(
    finished: Path, best: Exported
) -> None:
    plan, history, chosen = chosen_of(finished)
    assert chosen.weights is not None
    assert chosen.weights.path.name == f"final-{best.id}.safetensors"
    for name, value in load_file(chosen.weights.path).items():
        assert torch.equal(load_file(best.path / "weights.safetensors")[name], value)
    text = (best.path / "README.md").read_text("utf-8")
    more = history.final["finaltrained"]["epochs"]
    assert f"1 epoch as trial {chosen.trial.number} of the search, and {more:g} epochs" in text
    assert plan.data.sha256[:12] in text


def test_numbers_are_those_of_the_weights_in_the_package(finished: Path, best: Exported) -> None:
    plan, _, chosen = chosen_of(finished)
    data = plan.data.load()
    merged = inference_network(kept_network(chosen, data.num_classes))
    text = (best.path / "README.md").read_text("utf-8")
    for split in ("validation", "test"):
        scores = evaluate(merged, data, "val" if split == "validation" else "test")
        assert f"| {split} accuracy | {scores.accuracy:.1%} | 40 images" in text
    assert f"| parameters | {chosen.trial.result['params']:,} |" in text
    assert f"| multiply-adds | {chosen.trial.result['macs']:,} |" in text
    assert f"| latency | {chosen.trial.result['latency_ms']:.3f} ms" in text


def test_snippets_of_the_readme_run(
    best: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (best.path / "README.md").read_text("utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    monkeypatch.chdir(best.path)
    monkeypatch.syspath_prepend(str(best.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names: dict[str, Any] = {}
    exec(code, names)
    sys.modules.pop("model")
    classes = json.loads((best.path / "classes.json").read_text("utf-8"))
    assert capsys.readouterr().out.strip() == str(
        [classes[int(number)] for number in np.argmax(names["logits"], axis=1)]
    )


def test_check_fails_where_a_weight_is_another(best: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(best.path, tmp_path / "copy"))
    weights = load_file(copy / "weights.safetensors")
    name = next(name for name in weights if name.endswith("classify.bias"))
    weights[name] = weights[name] + 0.01
    save_file(weights, copy / "weights.safetensors")
    with pytest.raises(WorkFailed, match=r"forms of the network must agree .* report it"):
        checked(copy)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(copy / "check.py"), run_name="__main__")
    assert ended.value.code == 1


def test_check_knows_only_the_folder_and_four_packages(best: Exported) -> None:
    imports = set(re.findall(r"^(?:import|from) (\w+)", (best.path / "check.py").read_text(), re.M))
    assert imports <= {
        "importlib",
        "sys",
        "pathlib",
        "numpy",
        "onnxruntime",
        "safetensors",
        "torch",
    }
    for name in FILES - {"example.safetensors", "model.onnx", "weights.safetensors"}:
        assert str(ROOT) not in (best.path / name).read_text("utf-8")


def test_any_beginning_of_an_id_will_do(finished: Path) -> None:
    _, history, chosen = chosen_of(finished)
    ids = list(history.networks)
    shortest = next(n for n in range(1, 13) if sum(i.startswith(ids[0][:n]) for i in ids) == 1)
    assert chosen_of(finished, ids[0][:shortest])[2].id == ids[0]
    assert chosen_of(finished, ids[0])[2].id == ids[0]
    assert chosen.id in ids
    other = next(i for i in ids if i != chosen.id)
    weights = chosen_of(finished, other)[2].weights
    assert weights is not None
    assert weights.path.name == f"{history.networks[other][0].number}.safetensors"
    assert not weights.final


def test_names_that_mean_no_network_or_several_are_refused(finished: Path) -> None:
    _, history, chosen = chosen_of(finished)
    wrong = chosen.id[:-1] + ("0" if chosen.id[-1] != "0" else "1")
    with pytest.raises(RunError, match=rf"ID: must be .*; the nearest is {chosen.id}; .*front.csv"):
        chosen_of(finished, wrong)
    with pytest.raises(RunError, match=r"must be a network of .*, got ''"):
        chosen_of(finished, "")
    firsts = [network_id[0] for network_id in history.networks]
    several = [letter for letter in firsts if firsts.count(letter) > 1]
    if several:
        with pytest.raises(RunError, match=r"must be the beginning of one id, .* begins [2-6]: "):
            chosen_of(finished, several[0])


def test_mistakes_of_the_command_line_end_with_2(run: Path, tmp_path: Path, say: Say) -> None:
    there = tmp_path / "there"
    there.mkdir()
    cases = {
        (run, "best", "--to", there): "--to: must be a folder that is not there yet",
        (run, "best"): "--to: must name a folder",
        (run,): "export: must be told what to write",
        (run, "zzzz", "--to", tmp_path / "a"): "ID: must be a network of",
        (run, "best", "--to", tmp_path / "a", "--train-epochs", "0"): "--train-epochs: must be a",
        (run, "best", "--to", tmp_path / "a", "--train-epochs", "inf"): "--train-epochs: must be",
        (run, "best", "--to", tmp_path / "a", "--device", "tpu"): "--device: must be auto",
        (run, "best", "--to", tmp_path / "a", "--optuna", "journal"): "--optuna: must stand",
        (tmp_path / "no", "best", "--to", tmp_path / "a"): "must be the directory of a run",
        (run, "best", "--to", run / "run.yaml" / "a"): "--to: the package must be written to",
    }
    for words, expected in cases.items():
        code, out, err = say("export", *words)
        assert (code, out) == (2, ""), words
        assert expected in err
    assert not (tmp_path / "a").exists()
    assert list(there.iterdir()) == []


def test_without_weights_it_says_what_to_do(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "weights")
    with pytest.raises(RunError, match=r"must have weights in .*; add --train-epochs N, which"):
        export_network(run, "best", tmp_path / "a", quiet=True)
    assert not (tmp_path / "a").exists()


def test_a_damaged_record_is_exported_as_far_as_it_is_sound(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = run / "trials.jsonl"
    record.write_bytes(record.read_bytes()[:-7])
    (run / "run.yaml").unlink()
    found = export_network(run, "best", tmp_path / "a", quiet=True)
    assert found.onnx_difference < 1e-5
    assert "torn end" in caplog.text


def test_damaged_weights_are_told(run: Path, tmp_path: Path) -> None:
    _, _, chosen = chosen_of(run)
    assert chosen.weights is not None
    chosen.weights.path.write_bytes(b"nothing")
    with pytest.raises(RunError, match=rf"{chosen.id} as the run wrote them, got SafetensorError"):
        export_network(run, "best", tmp_path / "a", quiet=True)


def test_an_export_that_breaks_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(package, "readme", broken)
    with pytest.raises(KeyboardInterrupt):
        export_network(run, "best", tmp_path / "deep" / "a", quiet=True)
    assert list((tmp_path / "deep").iterdir()) == []


def test_trained_on_with_the_full_recipe(run: Path, tmp_path: Path, say: Say) -> None:
    _, history, chosen = chosen_of(run)
    other = next(i for i in history.networks if i != chosen.id)
    to = tmp_path / "a"
    code, out, err = say("export", run, other, "--to", to, "--train-epochs", "2")
    assert code == 0
    assert "training" in err
    assert "step 6/6" in err
    text = (to / "README.md").read_text("utf-8")
    assert "2 epochs more followed. Validation accuracy was " in text
    assert "3 epochs is a short training" in text
    assert "before this training" in out
    for name in ("mixup", "cutmix", "random erasing", "RandAugment", "drop path", "moving average"):
        assert f"| {name} | " in text
    kept = load_file(chosen_of(run, other)[2].weights.path)  # type: ignore[union-attr]
    exported = load_file(to / "weights.safetensors")
    assert any(not torch.equal(kept[name], exported[name]) for name in kept)
    assert not (run / "exports").exists()


def test_what_a_compiled_training_gave_is_traced_without_it(run: Path) -> None:
    plan, _, chosen = chosen_of(run)
    try:
        library = compiled(user_cache()).name
    except NoCompiler:
        pytest.skip("needs a C compiler")
    facts = {"backends": {"rest": "native", "other": {}, "library": library}}
    native = replace(plan, facts=plan.facts | facts)
    assert training_on._backends(native, "cpu", print).rest == "native"
    network, _, _ = training_on.trained_on(
        run,
        native,
        chosen,
        plan.data.load(),
        epochs=1,
        device="cpu",
        report=lambda **_: None,
        note=lambda _: None,
    )
    # A warning of the tracer is an error here.
    model = onnx_model(inference_network(network), torch.randn(2, 1, 12, 12))
    assert len(model) > 1000


def test_from_scratch_where_no_weights_are_kept(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "weights")
    found = export_network(run, "best", tmp_path / "a", train_epochs=1, quiet=True)
    text = (found.path / "README.md").read_text("utf-8")
    assert "trained from scratch on" in text
    assert "before it and is" not in text


def test_a_training_that_is_ended_goes_on_with_the_same_command(
    run: Path,
) -> None:
    plan, _, chosen = chosen_of(run)
    data = plan.data.load()
    given: dict[str, Any] = {"epochs": 3, "device": "cpu", "note": print, "keep_s": 0}
    steps: list[int] = []

    def no_step(**_: Any) -> None:
        raise AssertionError("nothing was left to train")

    def report(*, step: int, **_: Any) -> None:
        steps.append(step)
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="The same command goes on"):
        training_on.trained_on(run, plan, chosen, data, report=report, **given)
    (state,) = (run / "exports").iterdir()
    assert state.name.startswith(f"{chosen.id}-3-epochs-")
    steps.clear()
    network, _, _ = training_on.trained_on(
        run, plan, chosen, data, report=lambda step, **_: steps.append(step), **given
    )
    assert steps[0] == 5
    # The package may still break: what is trained stays.
    again, _, left = training_on.trained_on(run, plan, chosen, data, report=no_step, **given)
    assert left == state
    training_on.forget(left)
    assert not (run / "exports").exists()
    whole, _, _ = training_on.trained_on(run, plan, chosen, data, report=lambda **_: None, **given)
    for same in (network, again):
        for one, other in zip(same.parameters(), whole.parameters(), strict=True):
            assert torch.equal(one, other)


def test_a_training_that_diverges_ends_with_1(run: Path) -> None:
    plan, _, chosen = chosen_of(run)
    wild = replace(plan, recipe=replace(plan.recipe, lr=1e30))
    with pytest.raises(WorkFailed, match=r"the loss must stay finite, it did not .*; export"):
        training_on.trained_on(
            run,
            wild,
            replace(chosen, weights=None),
            plan.data.load(),
            epochs=2,
            device="cpu",
            report=lambda **_: None,
            note=lambda _: None,
        )
    assert not (run / "exports").exists()


# Every family, and masks, in a fresh environment.

SPACE = """\
name: micro <b>|`_
block: {block}
stem: {{stride: 2}}
stages:
  - {{depth: 2, width: 6, kernel: 7, placement: LS}}
  - {{depth: 1, width: 8, kernel: 5}}
every_stage: {{ffn_ratio: 2}}
"""
CASES = {
    "unireplknet": "shared: {structure: se}\n",
    "replknet": "",
    "slak": "weights_sparsity: 0.4\n",
    "convnext": "",
}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of a new virtual environment that holds what check.py needs and no more."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    python = home / "bin" / "python"
    packages = [f"torch=={torch.__version__.split('+')[0]}", "safetensors", "onnxruntime"]
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"pip cannot install {packages} here: {done.stderr.strip().splitlines()[-1]}")
    return python


def dense_data(path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        masks = np.zeros((24, 16, 16), dtype=np.uint8)
        for mask in masks:
            top, left = rng.integers(0, 9, 2)
            mask[top : top + 7, left : left + 7] = rng.integers(1, 3)
        noisy = 90 * masks + rng.normal(30, 10, masks.shape)
        arrays[f"{split}_images"] = noisy.clip(0, 255).astype(np.uint8)
        arrays[f"{split}_masks"] = masks
    np.savez(path, **arrays)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("block", CASES)
def test_check_passes_in_a_fresh_environment(
    block: str, task: str, inputs: Inputs, fresh: Path, tmp_path: Path
) -> None:
    text = SPACE.format(block=block) + CASES[block]
    dense = task == "segmentation"
    if dense:
        inputs = Inputs(space=inputs.space, data=dense_data(tmp_path / "dense.npz"))
    plan, images = inputs.planned(
        text=text, budget=1, task=task, objectives=("miou" if dense else "accuracy", "macs")
    )
    session.begin(plan, images, tmp_path / "run", session.Manner(quiet=True))
    for name, epochs in (("kept", None), ("on", 2)):
        found = export_network(
            tmp_path / "run", "best", tmp_path / name, train_epochs=epochs, quiet=True
        )
        done = subprocess.run(
            # -I: nothing of this project on the path.
            [fresh, "-I", found.path / "check.py"],
            cwd="/",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("  ok") == 6
        assert {path.name for path in found.path.iterdir()} == FILES
        if block == "slak":
            weights = load_file(found.path / "weights.safetensors")
            assert sum(int((value == 0).sum()) for value in weights.values()) > 100
    code = "import importlib.util as u, sys; sys.exit(u.find_spec('runs') is not None)"
    assert subprocess.run([fresh, "-I", "-c", code], cwd="/").returncode == 0


@pytest.mark.slow
def test_a_killed_export_goes_on_and_leaves_nothing_that_looks_finished(
    run: Path, tmp_path: Path
) -> None:
    to = tmp_path / "a"
    words = [sys.executable, "-m", "runs", "export", run, "best", "--to", to]
    words += ["--train-epochs", "20000"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(600):
            if (run / "exports").exists() and any((run / "exports").glob("*.pt")):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command goes on" in err
    assert not to.exists()
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "where it was ended" in process.stderr.readline()
        process.kill()
    assert not to.exists()
