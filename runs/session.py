"""From what a user asked for to a run on the disk: plan one, begin it, go on with it, bring it to its end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.cost import cost
from evaluators.data import describe, load_data, matched
from evaluators.latency import device_facts
from evaluators.training import Recipe
from runs.anchors import anchors
from runs.console import Console, duration
from runs.finish import FINAL_FACTOR, Finish
from runs.history import History
from runs.objective import DataSource, TimingJob, time_trainings
from runs.outputs import write_results
from runs.plan import PLAN_NAME, Plan, Settings, environment, load_plan, restore_plan
from runs.ranking import objectives_named
from runs.records import Records, read_events
from runs.search import LATENCY_BUDGET_S, Search, measures, single
from runs.workers import Job, Pool
from search_space.acceptance import require_acceptance
from search_space.architecture import Architecture
from search_space.census import Census
from search_space.errors import RunError, WorkFailed
from search_space.space import DesignSpace
from search_space.yaml_io import load_space

RESULTS = Path("results")
"""Where runs go that are given no --out."""
TIMED_NETWORKS = 6
"""Networks whose steps are timed for the forecast."""
TRIAL_S = 0.6
"""What a trial takes beside its training and its latency: fork, data, merge check, record."""
PRELOAD = ("runs.warm", "runs.objective")


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What a search will take."""

    seconds: float
    low: float
    high: float
    """Ends of the range that the timed networks suggest."""
    training_s: float
    """Mean seconds of one training."""

    def text(self) -> str:
        """Say it in words."""
        return f"about {duration(self.seconds)} ({duration(self.low)} to {duration(self.high)})"


def plan_run(
    *,
    space: str,
    data: str | None,
    root: Path | None,
    resize: tuple[int, int] | None,
    settings: Settings,
    recipe: Recipe,
    arguments: Sequence[str],
) -> Plan:
    """Read space and data, and check that they fit each other.

    Raises:
        ReplkError: one of them cannot be used.
    """
    objectives_named(settings.objectives)
    declared = load_space(space)
    images = load_data(data, resize=resize, root=root)
    bound = declared.bound(size=images.size, channels=images.channels)
    assert bound.size is not None
    assert bound.channels is not None
    images = matched(images, size=bound.size, channels=bound.channels)
    reference = middle(bound)
    # Builds nothing, but names a family or stem that has no builder.
    cost(reference, images.num_classes)
    accepted = require_acceptance(
        bound,
        lambda architecture: measures(cost(architecture, images.num_classes)),
        rng=np.random.default_rng(settings.seed),
    )
    is_file = data is not None and Path(data).expanduser().exists()
    return Plan(
        space=bound,
        settings=settings,
        recipe=recipe,
        data=DataSource(
            source=str(Path(str(data)).expanduser().resolve()) if is_file else data,
            root=str(root.resolve()) if root else None,
            resize=resize,
            size=bound.size,
            channels=bound.channels,
        ),
        facts={
            **environment(list(arguments)),
            "data": describe(images),
            "device": device_facts(settings.device),
            "networks": str(Census(bound).size),
            "networks_accepted": accepted.text(),
            "reference": reference.to_json(),
        },
    )


def middle(space: DesignSpace) -> Architecture:
    """Give the network in the middle of every axis: what every latency is measured beside."""
    found = anchors(space)
    return found[min(2, len(found) - 1)][0]


def run_directory(out: Path | None, name: str) -> Path:
    """Give the directory of a new run: `out`, or results/<space>-<UTC time>.

    Raises:
        RunError: something is there already.
    """
    if out is None:
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "run"
        base = RESULTS / f"{slug}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        taken = (base.with_name(f"{base.name}-{n}") for n in range(2, 1000))
        return next(taken) if base.exists() else base
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(
            f"--out {out}: must not exist yet, a result is never overwritten; "
            f"continue it with 'replk-search resume {out}', or name another directory"
        )
    return out


def forecast(plan: Plan, pool: Pool) -> Forecast:
    """Time a few steps of a few networks of the space, and say what the whole search will take."""
    rng = np.random.default_rng(plan.settings.seed)
    census = Census(plan.space)
    job = TimingJob(
        architectures=(plan.reference, *(census.sample(rng) for _ in range(TIMED_NETWORKS - 1))),
        recipe=plan.recipe,
        data=plan.data,
        device="cuda:0" if plan.settings.device == "cuda" else plan.settings.device,
    )
    timed = np.array(single(pool, Job(key="timing", function=time_trainings, payload=job)))
    budget, workers = plan.settings.budget, plan.settings.workers

    def whole(training: float) -> float:
        # A latency measurement stops every worker: it is paid once a trial, whatever their number.
        search = budget * ((training + TRIAL_S) / workers + 2 * LATENCY_BUDGET_S)
        return search + FINAL_FACTOR * training

    mean, spread = float(timed.mean()), float(timed.std(ddof=1) / len(timed) ** 0.5)
    return Forecast(
        seconds=whole(mean),
        low=whole(max(mean - 2 * spread, float(timed.min()))),
        high=whole(mean + 2 * spread),
        training_s=mean,
    )


