"""The four guidelines in words: what was measured on this task, how sure it is, what is published.

Every text carries the fidelity of the trainings behind it: an effect of long training that a short
one does not show is missing at this fidelity, which says nothing about the guideline itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from runs.wording import Facts, missing, plural

NAMES = {
    "g1": "G1 SE",
    "g2": "G2 dilated branches",
    "g3": "G3 kernels by stage",
    "g4": "G4 3x3 blocks added",
}
"""What a guideline is called in a table."""

QUESTIONS = {
    "g1": "squeeze-and-excitation in every block, against no extra structure",
    "g2": "dilated branches beside every large kernel, against the plain large kernel",
    "g3": (
        "a 3x3 kernel in stage 1, against a large one: what it gains a head that reads every "
        "stage beyond what it gains one that reads the last"
    ),
    "g4": (
        "added blocks of 3x3, against large ones: not worse by more than the margin, and faster"
    ),
}
"""What each guideline was held against, for people."""

UNITS = {"accuracy": "points of accuracy", "miou": "points of mIoU"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What the paper found for a guideline, in the same contrast."""

    effect: float
    """Points of accuracy or mIoU."""
    table: str
    """Table of SOURCE."""
    between: str
    """The two figures whose difference it is."""


SOURCE = (
    "Zhang, Ding and Yue, Scaling Up Your Kernels, arXiv 2410.08049, table 3: UniRepLKNet trained "
    "for 100 epochs on ImageNet; mIoU with UPerNet on ADE20K"
)

PUBLISHED: dict[tuple[str, str], Published] = {
    ("g1", "accuracy"): Published(effect=0.4, table="3a", between="81.2 to 81.6 with SE"),
    ("g1", "miou"): Published(effect=1.4, table="3a", between="45.1 to 46.5 with SE"),
    ("g2", "accuracy"): Published(
        effect=0.19, table="3b", between="81.44 to 81.63 with dilated branches"
    ),
    ("g2", "miou"): Published(
        effect=0.59, table="3b", between="45.78 to 46.37 with dilated branches"
    ),
    # The paper has no two readings in classification; both networks stand at 81.6 there.
    ("g3", "accuracy"): Published(
        effect=0.0, table="3c", between="81.6 with 13x13 and with 3x3 in stage 1"
    ),
    ("g3", "miou"): Published(
        effect=1.6,
        table="3c",
        between="44.9 to 46.5 with all stages read, 42.4 to 42.4 with the last alone",
    ),
    ("g4", "accuracy"): Published(
        effect=0.0, table="3d", between="82.3 with 27 large blocks and with 9 of them and 18 of 3x3"
    ),
    ("g4", "miou"): Published(
        effect=-0.2, table="3d", between="49.0 with 27 large blocks, 48.8 with 9 and 18 of 3x3"
    ),
}
"""Effects of level 1 against level 0, by guideline and metric, from SOURCE."""

PUBLISHED_SPEED = 1264 / 1145 - 1
"""G4: gain in images a second on an A100, table 3d."""


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
    return "" if missing(value) else f"{100 * (value or 0.0):+.1f} %"


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
        f"{NAMES[v['guideline']]} is not testable here: {v['reason']}."
        for v in verdicts
        if v["word"] == "not testable"
    ]
    said += [
        f"{NAMES[v['guideline']]} is undecided: {v['reason']}."
        for v in verdicts
        if v["word"] == "undecided" and v.get("reason")
    ]
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
            f"G4 asks for no more than {protocol['margin']:g} points of loss and a lower measured "
            "latency; an effect whose interval lies within "
            f"{protocol.get('practical', protocol['margin']):g} points of 0 has no practical "
            "effect."
        )
    if protocol.get("rule") == "obrien_fleming":
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
        f"J: {SOURCE}.",
    ]


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


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
            justify="right" if field in ("up", "holm", "detectable") else "left",
            no_wrap=field not in WRAPPED,
        )
    for row in shown:
        cells = {field: getattr(row, field) for field in fields}
        if wide:
            cells["effect"] = "\n".join(filter(None, (row.effect, *_more(row))))
            cells["cost"] = row.cost.replace(", ", "\n")
        table.add_row(*(Text(cell) for cell in cells.values()))
    told: list[Any] = [Text("\nguidelines on this task"), table]
    if not wide:
        told += [Text(line) for line in _under(shown)]
    told += [Text(line) for line in (sanity_text(facts), *caveats(facts), *legend(facts)) if line]
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
