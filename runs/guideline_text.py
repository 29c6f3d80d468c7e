"""The four guidelines in words: what was measured on this task, how sure it is, what is published.

One row of texts a guideline. Every text carries the fidelity of the trainings behind it: an effect
of long training that a short one does not show is missing at this fidelity, which says nothing
about the guideline itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from runs.guideline_published import PUBLISHED
from runs.wording import Facts, missing, plural

NAMES = {
    "g1": "G1 structure",
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
    adjusted: str
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
    "adjusted": "adjusted p",
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
    # Adding 0.0 turns -0.0 into 0.0.
    return "" if missing(value) else f"{round(100 * (value or 0.0), 1) + 0.0:+.1f}%"


def _spaced(*parts: str) -> str:
    return " ".join(filter(None, parts))


# The rows.


def rows(facts: Facts) -> tuple[Row, ...]:
    """Give one row a guideline; nothing where the run has no evidence (a run of before).

    Args:
        facts: as `gathering.run_facts` gives them. Read are facts["guidelines"]["protocol"],
            ["verdicts"] (`evidence.Verdict` as dicts), ["fidelity"] and ["rechecks"]: None, or
            {"factor": 4, "blocks": 4, "verdicts": [...]}, the verdicts over the longer trainings
            alone.
    """
    found = facts.get("guidelines") or {}
    rechecks = found.get("rechecks") or {}
    longer = {verdict["guideline"]: verdict for verdict in rechecks.get("verdicts") or ()}
    return tuple(
        _row(verdict, found, longer.get(verdict["guideline"]))
        for verdict in found.get("verdicts") or ()
    )


def _row(verdict: Facts, found: Facts, longer: Facts | None) -> Row:
    name = str(verdict["guideline"])
    published = PUBLISHED.get((name, found["protocol"]["metric"]))
    tested = verdict["word"] != "not testable"
    return Row(
        guideline=name,
        name=NAMES[name],
        verdict=verdict_text(verdict, found),
        reason=str(verdict.get("reason") or ""),
        effect=effect_text(verdict),
        loss=_spaced(
            points(verdict["loss"], 3), interval(verdict["loss_low"], verdict["loss_high"], 3)
        ),
        up=f"{verdict['up']}/{verdict['blocks']}" if verdict["blocks"] else "",
        new=interval(verdict["new_low"], verdict["new_high"]),
        adjusted=chance(verdict["p_holm"]),
        cost=_cost(verdict),
        detectable="" if missing(verdict["detectable"]) else f"{verdict['detectable']:.2f}",
        recheck=_recheck(verdict, longer) if tested else "",
        published=f"{points(published.effect)} (J {published.table})" if published else "",
    )


def verdict_text(verdict: Facts, found: Facts) -> str:
    """Write a verdict with its fidelity: `contradicted at 2 epochs, provisional until ...`.

    Args:
        verdict: one of them.
        found: facts["guidelines"].
    """
    word = str(verdict["word"])
    if word == "not testable":
        return "not testable here"
    at = f" at {found['fidelity']}" if found.get("fidelity") else ""
    rechecks = found.get("rechecks") or {"factor": 4}
    longer = ""
    if verdict.get("provisional"):
        longer = f", provisional until the {rechecks['factor']:g}x recheck"
    elif word == "contradicted":
        agrees = "beyond the margin too" if verdict["guideline"] == "g4" else "with the same sign"
        longer = (
            f", {agrees} over {plural(rechecks['blocks'], 'block')} at "
            f"{rechecks['factor']:g} times the length"
        )
    blocks = decided_early(verdict, found["protocol"])
    early = f", decided after {plural(blocks, 'block')}" if blocks else ""
    return f"{word}{at}{longer}{early}"


def decided_early(verdict: Facts, protocol: Facts) -> int:
    """Give the blocks after which a look decided before the last planned one; 0 otherwise."""
    at = int(verdict.get("decided_at") or 0)
    return at if at < protocol["blocks"] else 0


def effect_text(verdict: Facts) -> str:
    """Write an effect with its interval; empty where there is none."""
    return _spaced(points(verdict["effect"]), interval(verdict["low"], verdict["high"]))


def _cost(verdict: Facts) -> str:
    macs, latency = change(verdict["macs_change"]), change(verdict["latency_change"])
    low, high = verdict["latency_low"], verdict["latency_high"]
    if latency and not (missing(low) or missing(high)):
        latency = f"{latency} {interval(100 * low, 100 * high, 1)}"
    parts = [f"MACs {macs}" if macs else "", f"latency {latency}" if latency else ""]
    return ", ".join(filter(None, parts))


def _recheck(verdict: Facts, longer: Facts | None) -> str:
    if longer is None:
        return "pending" if verdict.get("provisional") else "not run"
    return effect_text(longer) or "too few blocks"
