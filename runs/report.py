"""The page of a run: one file that says what was found, how it was measured, and how to repeat it.

It needs no network and no script, follows the reader's light or dark setting, and prints.
Everything that comes from outside (names, commands, reasons) is escaped by the template.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runs.console import duration
from runs.figures import DARK, LIGHT, NARROW, WIDE, Theme, front_svg
from runs.guideline_figure import drawable, guideline_svg
from runs.guideline_notes import compliance_lines
from runs.guideline_table import section
from runs.method_text import (
    batch_text,
    command_text,
    device_text,
    disturbed_text,
    fidelity_text,
    method,
    sessions,
)
from runs.noise_text import champion_lines, noise_lines, standing_text
from runs.ranking import Objective
from runs.report_tables import FRONT_COLUMNS, RANKING_COLUMNS, network_table
from runs.rung_figure import rungs_svg
from runs.rung_table import drawable as rungs_drawable
from runs.rung_table import section as rung_section
from runs.wording import (
    Facts,
    fixed,
    is_dense,
    main_score,
    milliseconds,
    missing,
    plain,
    plural,
    quantity,
    score_text,
    scores_of,
    share,
    spent_text,
)

RANKED_SHOWN = 50
"""Trials in the ranking of the page; trials.csv has them all."""
SHORT = "right after the short training of the search"
"""When the score of a trial was taken."""
REASONS_SHOWN = 10
"""Reasons of failed trials, most frequent first."""
REASON_LETTERS = 300
"""Length at which the reason of a failure is cut."""


def page(
    facts: Facts,
    frame: pd.DataFrame,
    front: pd.DataFrame,
    objectives: Sequence[Objective],
) -> str:
    """Give the page of a run as one HTML text that loads nothing from elsewhere.

    Args:
        facts: as `outputs.run_facts` gives them; what is missing is left out of the page.
        frame: finished trials, as `ranking.rank` gives them.
        front: those on the front, as `ranking.front` gives them.
        objectives: the objectives of the run, the one that ranks first.
    """
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    name = str(facts.get("name") or "search")
    shown = min(RANKED_SHOWN, int(frame["rank"].notna().sum()))
    return environment.get_template("report.html").render(
        name=name,
        subtitle=_subtitle(facts, objectives),
        answer=_answer(facts, frame),
        figures=_figures(frame, objectives),
        alt=_alt(frame, front, objectives),
        reading=_reading(frame, front, objectives),
        guidelines=section(facts),
        guideline_figures=_guideline_figures(facts),
        compliance=compliance_lines(facts),
        noise=noise_lines(facts),
        champion=champion_lines(facts),
        rungs=rung_section(facts),
        rung_figures=_rung_figures(facts, frame),
        front=network_table(
            front, FRONT_COLUMNS, facts, numbers=range(1, len(front) + 1), run=frame
        ),
        ranking=network_table(
            frame.head(shown),
            RANKING_COLUMNS,
            facts,
            numbers=frame["rank"].head(shown).tolist(),
            run=frame,
        ),
        trials=len(frame),
        hypervolume=_hypervolume(facts, objectives),
        tally=_tally(facts),
        rejected=sorted(dict(facts.get("rejected") or {}).items(), key=lambda item: -item[1]),
        failures=_failures(frame),
        proxy=[text for text in (fidelity_text(facts, frame), _proxy(facts, frame)) if text],
        method=method(facts),
        sessions=sessions(facts),
        command=command_text(facts),
    )


# The answer.


def _subtitle(facts: Facts, objectives: Sequence[Objective]) -> str:
    data = facts.get("data") or {}
    device = device_text(facts.get("device") or {}, short=True)
    parts = [
        f"Search for {' and '.join(_name(objective) for objective in objectives)}",
        f"on {data['name']}" if data.get("name") else "",
        f"with {device}" if device else "",
        f"begun {str(facts['started'])[:10]}" if facts.get("started") else "",
    ]
    return ", ".join(part for part in parts if part)


def _name(objective: Objective) -> str:
    return "mIoU" if objective.name == "miou" else objective.name


def _answer(facts: Facts, frame: pd.DataFrame) -> list[str]:
    """Give the three sentences that a reader in a hurry needs."""
    done = (
        f"This rests on {spent_text(facts)} of "
        f"{plural(facts.get('distinct') or 0, 'distinct network')}{_whole(facts)}"
        f"{_time(facts, frame)}."
    )
    complete = frame[frame["state"] == "complete"]
    found = complete[complete["id"].isin([facts.get("recommended")])]
    if not len(found):
        return ["No training was complete, so there is no network to recommend.", done]
    row: Any = found.iloc[0]
    first = (
        f"Take network {row['id']} (kernels by stage {plain(row['kernels'])}): "
        f"{milliseconds(row['latency_ms'])} ms for {batch_text(facts)} on this device, "
        f"{fixed(row['params'], 0)} parameters, "
        f"{standing_text(facts, row, right_after=SHORT)}."
    )
    return [first, _final_sentence(facts), done]


def _whole(facts: Facts) -> str:
    """Say how many networks came to the end of the rungs; empty where there are none."""
    if not facts.get("rungs"):
        return ""
    return f", {facts['rungs']['rows'][-1]['trained']:,} of which went through all rungs"


def _final_sentence(facts: Facts) -> str:
    final = facts.get("final")
    if not final:
        return "It was not trained on after the search, so what it can reach is not known."
    reached, linear = scores_of(final, "test_"), scores_of(final, "baseline_test_")
    baseline = f"multinomial logistic regression on the same data gets {score_text(linear)}"
    if missing(reached["accuracy"]):
        return f"Its longer training diverged and left nothing to test; {baseline}."
    epochs = final.get("epochs")
    length = "longer" if missing(epochs) else f"for {plural(float(epochs), 'epoch')}"
    end = ", the last round of which diverged" if final.get("state") == "diverged" else ""
    verdict, bar = "", main_score(linear)[1]
    if not missing(bar) and main_score(reached)[1] <= bar:
        verdict = ", so on this data the network is not worth its cost"
    return (
        f"Trained on {length}{end}, it gets {score_text(reached, 'the test images')} right; "
        f"{baseline}{verdict}."
    )


def _time(facts: Facts, frame: pd.DataFrame) -> str:
    wall = (facts.get("timing") or {}).get("wall_s")
    if wall is not None and len(facts.get("sessions") or ()) <= 1:
        workers = (facts.get("settings") or {}).get("workers")
        side = f", {plural(workers, 'training')} at a time" if workers else ""
        return f"; the search took {duration(float(wall))}{side}"
    # The timing of a resumed run is that of its last session alone.
    seconds = float(pd.to_numeric(frame["seconds"], errors="coerce").sum())
    return f"; one after the other they would take {duration(seconds)}" if seconds > 0 else ""


# The front.


def _figures(frame: pd.DataFrame, objectives: Sequence[Objective]) -> list[dict[str, str]]:
    """Give the picture of the front for each colour scheme and width."""
    return _pictures(
        lambda theme, *, narrow: front_svg(
            frame, objectives, theme=theme, size=NARROW if narrow else WIDE
        )
    )


def _guideline_figures(facts: Facts) -> list[dict[str, str]]:
    """Give the picture of the guidelines likewise; none where nothing was measured."""
    if not drawable(facts):
        return []
    return _pictures(lambda theme, *, narrow: guideline_svg(facts, theme=theme, narrow=narrow))


def _rung_figures(facts: Facts, frame: pd.DataFrame) -> list[dict[str, str]]:
    """Give the learning curves likewise; none in a run without halving."""
    if not rungs_drawable(facts):
        return []
    return _pictures(lambda theme, *, narrow: rungs_svg(frame, theme=theme, narrow=narrow))


class Drawing(Protocol):
    """Draws one picture as SVG."""

    def __call__(self, theme: Theme, *, narrow: bool) -> str:
        """Draw it in a colour scheme, for a wide or a narrow page."""


def _pictures(draw: Drawing) -> list[dict[str, str]]:
    """Give a picture for each colour scheme and width, as data addresses."""
    figures = []
    for kind, theme in (("light", LIGHT), ("dark", DARK)):
        for width in ("wide", "narrow"):
            coded = base64.b64encode(draw(theme, narrow=width == "narrow").encode()).decode()
            figures.append(
                {"kind": f"{kind} {width}", "source": f"data:image/svg+xml;base64,{coded}"}
            )
    return figures


def _alt(frame: pd.DataFrame, front: pd.DataFrame, objectives: Sequence[Objective]) -> str:
    complete = int((frame["state"] == "complete").sum())
    axes = " over ".join(objective.label for objective in objectives[:2])
    return (
        f"Scatter plot of {axes} for {plural(complete, 'trained network')}; "
        f"the {len(front)} on the front are listed in the table below."
    )


def _reading(frame: pd.DataFrame, front: pd.DataFrame, objectives: Sequence[Objective]) -> str:
    up = objectives[0]
    better = f"{'Higher' if up.direction == 'max' else 'Lower'} is better ({up.label})"
    if len(objectives) == 1:
        return f"{better}; the coloured point is the best trial, numbered as in the table."
    across = objectives[1]
    side = "left" if across.direction == "min" else "right"
    sentence = (
        f"{better}, and further {side} is better ({across.label}): no trial beats a coloured "
        "point in every objective; its number is that of the table."
    )
    if across.column == "latency_ms" and front["latency_low_ms"].notna().any():
        sentence += " Bars are 95 % intervals of the latency."
    if disturbed := disturbed_text(frame):
        sentence += f" {disturbed}"
    if len(objectives) > 2:
        sentence += (
            f" Only the first two of the {len(objectives)} objectives are drawn, "
            "so points of the front may lie inside the cloud."
        )
    return sentence


# What was left out, and how sure one can be.


def _hypervolume(facts: Facts, objectives: Sequence[Objective]) -> dict[str, Any] | None:
    point = facts.get("reference_point") or {}
    if missing(facts.get("hypervolume")) or not point:
        return None
    named = [
        f"{objective.label} {quantity(point[objective.name], objective)}"
        for objective in objectives
        if objective.name in point
    ]
    return {"value": f"{facts['hypervolume']:.4f}", "point": ", ".join(named)}


def _tally(facts: Facts) -> list[tuple[str, str]]:
    counts = facts.get("counts") or {}
    lines = {
        "complete": "trained to the end",
        "diverged": "diverged: the loss left the finite numbers; ranked last, and counted",
        "stopped": "ended at a lower rung; those of them that went on did so as another trial",
        "failed": "failed, and not counted",
        "duplicate": "proposed again though it was known; not trained twice",
        "rejected": "rejected by a constraint before training",
        "infeasible": "infeasible: did not fit into the memory, and not counted",
    }
    shown = [
        (f"{counts.get(key, 0):,}", text)
        for key, text in lines.items()
        if key not in ("infeasible", "stopped") or counts.get(key)
    ]
    if facts.get("exhausted"):
        shown.append(
            ("0", "networks left: the space was searched to its end before the budget was spent")
        )
    return shown


def _failures(frame: pd.DataFrame) -> list[tuple[str, int]]:
    """Give the reasons of the failed trials, most frequent first."""
    errors = frame.loc[frame["state"].isin(["failed", "infeasible"]), "error"]
    reasons = Counter(_first_line(error) for error in errors)
    return reasons.most_common(REASONS_SHOWN)


def _first_line(error: Any) -> str:
    lines = [] if missing(error) else str(error).strip().splitlines()
    if not lines:
        return "no reason was recorded"
    return lines[0] if len(lines[0]) <= REASON_LETTERS else f"{lines[0][:REASON_LETTERS]}…"


def _proxy(facts: Facts, frame: pd.DataFrame) -> str:
    """Say what a short training tells, and how far an accuracy is known at all."""
    epochs = (facts.get("recipe") or {}).get("epochs")
    length = "a few epochs" if epochs is None else plural(epochs, "epoch")
    text = (
        f"A training of {length} is a proxy: it orders networks by how well they begin, "
        "which is not always how they would stand after a full training."
    )
    if is_dense(facts):
        return text
    images = (facts.get("data") or {}).get("val")
    complete = frame.loc[frame["state"] == "complete", "accuracy"]
    best = float(pd.to_numeric(complete, errors="coerce").max())
    if not images or missing(best):
        return text
    error = 100 * math.sqrt(max(best * (1 - best), 0.0) / images)
    return (
        f"{text} With {plural(images, 'validation image')} the standard error of an accuracy of "
        f"{share(best)} is {error:.1f} points, and the seed of a training adds to it: this run "
        "cannot separate ranks that lie closer together than that."
    )
