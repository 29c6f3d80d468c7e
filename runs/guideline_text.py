"""The four guidelines in words: what was measured on this task, how sure it is, what is published.

Every text carries the fidelity of the trainings behind it: an effect of long training that a short
one does not show is missing at this fidelity, which says nothing about the guideline itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from runs.guideline_published import PUBLISHED, PUBLISHED_SPEED, SOURCE
from runs.wording import MISSING, Facts, missing, plural

NAMES = {
    "g1": "G1 SE",
    "g2": "G2 dilated branches",
    "g3": "G3 kernels by stage",
    "g4": "G4 3x3 blocks added",
}
"""What a guideline is called in a table."""

UNITS = {"accuracy": "points of accuracy", "miou": "points of mIoU"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One guideline as a row of texts; "" where there is nothing to say."""

    guideline: str
    name: str
    verdict: str
    reason: str
    effect: str
    loss: str
    up: str
    new: str
    holm: str
    cost: str
    detectable: str
    recheck: str
    published: str


HEADINGS = {
    "name": "guideline",
    "verdict": "verdict",
    "effect": "effect [95 % CI]",
    "loss": "cross-entropy, nats",
    "up": "up",
    "new": "a new network",
    "holm": "Holm p",
    "cost": "cost",
    "detectable": "could see",
    "recheck": "trained longer",
    "published": "published",
}
"""Columns of the table: field of Row and its heading."""


# Numbers.


def points(value: float | None, digits: int = 2) -> str:
    """Write a difference with its sign."""
    return "" if missing(value) else f"{value:+.{digits}f}"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """Write an interval of differences; empty where it is not known."""
    if missing(low) or missing(high):
        return ""
    return f"[{points(low, digits)}, {points(high, digits)}]"


def chance(value: float | None) -> str:
    """Write a p-value; a tiny one as a bound."""
    if missing(value):
        return ""
    return "< .001" if value is not None and value < 0.001 else f"{value:.3f}".lstrip("0")


def change(value: float | None) -> str:
    """Write a relative change in per cent."""
    return "" if missing(value) else f"{100 * (value or 0.0):+.1f}%"


def _spaced(*parts: str) -> str:
    return " ".join(filter(None, parts))


# The rows.


def rows(facts: Facts) -> tuple[Row, ...]:
    """Give one row a guideline; nothing where the run has no evidence (a run of before).

    Args:
        facts: as `outputs.run_facts` gives them. Read are facts["guidelines"]["protocol"],
            ["verdicts"] (`evidence.Verdict` as dicts), ["fidelity"] and ["rechecks"]: None, or
            {"factor": 4, "verdicts": [...]}, the verdicts over the longer trainings alone.
    """
    found = facts.get("guidelines") or {}
    protocol = found.get("protocol") or {}
    rechecks = found.get("rechecks") or {}
    longer = {verdict["guideline"]: verdict for verdict in rechecks.get("verdicts") or ()}
    return tuple(
        _row(
            verdict,
            metric=str(protocol.get("metric", "accuracy")),
            fidelity=str(found.get("fidelity") or ""),
            longer=longer.get(verdict["guideline"]),
            factor=float(rechecks.get("factor") or 4),
        )
        for verdict in found.get("verdicts") or ()
    )


def _row(verdict: Facts, *, metric: str, fidelity: str, longer: Facts | None, factor: float) -> Row:
    name = str(verdict["guideline"])
    published = PUBLISHED.get((name, metric))
    tested = verdict["word"] != "not testable"
    return Row(
        guideline=name,
        name=NAMES[name],
        verdict=verdict_text(verdict, fidelity=fidelity, factor=factor),
        reason=str(verdict.get("reason") or ""),
        effect=_spaced(points(verdict["effect"]), interval(verdict["low"], verdict["high"])),
        loss=_spaced(
            points(verdict["loss"], 3), interval(verdict["loss_low"], verdict["loss_high"], 3)
        ),
        up=f"{verdict['up']}/{verdict['blocks']}" if verdict["blocks"] else "",
        new=interval(verdict["new_low"], verdict["new_high"]),
        holm=chance(verdict["p_holm"]),
        cost=_cost(verdict),
        detectable="" if missing(verdict["detectable"]) else f"{verdict['detectable']:.2f}",
        recheck=_recheck(verdict, longer) if tested else "",
        published=f"{points(published.effect)} (J {published.table})" if published else "",
    )


