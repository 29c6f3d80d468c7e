"""The words of the command `search`; like `runs/cli.py` it imports its modules in its function."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import Unpack

import click

from runs.options import SearchOptions, search_options


@click.command()
@search_options
def search(**options: Unpack[SearchOptions]) -> None:
    """Search a space: sample, train, measure, rank."""
    begin(options)


def begin(options: SearchOptions) -> None:
    """Plan a run and begin it, or say what it would do."""
    from evaluators.training import Recipe
    from runs import session
    from runs.folders import run_directory
    from runs.plan import Settings, default_workers, resolved_backend, resolved_device

    device = resolved_device(options["device"])
    recipe = Recipe(sparsity_init=options["sparsity_init"])
    if options["epochs"] is not None:
        recipe = replace(recipe, epochs=options["epochs"])
    if options["batch_size"] is not None:
        recipe = replace(recipe, batch_size=options["batch_size"])
    plan, images = session.plan_run(
        space=options["space"],
        data=options["data"],
        root=options["data_root"],
        resize=options["resize"],
        settings=Settings(
            budget=options["budget"],
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
        ),
        recipe=recipe,
        arguments=sys.argv[1:],
    )
    directory = run_directory(options["out"], plan.space.name)
    if options["dry_run"]:
        for line in session.rehearse(plan, directory, note=partial(click.echo, err=True)):
            click.echo(line)
    else:
        session.begin(plan, images, directory, quiet=options["quiet"])
