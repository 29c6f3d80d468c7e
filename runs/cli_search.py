"""The words of the command `search`; like `runs/cli.py` it imports its modules in its function."""

from __future__ import annotations

import sys
from functools import partial
from typing import Unpack

import click

from runs.options import SearchOptions, search_options

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
    from runs.folders import run_directory
    from runs.plan import Settings, default_workers, resolved_backend, resolved_device
    from runs.planning import plan_run
    from runs.schedule import search_shares, study_shares

    device = resolved_device(options["device"])
    recipe = {
        "epochs": options["epochs"],
        "batch_size": options["batch_size"],
        "sparsity_init": options["sparsity_init"],
    }
    budget = options["budget"] or DEFAULT_BUDGET
    shares = (study_shares if study_alone else search_shares)(
        budget, evidence=options["evidence"], confirm=options["confirm"]
    )
    plan, images = plan_run(
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
            gpus_per_trial=options["gpus_per_trial"],
            seed=options["seed"],
            workers=options["workers"] or default_workers(device),
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
            noise=shares.noise,
            evidence=shares.evidence,
            confirm=shares.confirm,
        ),
        recipe={key: value for key, value in recipe.items() if value is not None},
        arguments=sys.argv[1:],
    )
    directory = run_directory(options["out"], plan.space.name)
    if options["dry_run"]:
        for line in session.rehearse(plan, directory, note=partial(click.echo, err=True)):
            click.echo(line)
    else:
        session.begin(plan, images, directory, quiet=options["quiet"])
