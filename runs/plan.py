"""Everything that is needed to repeat a run, as run.yaml keeps it; written once, never changed."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from builders.backends import AUTO, Backends
from evaluators.passes import Backend, default_backend, missing_onnxruntime
from evaluators.recipe import Recipe
from runs.images import DataSource
from runs.masking import masked
from runs.records import RECORD_NAME, Records, write_atomic
from search_space.architecture import Architecture
from search_space.errors import ReplkError, RunError, shown
from search_space.space import DesignSpace
from search_space.yaml_io import parse_space

PLAN_NAME = "run.yaml"
PACKAGES = (
    *("torch", "onnxruntime", "numpy", "optuna", "scikit-learn", "ray", "fvcore"),
    "replk-search",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a search was asked to do."""

    budget: int = 200
    """Full-length trainings."""
    seed: int = 0
    workers: int = 1
    """Trials at a time."""
    device: str = "cpu"
    """cpu or cuda; trial slots take the GPUs in turn."""
    objectives: tuple[str, ...] = ("accuracy", "latency")
    sampler: str = "tpe"
    warm_start: str = "anchors"
    """What is trained first: anchors, published or none."""
    latency_batch: int = 1
    latency_backend: Backend = "torch"
    """onnxruntime or torch; runs from before there was a choice used torch."""
    keep_weights: str = "front"
    """front, all or none."""
    backend: str = "auto"
    """What computes the depthwise sums of a training: auto (what a probe found to be the fastest
    for each shape), native, torch or reference."""
    task: str = "classification"
    """classification or segmentation."""
    noise: int = 0
    """Trainings for the noise floor: two networks, several seeds each."""
    evidence: int = 0
    """Trainings for blocks of the guideline study."""
    confirm: int = 0
    """Trainings at the end on fresh seeds: the leaders, then the champion and its runner-up."""
    study_alone: bool = False
    """Whether nothing of the budget is searched with."""
    fidelity: str = "full"
    """full, or halving: short trainings first, the better ones go on."""
    halving_factor: int = 3
    """Each rung of halving is so many times as long as the one below; one in so many goes on."""
    time_s: float | None = None
    """Wall time that the budget was made from, and after which no training begins."""
    gpus_per_trial: float = 1.0
    rule: str = "fixed"
    """When the study may decide: fixed (at its end) or obrien_fleming (looks on the way)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A run as it was planned."""

    space: DesignSpace
    """Bound to the images."""
    settings: Settings
    recipe: Recipe
    data: DataSource
    facts: dict[str, Any]
    """What was found when the run began: data, device, versions, command, git commit, and the
    backends that were chosen."""
    backends: Backends = AUTO
    """Those of the facts with the library's file on this machine; see `runs.backends`. Not
    written."""

    @property
    def num_classes(self) -> int:
        """Classes of the data."""
        return len(self.facts["data"]["classes"])

    @property
    def reference(self) -> Architecture:
        """The network that is measured beside every other: the middle of the space."""
        return Architecture.from_json(self.facts["reference"])

    def document(self) -> dict[str, Any]:
        """Give the content of run.yaml."""
        size, channels = self.space.size, self.space.channels
        assert size is not None
        return {
            "name": self.space.name,
            "settings": {
                k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.settings).items()
            },
            "recipe": asdict(self.recipe),
            "data_source": self.data.fields(),
            "input": {"channels": channels, "size": list(size)},
            "facts": self.facts,
            "space": dict(self.space.document),
        }

    def write(self, directory: Path) -> None:
        """Write run.yaml.

        Raises:
            RunError: the directory cannot be written.
        """
        restore_plan(self.document(), directory)


def restore_plan(document: dict[str, Any], directory: Path) -> None:
    """Write run.yaml from the copy in the record's header.

    Raises:
        RunError: the directory cannot be written.
    """
    # Lists and small mappings on one line, as people write spaces.
    text = yaml.safe_dump(
        document, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
    )
    write_atomic(directory / PLAN_NAME, text)


def load_plan(directory: Path) -> Plan:
    """Read run.yaml.

    Raises:
        RunError: it is not there, or is none of ours.
    """
    path = directory / PLAN_NAME
    try:
        return plan_of(yaml.safe_load(path.read_text(encoding="utf-8")), name=f"{path} (space)")
    except OSError as error:
        raise RunError(
            f"{path}: must be a file that can be read, {error.strerror}; "
            f"is {directory} the directory of a run?"
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, ReplkError) as error:
        said = " ".join(str(error).split())
        raise RunError(
            f"{path}: must be as the search wrote it, got {type(error).__name__}: {said}; "
            "delete it and resume the run: its record holds a copy"
        ) from error