def plan_lines(plan: Plan, directory: Path | None, estimate: Forecast | None) -> list[str]:
    """Say what will be done, a fact a line."""
    data, settings = plan.facts["data"], plan.settings
    splits = " / ".join(str(data[split]) for split in ("train", "val", "test"))
    size = "x".join(str(side) for side in plan.data.size)
    lines = [
        f"space     {plan.space.name}: {plan.facts['networks']} distinct networks; {plan.facts['networks_accepted']}",
        f"data      {data['name']}: {splits} images of {size}x{plan.data.channels}, {plan.num_classes} classes",
        f"training  {plan.recipe.epochs:g} epochs of batches of {plan.recipe.batch_size}, {settings.workers} at a time on {settings.device}",
        f"search    {settings.budget} trainings by {settings.sampler}, objectives {', '.join(settings.objectives)}, seed {settings.seed}",
    ]
    if directory is not None:
        lines.append(f"results   {directory}")
    if estimate is not None:
        lines.append(f"time      {estimate.text()}, {estimate.training_s:.1f} s a training")
    return lines


def begin(plan: Plan, directory: Path, *, quiet: bool) -> None:
    """Run a new search to its end.

    Raises:
        ReplkError: the directory cannot be used, or too many trials failed.
    """
    with Records.create(directory, {"plan": plan.document()}) as records:
        plan.write(directory)
        _go_on(plan, records, quiet=quiet, fresh=True)


def resume(
    directory: Path,
    *,
    budget: int | None,
    workers: int | None,
    quiet: bool,
    arguments: Sequence[str],
) -> None:
    """Go on with a run, to a new total where one is given.

    Raises:
        RunError: there is no run, it is in use, or its plan was changed.
        WorkFailed: too many trials failed.
    """
    with Records.open(directory) as records:
        if records.header is not None and not (directory / PLAN_NAME).exists():
            restore_plan(records.header["plan"], directory)
        plan = load_plan(directory)
        if records.header is not None and records.header["plan"] != plan.document():
            raise RunError(
                f"{directory / PLAN_NAME}: must stay as the search wrote it, it was changed; "
                "start a new run for other settings, or delete the file to have it restored"
            )
        total = budget or session_budget(records.events) or plan.settings.budget
        spent = History(records.events).spent
        if total < spent:
            raise RunError(
                f"--budget: must be at least the {spent} trainings that are done, got {total}"
            )
        plan = plan.with_budget(total)
        if workers is not None:
            plan = replace(plan, settings=replace(plan.settings, workers=workers))
        _go_on(plan, records, quiet=quiet, fresh=False, arguments=arguments)


def session_budget(events: Sequence[dict[str, Any]]) -> int | None:
    """Give the total that the last session aimed at."""
    budgets = [event["budget"] for event in events if event["event"] == "session"]
    return budgets[-1] if budgets else None


def report(directory: Path) -> list[Path]:
    """Write tables, figures and page of a run anew from its record; gives what was written.

    Raises:
        RunError: there is no run, or no record of one.
    """
    plan = load_plan(directory)
    history = History(read_events(directory))
    return write_results(directory, plan, history).paths


def rehearse(plan: Plan, directory: Path) -> list[str]:
    """Say what a search would do and take, and do none of it."""
    with Pool(1, preload=PRELOAD, cuda=plan.settings.device == "cuda") as pool:
        return plan_lines(plan, directory, forecast(plan, pool))


def _go_on(
    plan: Plan, records: Records, *, quiet: bool, fresh: bool, arguments: Sequence[str] = ()
) -> None:
    settings = plan.settings
    history = History(records.events)
    records.append(
        "session", budget=settings.budget, workers=settings.workers, **environment(list(arguments))
    )
    console = Console(settings.budget, quiet=quiet, workers=settings.workers)
    with Pool(settings.workers, preload=PRELOAD, cuda=settings.device == "cuda") as pool, console:
        todo = settings.budget - history.spent
        estimate = forecast(plan.with_budget(todo), pool) if todo > 0 else None
        console.plan(plan_lines(plan, records.directory, estimate))
        if not fresh:
            console.note(
                f"resumed: {history.spent} trainings are done, {len(history.pending)} were cut off"
            )
            console.resumed(history.rows(), history.counts)
        search = Search(plan, records, pool, console)
        failure = None
        try:
            search.run()
        except WorkFailed as error:
            failure = error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Everything finished is on disk; go on with 'replk-search resume {records.directory}'."
            ) from None
        if search.exhausted and search.history.spent < settings.budget:
            console.note(
                f"the space has no network left: {search.history.spent} of {settings.budget} trainings were possible"
            )
        if failure is None:
            Finish(
                plan,
                records,
                pool,
                note=console.note,
                on_progress=lambda metrics: console.progress(-1, metrics),
            ).run()
        results = write_results(records.directory, plan, History(records.events))
        console.finish(results)
        if failure is not None:
            raise failure
