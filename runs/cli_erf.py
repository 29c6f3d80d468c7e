"""The words of the command `erf`; like `runs/cli.py` it imports its module in its function."""

from __future__ import annotations

import math
from pathlib import Path

import click

from runs.options import AS_JSON, DATA_ROOT, QUIET, SEED, size_option


def _number(_context: click.Context, _option: click.Parameter, given: float) -> float:
    """Refuse nan, which every range lets through."""
    if math.isnan(given):
        raise click.BadParameter("must be a number from 1e-06 to 1e+12, got nan; for example 1000")
    return given


@click.command()
@click.argument("nets", nargs=-1, required=True, metavar="NET...")
@click.option(
    "--size",
    callback=size_option,
    default="512",
    show_default=True,
    metavar="HxW",
    help="Images in pixels: best twice what the networks were trained on, or more.",
)
@click.option("--images", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--data",
    help="cifar10, cifar100, fashionmnist, a folder, or an .npz file.  "
    "[default: the run's data for a RUN/ID, else the shipped part of Fashion-MNIST]",
)
@DATA_ROOT
@click.option(
    "--weights",
    multiple=True,
    metavar="NET=FILE",
    help="Official checkpoint of a published network: a file, or hf:OWNER/REPOSITORY/FILE.",
)
@click.option("--untrained", is_flag=True, help="Leave the weights that a run kept aside.")
@click.option(
    "--peak",
    type=click.FloatRange(min=1e-6, max=1e12),
    callback=_number,
    default=1e3,
    show_default=True,
    help="What every map is scaled to before log10(1 + x); r depends on it, sigma does not.",
)
@SEED
@click.option(
    "--out", type=click.Path(path_type=Path), help="Directory.  [default: results/erf-<time>]"
)
@AS_JSON
@QUIET
def erf(
    *,
    nets: tuple[str, ...],
    size: tuple[int, int],
    images: int,
    data: str | None,
    data_root: Path,
    weights: tuple[str, ...],
    untrained: bool,
    peak: float,
    seed: int,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how far networks see: effective receptive fields as table, figure and files.

    NET is a published name, an architecture file, or RUN/ID. A RUN/ID whose weights the run kept is
    measured trained, as is a NET with --weights; others are untrained. A RUN/ID is measured on the
    data of its run, others on the shipped set; --data names one set for all. Images are normalised
    by the mean and deviation of their data, as `search` trains; for a NET with --weights by those
    of ImageNet, as it was trained (RepLKNet-XL: by 0.5 and 0.5).

    An untrained network is
    drawn anew; its batch norms are set by the images, and every block is scaled to add 3 % of the
    deviation of its input, in all families alike: as drawn, a layer scale of 1e-6 switches the
    blocks off, and the map shows the initialisation instead of the architecture.

    Images are resized (bicubic) and moved round, each by another distance, so that a border that
    all of them have does not leave its mark.
    """
    from runs import erf as work
    from runs.fields import Settings

    settings = Settings(
        size=size,
        images=images,
        data=data,
        root=data_root,
        weights=weights,
        untrained=untrained,
        peak=peak,
        seed=seed,
    )
    page = work.begin(nets, settings, out=out, as_json=as_json, quiet=quiet)
    if isinstance(page, str):
        click.echo(page)
    else:
        work.show(page)
