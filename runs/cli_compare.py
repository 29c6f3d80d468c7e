"""The words of the command `compare`; like `runs/cli.py` it imports its module in its function."""

from __future__ import annotations

from pathlib import Path

import click

from runs.options import QUIET


def _names(_context: click.Context, _option: click.Parameter, given: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",")) if given is not None else ()


@click.command()
@click.argument(
    "runs", nargs=-1, required=True, metavar="RUN RUN...", type=click.Path(path_type=Path)
)
@click.option(
    "--objectives",
    callback=_names,
    help="What to compare, with commas: accuracy, miou, val_loss, latency, macs, params.  "
    "[default: what all runs were searched by]",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Directory.  [default: results/compare-<time>]"
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the comparison as JSON, write nothing."
)
@QUIET
@click.pass_context
def compare(
    context: click.Context,
    *,
    runs: tuple[Path, ...],
    objectives: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare runs: one front, indicators from one reference point, tests where seeds repeat.

    \b
    replk-search compare results/a results/b
    replk-search compare results/tpe-* results/random-* --out results/tpe-against-random

    Runs of one plan that differ in their seeds are taken as repeats: they get attainment surfaces,
    intervals and, against another such group, paired tests. Latencies that were measured on
    different devices are not compared; runs on different data are refused.
    """  # noqa: D301  # click wants the \b
    from runs.compare.command import as_text, begin, show

    if as_json:
        if out is not None:
            raise click.UsageError("--out: has no effect with --json; remove one", context)
        click.echo(as_text(runs, wanted=objectives))
        return
    show(begin(runs, wanted=objectives, out=out, quiet=quiet))
