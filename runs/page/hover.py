"""What the pointer is told of a network: what it reached and cost, and what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runs.page.charts import text
from runs.page.findings import Findings
from runs.wording import fixed, milliseconds, missing, plural, score_text, share

NEWLINE = "<br>"
NO_CARD = "no card"
"""What a point says that a click does not open."""


def hovers(findings: Findings) -> dict[int, str]:
    """Give the text of every trial that has a place in the ranking, by its number.

    Lines are short, so that they fit on a phone; whatever comes from the run is escaped.
    """
    seeds = findings.complete["id"].value_counts()
    names: dict[str, str] = {
        told["id"]: ", ".join(told["names"]) for told in findings.facts.get("anchors") or ()
    }
    recommended, carded = findings.facts.get("recommended"), set(findings.carded)
    found = {}
    for row in findings.competing.to_dict("records"):
        lines = [
            f"<b>{text(row['id'])}</b>" + (" recommended" if row["id"] == recommended else ""),
            *([text(names[row["id"]])] if row["id"] in names else []),
            *_reached(row),
            _costs(row),
            *_shape(row),
            _trained(row, int(seeds[row["id"]]), findings.facts),
            "" if row["id"] in carded else NO_CARD,
        ]
        found[int(row["trial"])] = NEWLINE.join(line for line in lines if line)
    return found


def _reached(row: Mapping[Any, Any]) -> list[str]:
    score = score_text({name: row.get(name) for name in ("accuracy", "miou")}, "val. images")
    lines = [text(f"as measured {score}")]
    if not missing(row.get("estimate")):
        ends = _ends(row, "estimate_low", "estimate_high", share)
        lines.append(text(f"estimate {share(row['estimate'])}{ends}"))
    if not missing(row.get("rank_low")):
        lines.append(f"ranks {row['rank_low']}\u2013{row['rank_high']}")
    if not missing(row.get("p_front")):
        lines[-1] += f", on the front {share(row['p_front'])}"
    return lines


def _costs(row: Mapping[Any, Any]) -> str:
    lines = []
    if not missing(row.get("latency_ms")):
        ends = _ends(row, "latency_low_ms", "latency_high_ms", milliseconds)
        lines.append(f"{milliseconds(row['latency_ms'])} ms{ends}")
    counts = []
    if not missing(row.get("macs")):
        counts.append(f"{fixed(row['macs'] / 1e6, 2)} million MACs")
    if not missing(row.get("params")):
        counts.append(f"{fixed(row['params'], 0)} parameters")
    return NEWLINE.join([*lines, *([", ".join(counts)] if counts else [])])


def _shape(row: Mapping[Any, Any]) -> list[str]:
    """Say what the network is, stages apart by |."""
    words = [
        (word, text(row[column]))
        for column, word in (
            *(("kernels", "kernels"), ("depths", "depths"), ("widths", "widths")),
            *(("structures", "structure"), ("block", "family")),
        )
        if not missing(row.get(column))
    ]
    told = dict(words)
    lines = [f"kernels {told['kernels']}"] if "kernels" in told else []
    for pair in (("depths", "widths"), ("structure", "family")):
        lines.append(", ".join(f"{word} {told[word]}" for word in pair if word in told))
    scores = [row.get(f"s{number}") for number in range(1, 5)]
    if not all(missing(score) for score in scores):
        lines.append(f"S1 to S4: {', '.join(fixed(score, 2) for score in scores)}")
    return [line for line in lines if line]


def _trained(row: Mapping[Any, Any], seeds: int, facts: Mapping[str, Any]) -> str:
    epochs: Any = (facts.get("recipe") or {}).get("epochs")
    length = "" if missing(epochs) else f" for {plural(float(epochs), 'epoch')}"
    steps: Any = row.get("steps")
    counted = "" if missing(steps) else f", {plural(int(steps), 'step')}"
    return f"trained{length}{counted}, {plural(seeds, 'seed')}"


def _ends(row: Mapping[Any, Any], low: str, high: str, write: Any) -> str:
    if missing(row.get(low)) or missing(row.get(high)):
        return ""
    return f" ({write(row[low])}\u2013{write(row[high])})"