def verdict_text(verdict: Facts, *, fidelity: str, factor: float = 4) -> str:
    """Write a verdict with its fidelity: `contradicted at 2 epochs, provisional until ...`."""
    word = str(verdict["word"])
    if word == "not testable":
        return "not testable here"
    at = f" at {fidelity}" if fidelity else ""
    waits = f", provisional until the {factor:g}x recheck" if verdict.get("provisional") else ""
    if word == "contradicted" and not waits:
        waits = f", and at {factor:g} times the length"
    stopped = verdict.get("decided_at")
    early = f", decided after {plural(int(stopped), 'block')}" if stopped else ""
    return f"{word}{at}{waits}{early}"


def _cost(verdict: Facts) -> str:
    macs, latency = change(verdict["macs_change"]), change(verdict["latency_change"])
    parts = [f"MACs {macs}" if macs else "", f"latency {latency}" if latency else ""]
    return ", ".join(filter(None, parts))


def _recheck(verdict: Facts, longer: Facts | None) -> str:
    if longer is None:
        return "pending" if verdict.get("provisional") else "not run"
    if missing(longer["effect"]):
        return "too few blocks"
    return _spaced(points(longer["effect"]), interval(longer["low"], longer["high"]))


# What stands beside the table.


def caveats(facts: Facts) -> list[str]:
    """Say what the verdicts do and do not mean, a sentence each; nothing without evidence."""
    found = facts.get("guidelines") or {}
    verdicts = found.get("verdicts") or ()
    protocol = found.get("protocol") or {}
    if not verdicts:
        return []
    said = [
        f"{NAMES[v['guideline']]}, {v['word']}{' here' * (v['word'] == 'not testable')}: "
        f"{v['reason']}."
        for v in verdicts
        if v.get("reason")
    ]
    if lost := found.get("incomplete"):
        said.append(
            f"{plural(lost, 'block')} did not count: trainings of theirs came to no result."
        )
    failed = [
        NAMES[v["guideline"]].split()[0]
        for v in verdicts
        if v["word"] in ("contradicted", "no practical effect")
    ]
    if failed:
        at = f" ({found['fidelity']})" if found.get("fidelity") else ""
        said.append(
            f"{_listed(failed)}: this says 'not at this fidelity'{at}, not that the guideline is "
            "false: what is published was found after far longer trainings of larger networks."
        )
    if not missing(protocol.get("margin")) and any(v["blocks"] for v in verdicts):
        said.append(
            f"G4 asks that no more than {protocol['margin']:g} points are lost and the measured "
            "latency is lower; an effect whose interval lies within "
            f"{protocol.get('practical', protocol['margin']):g} points of 0 has no practical "
            "effect."
        )
    if any(v.get("decided_at") for v in verdicts):
        said.append("Effects of guidelines that were decided early are a little too large.")
    return said


def sanity_text(facts: Facts) -> str:
    """Say whether the task rewards large kernels at all; empty where it was not asked."""
    found = facts.get("guidelines") or {}
    sanity = found.get("sanity") or {}
    if not sanity:
        return ""
    metric = (found.get("protocol") or {}).get("metric", "accuracy")
    told = (
        "large kernels in the later stages against 3x3 everywhere: "
        f"{points(sanity['effect'])} {UNITS[metric]}, "
        f"95 % interval {interval(sanity['low'], sanity['high'])}"
    )
    answers = {
        "rewarded": f"This task rewards large kernels ({told}).",
        "punished": (
            f"This task punishes large kernels at this fidelity ({told}): what the guidelines say "
            "about using them cannot be expected to show here."
        ),
        "not shown": (
            f"Whether this task rewards large kernels at all was not shown ({told}): read the "
            "verdicts as of a task that may not need context."
        ),
    }
    return answers[sanity["word"]]


def held_against(facts: Facts) -> list[str]:
    """Say what was held against what for each guideline, in the words of the space."""
    found = facts.get("guidelines") or {}
    levels = found.get("levels") or {}
    return [
        f"{NAMES[name]}: {levels[name]['as it says']}, against {levels[name]['against']}."
        for name in (v["guideline"] for v in found.get("verdicts") or () if v["blocks"])
        if name in levels
    ]


def legend(facts: Facts) -> list[str]:
    """Say how the columns are to be read; nothing without evidence."""
    found = facts.get("guidelines") or {}
    if not found.get("verdicts"):
        return []
    protocol = found.get("protocol") or {}
    unit = UNITS[protocol.get("metric", "accuracy")]
    return [
        f"Effects are {unit}, of the guideline followed against not followed, over contexts drawn "
        "from the space with MACs matched within 1 %; up: contexts in which it was above 0; a new "
        "network: 95 % interval of the effect in a network not tried; could see: the smallest "
        "effect that these blocks would have found four times in five (G4: the smallest margin); "
        "cross-entropy: less is better.",
        f"J: {SOURCE}. {_figures(protocol.get('metric', 'accuracy'))}.",
    ]