def plan_of(document: dict[str, Any], *, name: str) -> Plan:
    """Give the plan that a run.yaml or the header of a record says.

    Keys that came later have the default that stands for what the program did before.

    Args:
        document: as `Plan.document` gives it.
        name: what errors about its space call it.
    """
    settings = document["settings"]
    image, written = document["input"], document["space"]
    space = parse_space(yaml.safe_dump(written), name=name)
    # A space without a name was called after its file.
    space = replace(space, name=document["name"], document=written)
    return Plan(
        space=space.bound(size=tuple(image["size"]), channels=image["channels"]),
        settings=Settings(**{**settings, "objectives": tuple(settings["objectives"])}),
        recipe=Recipe(**document["recipe"]),
        data=DataSource.from_fields(document["data_source"]),
        facts=document["facts"],
    )


def unchanged_plan(records: Records) -> Plan:
    """Give the plan of an open run; its file is restored where it is gone.

    Raises:
        RunError: it was changed since the run began, or cannot be read.
    """
    directory, header = records.directory, records.header
    if header is not None and not (directory / PLAN_NAME).exists():
        restore_plan(header["plan"], directory)
    return recorded_plan(directory, header)


def recorded_plan(directory: Path, header: Mapping[str, Any] | None) -> Plan:
    """Read run.yaml, which must be as the header of the run's record has it.

    Raises:
        RunError: it was changed since the run began, or cannot be read.
    """
    plan = load_plan(directory)
    if header is None:
        return plan
    # As this version would write what the record holds.
    if plan_of(header["plan"], name=RECORD_NAME).document() != plan.document():
        raise RunError(
            f"{directory / PLAN_NAME}: must stay as the search wrote it, it was changed; "
            "start a new run for other settings, or delete the file to have it restored"
        )
    return plan


def environment(arguments: list[str]) -> dict[str, Any]:
    """Give what a reader needs to repeat a run: versions, commit, machine, command."""
    return {
        "command": shlex.join(["replk-search", *map(masked, arguments)]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git_commit": git_commit(),
    }


def resolved_device(device: str) -> str:
    """Give cpu, cuda (all GPUs, one a trial) or cuda:N for what the user asked for.

    Raises:
        RunError: there is no such device.
    """
    count = torch.cuda.device_count()
    if device == "auto":
        return "cuda" if count else "cpu"
    found = re.fullmatch(r"cpu|cuda(?::([0-9]{1,4}))?", device)
    if found is None:
        raise RunError(f"--device: must be auto, cpu, cuda or cuda:N, got {shown(device)}")
    if device != "cpu" and int(found[1] or 0) >= count:
        raise RunError(
            f"--device: must be a GPU of this machine, got {device!r}, torch sees {count}; "
            "use cpu, or install torch's CUDA build"
        )
    return device


def resolved_backend(backend: Backend | None, device: str) -> Backend:
    """Give what runs networks while their latency is measured on a resolved device.

    Raises:
        RunError: ONNX Runtime is asked for on a GPU, or cannot be imported.
    """
    if backend != "onnxruntime":
        return backend or default_backend(device)
    if device != "cpu":
        raise RunError(
            f"--latency-backend: must be torch on a GPU, got 'onnxruntime' with --device {device}; "
            "leave it out: networks are then timed by the GPU's own clock, as CUDA graphs"
        )
    if reason := missing_onnxruntime():
        raise RunError(
            f"--latency-backend: onnxruntime must be installed, got: {reason}; run "
            "'pip install onnxruntime onnx', or use --latency-backend torch"
        )
    return backend


def default_workers(device: str) -> int:
    """Give the number of trials at a time that is fastest: one a CPU core, or one a GPU.

    Two trainings of one thread each beat one of two threads by 1.2 to 1.6 (torch 2.13, 2 cores).
    """
    if device != "cpu":
        return max(1, torch.cuda.device_count()) if device == "cuda" else 1
    if sys.platform == "linux":
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def git_commit() -> str | None:
    """Give the commit of the code that runs, `+` where it was changed; None outside a clone."""
    home = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=home, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        # A site-packages inside somebody else's clone is not our commit.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
