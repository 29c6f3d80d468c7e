"""What options of several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypedDict

import click

SAMPLER_NAMES = ("tpe", "random", "nsgaii")
SPARSITY_NAMES = ("snip", "erk", "uniform")
WARM_START_NAMES = ("anchors", "published", "none")
FIDELITY_NAMES = ("full", "halving")
RULE_NAMES = ("fixed", "obrien_fleming")
OBJECTIVE_HELP = (
    "accuracy, miou, val_loss, latency, macs, params; the first one ranks.  "
    "[default: accuracy,latency; on a dense task miou,latency]"
)


def size_option(
    _context: click.Context, _option: click.Parameter, given: str | None
) -> tuple[int, int] | None:
    """Read `32` or `24x32` as height and width."""
    if given is None:
        return None
    sides = given.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() and 0 < int(side) <= 8192 for side in sides):
        raise click.BadParameter(
            f"must be one side or HEIGHTxWIDTH in pixels, got {given!r}; for example 32 or 24x32"
        )
    return int(sides[0]), int(sides[-1])


RAY = click.option(
    "--ray",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Train on a Ray cluster: auto, HOST:PORT, or without an address a Ray of this machine.",
)
OPTUNA_STORAGE = click.option(
    "--optuna-storage",
    metavar="URL",
    help="Show the run to optuna-dashboard while it goes on: sqlite:///FILE, another database, or "
    "the path of a journal file.",
)
TENSORBOARD = click.option(
    "--tensorboard",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Log the run to TensorBoard while it goes on, in a folder of its own in DIR.",
)
MLFLOW = click.option(
    "--mlflow",
    metavar="URI",
    help="Log the run to MLflow while it goes on: http://HOST:PORT or another tracking URI, or a "
    "path: FILE.db, or a folder that gets mlflow.db.",
)
GPUS_PER_TRIAL = click.option(
    "--gpus-per-trial",
    type=click.FloatRange(min=0, min_open=True, max=1),
    default=1.0,
    show_default=True,
    help="Part of a GPU that a training gets; 0.5 trains two on each.",
)
DATA = click.option(
    "--data",
    help="cifar10, cifar100, fashionmnist, scenes, mri, a folder (one folder of images a class, or "
    "images/ and masks/), or an .npz file.  [default: the shipped part of Fashion-MNIST, or for "
    "segmentation scenes composed of it]",
)
TASK = click.option(
    "--task",
    type=click.Choice(["classification", "segmentation"]),
    help="What the networks do; segmentation needs masks.  [default: what the data are for]",
)
DATA_ROOT = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Where torchvision's sets are kept and downloaded to, and where the files of mri are "
    "looked for first.",
)
SEED = click.option(
    "--seed", type=click.IntRange(min=0, max=2**32 - 1), default=0, show_default=True
)
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)
LATENCY_BATCH = click.option(
    "--latency-batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Images of a measured batch.",
)
LATENCY_BACKEND = click.option(
    "--latency-backend",
    type=click.Choice(["onnxruntime", "torch"]),
    help="What runs the network while it is timed.  "
    "[default: onnxruntime on a CPU where it is installed, else torch]",
)
BACKEND_HELP = (
    "What computes depthwise convolutions in training: native is compiled once, torch needs no "
    "compiler, reference is torch's plain operators."
)
BACKEND = click.option(
    "--backend",
    type=click.Choice(["auto", "native", "torch", "reference"]),
    default="auto",
    show_default=True,
    help=f"{BACKEND_HELP} auto probes which is the fastest for each shape.",
)
RESUME_BACKEND = click.option(
    "--backend",
    type=click.Choice(["native", "torch", "reference"]),
    help=f"{BACKEND_HELP}  [default: as the run began; another rounds otherwise]",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
QUIET = click.option("--quiet", is_flag=True, help="Print the results only.")


def _names(_context: click.Context, _option: click.Parameter, given: str | None) -> tuple[str, ...]:
    """Read `accuracy,latency`; () where the option is left out."""
    names = tuple(name.strip() for name in (given or "").split(",") if name.strip())
    if given is not None and not names:
        raise click.BadParameter(
            f"must name at least one, got {given!r}; for example accuracy,latency"
        )
    return names


def time_option(
    _context: click.Context, _option: click.Parameter, given: str | None
) -> float | None:
    """Read `2h`, `45m`, `90s` or `1h30m` as seconds."""
    if given is None:
        return None
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", given.strip().lower())
    hours, minutes, seconds = (int(part or 0) for part in (found.groups() if found else ("",) * 3))
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise click.BadParameter(
            f"must be a time with its unit, got {given!r}; for example 90s, 45m, 2h or 1h30m"
        )
    return float(total)


SEARCH_OPTIONS = (
    click.option(
        "--budget",
        type=click.IntRange(min=1),
        help="Trainings of full length.  [default: 200]",
    ),
    click.option(
        "--time",
        "time_s",
        callback=time_option,
        metavar="2h",
        help="Wall time instead of a budget, such as 90s, 45m, 2h or 1h30m.",
    ),
    click.option(
        "--space",
        default="default",
        show_default=True,
        help="YAML file or shipped name of the design space.",
    ),
    DATA,
    TASK,
    DATA_ROOT,
    click.option(
        "--resize",
        callback=size_option,
        metavar="HxW",
        help="Resize all images; otherwise they are never resized.",
    ),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Run directory.  [default: results/<space>-<time>]",
    ),
    SEED,
    click.option(
        "--workers",
        type=click.IntRange(min=1, max=256),
        help="Trials at a time.  [default: one a core, or one a GPU]",
    ),
    DEVICE,
    click.option(
        "--objectives",
        callback=_names,
        help=OBJECTIVE_HELP,
    ),
    click.option(
        "--evidence",
        type=click.IntRange(min=0),
        help="Trainings that test the guidelines, in blocks of 8.  "
        "[default: 48 % of the budget, from 100 on; of 'guidelines' what the others leave]",
    ),
    click.option(
        "--confirm",
        type=click.IntRange(min=0),
        help="Trainings at the end on fresh seeds: of the leaders, then of the champion.  "
        "[default: 10 % of the budget, from 60 on; of 'guidelines' 15 %]",
    ),
    click.option(
        "--stop-rule",
        type=click.Choice(RULE_NAMES),
        default="fixed",
        show_default=True,
        help="When the study may decide: at its end, or at looks on the way too.",
    ),
    click.option(
        "--fidelity",
        type=click.Choice(FIDELITY_NAMES),
        default="full",
        show_default=True,
        help="halving trains to 1/9 of the length first; the best third goes on to 1/3, and the "
        "best third of those to the end.",
    ),
    click.option(
        "--halving-factor",
        type=click.IntRange(min=2, max=10),
        default=3,
        show_default=True,
        help="Each rung is so many times as long as the one below.",
    ),
    click.option("--sampler", type=click.Choice(SAMPLER_NAMES), default="tpe", show_default=True),
    click.option(
        "--warm-start",
        type=click.Choice(WARM_START_NAMES),
        default="anchors",
        show_default=True,
        help="What is trained first: corners and middle of the space, the published networks that "
        "fit it (see 'space published'; at most half of the budget), or nothing.",
    ),
    click.option(
        "--epochs",
        type=click.FloatRange(min=0, min_open=True),
        help="Length of a training.  [default: what was measured for the shipped data]",
    ),
    click.option("--batch-size", type=click.IntRange(min=2), help="Images of a training step."),
    click.option(
        "--sparsity-init",
        type=click.Choice(SPARSITY_NAMES),
        default="snip",
        show_default=True,
        help="How the zeros of a network with weights_sparsity are shared out over its layers.",
    ),
    LATENCY_BACKEND,
    LATENCY_BATCH,
    click.option(
        "--keep-weights",
        type=click.Choice(["front", "all", "none"]),
        default="front",
        show_default=True,
    ),
    BACKEND,
    RAY,
    GPUS_PER_TRIAL,
    OPTUNA_STORAGE,
    TENSORBOARD,
    MLFLOW,
    click.option("--dry-run", is_flag=True, help="Show plan and forecast only."),
    QUIET,
)
"""Options of the commands that begin a run, in the order of their help."""


class SearchOptions(TypedDict):
    """What these options give."""

    budget: int | None
    time_s: float | None
    space: str
    data: str | None
    task: Literal["classification", "segmentation"] | None
    data_root: Path
    resize: tuple[int, int] | None
    out: Path | None
    seed: int
    workers: int | None
    device: str
    objectives: tuple[str, ...]
    evidence: int | None
    confirm: int | None
    stop_rule: str
    fidelity: str
    halving_factor: int
    sampler: str
    warm_start: str
    epochs: float | None
    batch_size: int | None
    sparsity_init: Literal["snip", "erk", "uniform"]
    latency_backend: Literal["onnxruntime", "torch"] | None
    latency_batch: int
    keep_weights: str
    backend: str
    ray: str | None
    gpus_per_trial: float
    optuna_storage: str | None
    tensorboard: Path | None
    mlflow: str | None
    dry_run: bool
    quiet: bool


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a search; it takes them as `**options`."""
    for option in reversed(SEARCH_OPTIONS):
        command = option(command)
    return command
