"""A network of a run as a stand-alone package: written whole, or not at all."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from builders import inference_network
from evaluators.batches import Normaliser
from evaluators.full_recipe import FullRecipe
from evaluators.images import ImageData
from evaluators.scores import Scores, evaluate
from runs.export.chosen import Chosen, choose, kept_network
from runs.export.onnx_file import BATCHES, onnx_difference, onnx_model
from runs.export.progress import TrainingBar
from runs.export.readme import Told, lines, readme
from runs.export.source import model_source
from runs.export.training_on import forget, trained_on
from runs.latencies import first_device
from runs.plan import Plan, resolved_device
from runs.salvage import salvaged
from search_space.errors import RunError, WorkFailed
from search_space.yaml_io import dump_architecture

logger = logging.getLogger(__name__)

MOST = 1e-4
"""Greatest difference between two forms, over the greatest logit; check.py has the same."""
EXAMPLES = max(BATCHES)
"""Validation images in example.safetensors."""
TEXTS = {"check.py": "check.py.txt", "LICENSE": "LICENSE.txt"}
"""Files of a package with the texts that they are copied from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A package that was written."""

    path: Path
    id: str
    onnx_difference: float
    """Greatest one from torch on batches of 1, 2 and 7 images, over the greatest logit."""
    lines: tuple[str, ...]
    """What to tell the person who asked for it."""


def export_network(
    run: Path,
    network_id: str,
    to: Path,
    *,
    train_epochs: float | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Exported:
    """Write one network of a run as a folder that needs only torch, safetensors and onnxruntime.

    The folder appears under its name once everything in it is written and was checked.

    Args:
        run: directory of the run.
        network_id: an id, the beginning of one, or `best`.
        to: folder that is not there yet.
        train_epochs: length of a training with the full recipe before the export; None exports
            the longest-trained weights that the run kept.
        device: where to train and to score: auto, cpu, cuda or cuda:N.
        quiet: whether nothing is shown meanwhile.

    Raises:
        RunError: `to` is there, there is no such network or device, or no weights were kept.
        DataError: the images of the run are not there any more.
        WorkFailed: the training diverged, or a form of the network differs from another.
    """
    if os.path.lexists(to):
        raise RunError(
            f"--to: must be a folder that is not there yet, got {to}; "
            "give another name, or remove that one"
        )
    found = salvaged(run)
    for sentence in found.missing:
        logger.warning("%s: %s", run, sentence)
    plan = found.plan
    chosen = choose(run, plan, found.history, network_id)
    if chosen.weights is None and train_epochs is None:
        raise RunError(
            f"{chosen.id}: must have weights in {run / 'weights'}, got none ({_why(run, plan)}); "
            "add --train-epochs N, which trains it from scratch, or run with --keep-weights all"
        )
    where = first_device(resolved_device(device))
    data = plan.data.load()
    # A training of hours must not end at a folder that cannot be written.
    with _drafted(to):
        pass
    with TrainingBar(quiet=quiet) as bar:
        recipe: FullRecipe | None = None
        state: Path | None = None
        if train_epochs is None:
            network = kept_network(chosen, data.num_classes)
        else:
            network, recipe, state = trained_on(
                run,
                plan,
                chosen,
                data,
                epochs=train_epochs,
                device=where,
                report=bar.report,
                note=bar.note,
            )
        bar.note("scoring it on the validation and the test images, and writing the package")
        merged = inference_network(network)
        val, test = (evaluate(merged, data, split, device=where) for split in ("val", "test"))
        if not math.isfinite(val.loss):
            raise WorkFailed(
                f"{chosen.id}: its logits must be finite, they are not on the validation images; "
                "export another network of the front, or train it from other weights"
            )
        before = None
        if recipe is not None and chosen.weights is not None:
            start = inference_network(kept_network(chosen, data.num_classes))
            before = evaluate(start, data, device=where)
        package = _Package(plan, chosen, data, network, merged.cpu())
        exported = package.write(to, recipe=recipe, val=val, test=test, before=before)
    if state is not None:
        forget(state)
    return exported


@dataclass(frozen=True, slots=True)
class _Package:
    """What is written, and from what."""

    plan: Plan
    chosen: Chosen
    data: ImageData
    network: nn.Module
    merged: nn.Module

    def write(
        self,
        to: Path,
        *,
        recipe: FullRecipe | None,
        val: Scores,
        test: Scores,
        before: Scores | None,
    ) -> Exported:
        """Write every file, check them, and give the folder its name."""
        example = _example(self.network, self.data)
        model = onnx_model(self.merged, example["images"])
        onnx = onnx_difference(model, self.merged, example["images"])
        state = self.network.state_dict()
        with _appearing(to) as folder:
            mean, std = self.data.mean_std
            source = model_source(
                self.chosen.architecture,
                self.data.num_classes,
                title=f"Network {self.chosen.id} of the search space {self.plan.space.name}.",
                mean=mean,
                std=std,
            )
            _write(folder / "model.py", source)
            weights = {name: value.contiguous() for name, value in state.items()}
            # safetensors' own files could be read by nobody else.
            (folder / "weights.safetensors").write_bytes(save(weights))
            (folder / "example.safetensors").write_bytes(save(example))
            (folder / "model.onnx").write_bytes(model)
            name = self.chosen.id
            text = dump_architecture(self.chosen.architecture, name=name)
            _write(folder / "architecture.yaml", text)
            classes = json.dumps(self.data.classes, ensure_ascii=False, indent=1)
            _write(folder / "classes.json", classes + "\n")
            for file, text in TEXTS.items():
                _write(folder / file, _text(text))
            differences = checked(folder)
            told = Told(
                plan=self.plan,
                chosen=self.chosen,
                data=self.data,
                recipe=recipe,
                val=val,
                test=test,
                before=before,
                differences=differences,
                onnx_difference=onnx,
            )
            _write(folder / "README.md", readme(told))
        return Exported(path=to, id=name, onnx_difference=onnx, lines=lines(told, to))


def checked(folder: Path) -> list[tuple[str, float]]:
    """Run the check of a package in this process.

    Raises:
        WorkFailed: two forms of the network differ.
    """
    module = _module(folder / "check.py")
    found: list[tuple[str, float]] = module.differences()
    if wrong := [f"{words}: {worst:.1e}" for words, worst in found if not worst <= MOST]:
        raise WorkFailed(
            f"the package: all forms of the network must agree to {MOST:g} of the greatest logit, "
            f"got {'; '.join(wrong)}; this is a bug: report it"
        )
    return found


def _module(path: Path) -> ModuleType:
    """Import a file, leaving no compiled code beside it."""
    spec = importlib.util.spec_from_file_location(f"exported_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def _example(network: nn.Module, data: ImageData) -> dict[str, Tensor]:
    """Give some validation images as bytes and normalised, with their labels and logits.

    Returns:
        `pixels` (B, C, H, W) uint8, `images` float32, `labels` as the data have them, and
        `logits`, those that the search's own network gives; of a dense head one reading.
    """
    chosen = np.arange(EXAMPLES) % len(data.val)
    pixels_BHWC = torch.from_numpy(data.val.images[chosen])
    images = Normaliser(data, torch.device("cpu"))(pixels_BHWC).contiguous()
    with torch.inference_mode():
        logits = network.eval()(images)
    logits = logits[:, 0] if logits.dim() == 5 else logits
    return {
        "pixels": pixels_BHWC.permute(0, 3, 1, 2).contiguous(),
        "images": images,
        "labels": torch.from_numpy(data.val.labels[chosen]),
        "logits": logits.contiguous(),
    }


@contextlib.contextmanager
def _drafted(to: Path) -> Iterator[Path]:
    """Give a folder beside `to` for the time of a block.

    Raises:
        RunError: it cannot be made, or something in the block cannot be written.
    """
    draft = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield draft
    except OSError as error:
        raise RunError(
            f"--to: the package must be written to {to}, {error.strerror or error}; "
            "make room there, or name a folder that can be made"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def _appearing(to: Path) -> Iterator[Path]:
    """Give a folder that takes the name `to` at the end of the block, or goes.

    Raises:
        RunError: it cannot be written.
    """
    with _drafted(to) as draft:
        yield draft
        for path in draft.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        draft.rename(to)


def _text(name: str) -> str:
    """Read one of the texts that every package holds as they are."""
    return files("runs.export").joinpath("texts", name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _why(run: Path, plan: Plan) -> str:
    """Say why a network of a run has no weights there."""
    if not (run / "weights").is_dir():
        return "the folder is gone; put it back where it was moved"
    return (
        f"the run was made with --keep-weights {plan.settings.keep_weights}, "
        "or its training did not end"
    )
