"""The command line; each command imports its module in its function, so `--help` is instant."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NoReturn

import click

from runs.cli_erf import erf
from runs.cli_profile import profile
from runs.ending import interrupt, run
from runs.options import (
    BACKEND,
    DATA,
    DATA_ROOT,
    DEVICE,
    LATENCY_BACKEND,
    LATENCY_BATCH,
    QUIET,
    RESUME_BACKEND,
    SEED,
    size_option,
)
from search_space.errors import nearest

SAMPLER_NAMES = ("tpe", "random", "nsgaii")
SPARSITY_NAMES = ("snip", "erk", "uniform")
WARM_START_NAMES = ("anchors", "published", "none")
OBJECTIVE_HELP = "accuracy, val_loss, latency, macs, params; the first one ranks."


class SearchByDefault(click.Group):
    """A group whose options without a command are those of `search`: `replk-search --quiet`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `search` before arguments that begin with one of its options."""
        if (
            args
            and args[0].startswith("-")
            and args[0].split("=")[0] not in ("--help", "-h", "--version")
        ):
            args = ["search", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which one may have been meant."""
        if args and self.get_command(ctx, args[0]) is None:
            hint = nearest(args[0], self.list_commands(ctx))
            raise click.UsageError(f"command: must be known, got {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _option: click.Parameter, given: bool) -> None:  # noqa: FBT001
    if given:
        try:
            number = version("replk-search")
        except PackageNotFoundError:
            number = "of a clone that is not installed"
        click.echo(f"replk-search, version {number}")
        ctx.exit()


@click.group(
    cls=SearchByDefault,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Search large-kernel ConvNets as a design space, on your data and your device.

    \b
    replk-search --budget 200               the main job: shipped space, shipped data, this machine
    replk-search --space my.yaml --data cifar10 --budget 200 --out results/mine
    replk-search resume results/mine        continue what was interrupted

    Options without a command are those of `search`; see `replk-search search --help`.
    """  # noqa: D301  # click wants the \b


def _names(_context: click.Context, _option: click.Parameter, given: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",") if name.strip())


@cli.command()
@click.option(
    "--budget",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Trainings of full length.",
)
@click.option(
    "--space",
    default="default",
    show_default=True,
    help="YAML file or shipped name of the design space.",
)
@DATA
@DATA_ROOT
@click.option(
    "--resize",
    callback=size_option,
    metavar="HxW",
    help="Resize all images; otherwise they are never resized.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Run directory.  [default: results/<space>-<time>]",
)
@SEED
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=256),
    help="Trials at a time.  [default: one a core, or one a GPU]",
)
@DEVICE
@click.option(
    "--objectives",
    callback=_names,
    default="accuracy,latency",
    show_default=True,
    help=OBJECTIVE_HELP,
)
@click.option("--sampler", type=click.Choice(SAMPLER_NAMES), default="tpe", show_default=True)
@click.option(
    "--warm-start",
    type=click.Choice(WARM_START_NAMES),
    default="anchors",
    show_default=True,
    help="What is trained first: corners and middle of the space, the published networks that fit "
    "it (see 'space published'; at most half of the budget), or nothing.",
)
@click.option(
    "--epochs",
    type=click.FloatRange(min=0, min_open=True),
    help="Length of a training.  [default: what was measured for the shipped data]",
)
@click.option("--batch-size", type=click.IntRange(min=2), help="Images of a training step.")
@click.option(
    "--sparsity-init",
    type=click.Choice(SPARSITY_NAMES),
    default="snip",
    show_default=True,
    help="How the zeros of a network with weights_sparsity are shared out over its layers.",
)
@LATENCY_BACKEND
@LATENCY_BATCH
@click.option(
    "--keep-weights",
    type=click.Choice(["front", "all", "none"]),
    default="front",
    show_default=True,
)
@BACKEND
@click.option("--dry-run", is_flag=True, help="Show plan and forecast only.")
@QUIET
def search(
    *,
    budget: int,
    space: str,
    data: str | None,
    data_root: Path,
    resize: tuple[int, int] | None,
    out: Path | None,
    seed: int,
    workers: int | None,
    device: str,
    objectives: tuple[str, ...],
    sampler: str,
    warm_start: str,
    epochs: float | None,
    batch_size: int | None,
    sparsity_init: Literal["snip", "erk", "uniform"],
    latency_backend: Literal["onnxruntime", "torch"] | None,
    latency_batch: int,
    keep_weights: str,
    backend: str,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Search a space: sample, train, measure, rank."""
    from evaluators.training import Recipe
    from runs import session
    from runs.folders import run_directory
    from runs.plan import Settings, default_workers, resolved_backend, resolved_device

    device = resolved_device(device)
    recipe = Recipe(sparsity_init=sparsity_init)
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    if batch_size is not None:
        recipe = replace(recipe, batch_size=batch_size)
    plan, images = session.plan_run(
        space=space,
        data=data,
        root=data_root,
        resize=resize,
        settings=Settings(
            budget=budget,
            seed=seed,
            workers=workers or default_workers(device),
            device=device,
            objectives=objectives,
            sampler=sampler,
            warm_start=warm_start,
            latency_batch=latency_batch,
            latency_backend=resolved_backend(latency_backend, device),
            keep_weights=keep_weights,
            backend=backend,
        ),
        recipe=recipe,
        arguments=sys.argv[1:],
    )
    directory = run_directory(out, plan.space.name)
    if dry_run:
        for line in session.rehearse(plan, directory, note=partial(click.echo, err=True)):
            click.echo(line)
    else:
        session.begin(plan, images, directory, quiet=quiet)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--budget",
    type=click.IntRange(min=1),
    help="New total of trainings.  [default: what the run aimed at]",
)
@click.option(
    "--workers", type=click.IntRange(min=1, max=256), help="Trials at a time.  [default: as before]"
)
@RESUME_BACKEND
@QUIET
def resume(
    *, run: Path, budget: int | None, workers: int | None, backend: str | None, quiet: bool
) -> None:
    """Continue a run; nothing that finished is lost or trained again."""
    from runs import session

    session.resume(
        run,
        budget=budget,
        workers=workers,
        quiet=quiet,
        backend=backend,
        arguments=sys.argv[1:],
    )


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(*, run: Path) -> None:
    """Write tables, figures and page of a run anew from its record."""
    from runs import session

    for path in session.report(run):
        click.echo(path)


@cli.command()
@click.argument("space", default="default")
@click.option(
    "--size",
    callback=size_option,
    metavar="HxW",
    help="Input in pixels, where the YAML names none.  [default: of the shipped data]",
)
@click.option(
    "--channels",
    type=click.IntRange(min=1),
    help="Colours of the input.  [default: of the shipped data]",
)
@click.option("--classes", type=click.IntRange(min=2), default=10, show_default=True)
@click.option("--samples", type=click.IntRange(min=0), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; of 'published' only.")
@click.pass_context
def space(
    context: click.Context,
    *,
    space: str,
    size: tuple[int, int] | None,
    channels: int | None,
    classes: int,
    samples: int,
    seed: int,
    as_json: bool,
) -> None:
    """Show a space: axes, size, what its constraints leave, what it wastes, some samples.

    `space published` lists all published networks: their shapes, costs and published top-1.
    """
    # A file goes before the word, as before every shipped name.
    listed = space.lower() == "published" and not os.path.lexists(space)
    for name in ("size", "channels", "classes", "samples", "seed") if listed else ("as_json",):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.removeprefix('as_')}: must stand with "
                + ("a space, has no effect on 'published'" if listed else "'published'")
                + "; remove it",
                context,
            )
    if listed:
        from runs.published import published_facts_json, published_page

        click.echo(json.dumps(published_facts_json(), indent=2) if as_json else published_page())
        return

    from runs.describe import space_page

    click.echo(
        space_page(space, size=size, channels=channels, classes=classes, samples=samples, seed=seed)
    )


cli.add_command(profile)
cli.add_command(erf)


def main() -> NoReturn:
    """Run the program."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # A scheduler's SIGTERM ends a search as Ctrl-C does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no UTF-8 shows an escape where it lacks a letter.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(lambda: cli.main(prog_name="replk-search", standalone_mode=False)))
