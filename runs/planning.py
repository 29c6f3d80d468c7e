"""From what a user asked for to a plan, where space, data and settings fit each other."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.data import describe, load_data, matched
from evaluators.images import ImageData, Task
from evaluators.latency import device_facts
from evaluators.recipe import default_recipe
from runs.anchors import anchors, published_start
from runs.backends import backends_text
from runs.blocks import METRICS
from runs.console import plain
from runs.devices import sharing_text
from runs.evidence_facts import study_text
from runs.images import DataSource, lasting
from runs.measures import measure_with
from runs.method_text import warm_start_text
from runs.plan import Plan, Settings, environment
from runs.prediction import prediction_text
from runs.ranking import objectives_named
from runs.wording import plural
from search_space.acceptance import known_beforehand, require_acceptance
from search_space.architecture import Architecture
from search_space.census import Census
from search_space.errors import DataError, RunError
from search_space.space import DesignSpace
from search_space.yaml_io import load_space


def plan_run(
    *,
    space: str,
    data: str | None,
    root: Path | None,
    resize: tuple[int, int] | None,
    settings: Settings,
    recipe: Mapping[str, Any],
    arguments: Sequence[str],
    task: Task | None = None,
) -> tuple[Plan, ImageData]:
    """Read space and data, and check that they fit each other and that all of it can be built.

    Args:
        space: file or shipped name.
        data: see `load_data`.
        root: see `load_data`.
        resize: see `load_data`.
        settings: of the run; the task is that of the data, and no objectives are those of the task.
        recipe: what differs from the recipe of the task.
        arguments: of the command, for the record.
        task: what the data must be for; None: what they are for.

    Raises:
        ReplkError: one of them cannot be used.
    """
    objectives_named(settings.objectives or ("accuracy",))
    declared = load_space(space)
    images = load_data(data, task=task, resize=resize, root=root)
    declared = declared.for_task(images.task)
    metric = METRICS[images.task]
    settings = replace(
        settings, task=images.task, objectives=settings.objectives or (metric, "latency")
    )
    if "miou" in settings.objectives and images.task != "segmentation":
        raise RunError(
            "--objectives: must fit the task, got miou for images with one label each; "
            "use accuracy, or --task segmentation"
        )
    bound = declared.bound(size=images.size, channels=images.channels)
    size, channels = bound.image()
    try:
        matched(images, size=size, channels=channels)
    except DataError as error:
        if declared.size is None and declared.channels is None:
            raise
        raise DataError(f"{declared.place('input')}: {error}") from None
    # What is constrained in milliseconds is judged by `applied`, when the device is measured.
    known, measure = known_beforehand(bound), measure_with(images.num_classes)
    accepted = require_acceptance(known, measure, rng=np.random.default_rng(settings.seed))
    started = {}
    if settings.warm_start == "published":
        started["warm_start"] = published_start(known, budget=settings.budget, measure=measure)
    plan = Plan(
        space=bound,
        settings=settings,
        recipe=replace(default_recipe(images.task, len(images.train)), **recipe),
        data=DataSource(
            source=lasting(data),
            root=str(root.resolve()) if root else None,
            resize=resize,
            size=size,
            channels=channels,
            sha256=images.sha256,
            task=images.task,
        ),
        facts={
            **environment(list(arguments)),
            "data": describe(images),
            "device": device_facts(settings.device),
            "networks": str(Census(bound).size),
            "networks_accepted": accepted.text(),
            "reference": middle(bound).to_json(),
            **started,
        },
    )
    return plan, images


def middle(space: DesignSpace) -> Architecture:
    """Give the network in the middle of every axis: what every latency is measured beside."""
    found = anchors(space)
    return found[min(2, len(found) - 1)][0]


def plan_lines(plan: Plan, directory: Path) -> list[str]:
    """Say what will be done, a fact a line."""
    data, settings = plan.facts["data"], plan.settings
    splits = " / ".join(str(data[split]) for split in ("train", "val", "test"))
    size = "x".join(str(side) for side in plan.data.size)
    count = plan.facts["networks"]
    count = f"{int(count):,}" if count.isdigit() else "infinitely many"
    networks = f"{count} distinct networks; {plan.facts['networks_accepted']}"
    return [
        f"space     {plain(plan.space.name)}: {networks}",
        f"data      {plain(data['name'])}: {splits} images of {size}x{plan.data.channels}, "
        f"{plan.num_classes} classes",
        f"training  {plural(float(plan.recipe.epochs), 'epoch')} of batches of "
        f"{plan.recipe.batch_size}, {settings.workers} at a time on {settings.device}",
        f"search    {plural(settings.budget, 'training')}"
        + ("" if settings.study_alone else f" by {settings.sampler}")
        + f", objectives {', '.join(settings.objectives)}, seed {settings.seed}",
        *_wrapped("rungs", rungs_text(settings)),
        *_wrapped("share", _sharing(settings)),
        *_wrapped("study", study_text(plan.facts, plan.settings)),
        *_wrapped("first", warm_start_text({"settings": asdict(plan.settings), **plan.facts})),
        *_wrapped("latency", prediction_text(plan.facts)),
        *_wrapped("kernels", backends_text(plan.facts)),
        f"results   {directory}",
    ]


def rungs_text(settings: Settings) -> str:
    """Say how trainings are cut short; empty where they are not."""
    if settings.fidelity == "full":
        return ""
    factor = settings.halving_factor
    return (
        f"trained to 1/{factor**2} of the length first; one in {factor} goes on to 1/{factor}, "
        f"and one in {factor} of those to the end"
    )


def _sharing(settings: Settings) -> str:
    return sharing_text(
        settings.device, torch.cuda.device_count(), settings.workers, settings.gpus_per_trial
    )


def _wrapped(word: str, text: str) -> list[str]:
    """Write a fact on as many lines as it takes; none where there is nothing to say."""
    return textwrap.wrap(text, 100, initial_indent=f"{word:10}", subsequent_indent=" " * 10)
