"""The words of the command `search`; like `runs/cli.py` it imports its modules in its function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Unpack

import click

from runs.options import SearchOptions, search_options

if TYPE_CHECKING:
    from evaluators.images import ImageData
    from runs.engines import Engine
    from runs.plan import Plan
    from runs.schedule import Parts

DEFAULT_BUDGET = 200


@click.command()
@search_options
def search(**options: Unpack[SearchOptions]) -> None:
    """Search a space: sample, train, measure, rank, and say which guidelines hold.

    \b
    The budget is spent on, in this order: the warm start, 10 trainings for the noise floor,
    --evidence on the guidelines, the search, --confirm on fresh seeds.
    """  # noqa: D301  # click wants the \b
    begin(options)


def begin(options: SearchOptions, *, study_alone: bool = False) -> None:
    """Plan a run and begin it, or say what it would do.

    Args:
        options: as the command line gives them.
        study_alone: whether all of the budget goes to the guideline study.
    """
    from runs import session
    from runs.engines import open_engine
    from runs.folders import run_directory
    from runs.loggers import Shown
    from runs.schedule import search_shares, study_shares

    if options["budget"] and options["time_s"]:
        raise click.UsageError("--budget, --time: must not both be given; leave one out")
    shown = Shown(
        optuna_storage=options["optuna_storage"],
        tensorboard=options["tensorboard"],
        mlflow=options["mlflow"],
    )
    with open_engine(options["ray"]) as engine:
        manner = session.Manner(engine=engine, quiet=options["quiet"], shown=shown)
        shares = partial(
            study_shares if study_alone else search_shares,
            evidence=options["evidence"],
            confirm=options["confirm"],
        )
        plan, images = _planned(options, engine, shares, study_alone=study_alone)
        directory = run_directory(options["out"], plan.space.name)
        if options["time_s"]:
            options["budget"] = session.budget_in_time(
                plan, directory, manner, seconds=options["time_s"], shares=shares, note=_note
            )
            plan, images = _planned(options, engine, shares, study_alone=study_alone)
        if options["dry_run"]:
            for line in session.rehearse(plan, directory, manner, note=_note):
                click.echo(line)
        else:
            session.begin(plan, images, directory, manner)


def _planned(
    options: SearchOptions, engine: Engine, shares: Callable[[int], Parts], *, study_alone: bool
) -> tuple[Plan, ImageData]:
    """Make the plan of a run."""
    from runs.plan import Settings, resolved_backend
    from runs.planning import plan_run

    device = engine.device(options["device"])
    recipe = {
        "epochs": options["epochs"],
        "batch_size": options["batch_size"],
        "sparsity_init": options["sparsity_init"],
    }
    budget, gpus = options["budget"] or DEFAULT_BUDGET, options["gpus_per_trial"]
    parts = shares(budget)
    return plan_run(
        space=options["space"],
        data=options["data"],
        task=options["task"],
        root=options["data_root"],
        resize=options["resize"],
        settings=Settings(
            budget=budget,
            time_s=options["time_s"],
            fidelity=options["fidelity"],
            halving_factor=options["halving_factor"],
            gpus_per_trial=gpus,
            seed=options["seed"],
            workers=engine.workers(options["workers"], device, gpus),
            device=device,
            objectives=options["objectives"],
            sampler=options["sampler"],
            warm_start=options["warm_start"],
            latency_batch=options["latency_batch"],
            latency_backend=resolved_backend(options["latency_backend"], device),
            keep_weights=options["keep_weights"],
            backend=options["backend"],
            rule=options["stop_rule"],
            study_alone=study_alone,
            noise=parts.noise,
            evidence=parts.evidence,
            confirm=parts.confirm,
        ),
        recipe={key: value for key, value in recipe.items() if value is not None},
        arguments=sys.argv[1:],
    )


def _note(text: str) -> None:
    click.echo(text, err=True)
