"""What options of several commands share."""

from __future__ import annotations

from pathlib import Path

import click


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


DATA = click.option(
    "--data",
    help="cifar10, cifar100, fashionmnist, a folder, or an .npz file.  "
    "[default: the shipped part of Fashion-MNIST]",
)
DATA_ROOT = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Where torchvision's sets are kept and downloaded to.",
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