def _figures(metric: str) -> str:
    """Name the published figures behind the differences."""
    told = [
        f"{name.upper()} {PUBLISHED[name, metric].between} ({PUBLISHED[name, metric].table})"
        for name in NAMES
    ]
    return f"{'; '.join(told)} and {change(PUBLISHED_SPEED)} images a second"


COMPLIANCE = {
    "g1": "depth is added by efficient structures such as squeeze-and-excitation.",
    "g2": "large kernels have parallel dilated branches, merged into them after training.",
    "g3": "kernels are small in the first stage and large enough for the map in the later ones.",
    "g4": "depth beyond what large kernels need is made of 3x3 blocks.",
}
"""What the scores S1 to S4 ask."""


def compliance_lines(facts: Facts) -> list[str]:
    """Say what each compliance score asks and what following it was worth on this task."""
    shown = {row.guideline: row for row in rows(facts)}
    unit = UNITS[((facts.get("guidelines") or {}).get("protocol") or {}).get("metric", "accuracy")]
    lines = []
    for name, text in COMPLIANCE.items():
        row = shown.get(name)
        measured = ""
        if row is not None:
            effect = f"{row.effect} {unit}, " if row.effect else ""
            measured = f" Measured here: {effect}{row.verdict}."
        lines.append(f"S{name[1]}: {text}{measured}")
    return lines


def section(facts: Facts) -> dict[str, Any] | None:
    """Give what the page says of the guidelines; None without evidence."""
    shown = rows(facts)
    if not shown:
        return None
    return {
        "headings": [(heading, field in RIGHT) for field, heading in HEADINGS.items()],
        "rows": [[_whole(getattr(row, field)) or MISSING for field in HEADINGS] for row in shown],
        "sanity": sanity_text(facts),
        "caveats": caveats(facts),
        "tested": held_against(facts),
        "legend": legend(facts),
        "hash": str((facts.get("guidelines") or {}).get("sha256") or ""),
    }


def _whole(text: str) -> str:
    """Keep an interval, a bound and a source on one line each."""
    return re.sub(r"(?<=[\[<(])[^\])]*", lambda found: found[0].replace(" ", "\u00a0"), text)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


RIGHT = ("up", "holm", "detectable")
"""Columns of numbers."""


# The console.

NARROW_OMITS = ("cost", "recheck")
"""What a narrower terminal shows under the table, beside what else is known of the effect."""
WIDE = 130
"""Columns from which a terminal shows every column of the table."""
WRAPPED = ("name", "verdict")


def console_table(facts: Facts, width: int) -> Group | None:
    """Give the guideline table for a terminal of `width` columns; None without evidence."""
    shown = rows(facts)
    if not shown:
        return None
    wide = width >= WIDE
    fields = [
        field
        for field in HEADINGS
        if field not in ("loss", "new") and (wide or field not in NARROW_OMITS)
    ]
    table = Table(box=None, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0))
    for field in fields:
        table.add_column(
            HEADINGS[field],
            justify="right" if field in RIGHT else "left",
            no_wrap=field not in WRAPPED,
        )
    for row in shown:
        cells = {field: getattr(row, field) for field in fields}
        if wide:
            cells["effect"] = "\n".join(filter(None, (row.effect, *_more(row))))
            cells["cost"] = row.cost.replace(", ", "\n")
        table.add_row(*(Text(cell) for cell in cells.values()))
    told: list[Any] = [Text("\nguidelines on this task")]
    if answer := sanity_text(facts):
        told.append(Text(answer))
    told.append(table)
    if not wide:
        told += [Text(line) for line in _under(shown)]
    told += [Text(line) for line in (*caveats(facts), *held_against(facts), *legend(facts))]
    return Group(*told)


def _more(row: Row) -> list[str]:
    """Give what else is known of an effect."""
    return [
        f"{word} {text}"
        for word, text in (("new network", row.new), ("cross-entropy", row.loss))
        if text
    ]


def _under(shown: Iterable[Row]) -> list[str]:
    """Give what a narrow table leaves out, a line a guideline."""
    lines = []
    for row in shown:
        longer = f"longer training {row.recheck}" if row.recheck else ""
        if told := ", ".join(filter(None, (*_more(row), row.cost, longer))):
            lines.append(f"{row.guideline.upper()}: {told}")
    return lines
