"""What an audit says, as tables of the console and as audit.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from evaluators.agreement import Regret, Tau
from runs.audit import BASELINES, TOP, Audit, Interval, Proxy, Trend
from runs.guideline_text import NAMES, UNITS, interval, points
from runs.wording import missing, plural

SCORE = {"accuracy": "accuracy", "miou": "mIoU"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A table of texts."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    """Columns of words, from the left; the others are numbers."""
    notes: tuple[str, ...] = ()


def headline(audit: Audit) -> str:
    """Say in a sentence whether short trainings rank better than costs do."""
    short, costs = audit.proxies[0], _baselines(audit)
    said = f"{plural(len(audit.frame), 'network')} trained {audit.factor:g} times as long"
    if missing(short.tau.value):
        return f"Nothing can be ranked: all scores of {said} are alike, at one length at least."
    best = max(costs, key=lambda proxy: proxy.tau.value, default=None)
    if best is None:
        return f"The short trainings rank {said} with tau {tau_text(short.tau)}."
    ours, theirs = tau_text(short.tau), f"a ranking by {best.name}, {tau_text(best.tau)}"
    if short.tau.value > best.tau.value:
        return f"The short trainings rank {said} with tau {ours}, better than {theirs}."
    return (
        f"The short trainings rank {said} with tau {ours}, no better than {theirs}, which costs no "
        "training: lengthen the trainings (--epochs) before you trust the order."
    )


def remarks(audit: Audit) -> list[str]:
    """Say what else a reader must know, a sentence each."""
    diverged = int((audit.frame["state"] == "diverged").sum())
    said = [
        f"The trial {trial} is left out, its longer training failed: {why}."
        for trial, why in audit.failed
    ]
    if diverged:
        said.append(
            f"{plural(diverged, 'longer training')} diverged and stand at chance level."
            if diverged > 1
            else "1 longer training diverged and stands at chance level."
        )
    return said


def sheets(audit: Audit) -> tuple[Sheet, ...]:
    """Give the tables: how good each ranking is, the guidelines at both lengths, the networks."""
    return (_proxy_sheet(audit), _trend_sheet(audit), _network_sheet(audit))


def audit_facts(audit: Audit | None) -> dict[str, Any]:
    """Give what a report says of an audit as plain data; {} without one.

    Returns:
        `headline`, `remarks`, and `sheets`, each with `title`, `headings`, `rows`, `words`,
        `notes`.
    """
    if audit is None:
        return {}
    return {
        "headline": headline(audit),
        "remarks": remarks(audit),
        "sheets": [asdict(sheet) for sheet in sheets(audit)],
    }


def _proxy_sheet(audit: Audit) -> Sheet:
    depths = [k for k in TOP if k < len(audit.frame)]
    unit = UNITS[audit.metric]
    return Sheet(
        title=f"rankings against the scores after {audit.factor:g} times the length",
        headings=("ranking by", "tau-b [95 % CI]", *(f"top-{k} regret" for k in depths)),
        rows=tuple(
            (proxy.name, tau_text(proxy.tau), *(_regret(proxy, k) for k in depths))
            for proxy in audit.proxies
        ),
        notes=(
            f"Top-k regret: {unit} lost by training longer only the first k of these "
            f"{len(audit.frame)} networks. Costs rank the larger network first. Intervals are by "
            "bootstrap over networks; with 20 a tau is known to about 0.25.",
        ),
    )


def _trend_sheet(audit: Audit) -> Sheet:
    ways = dict.fromkeys(trend.way for trend in audit.trends if trend.way)
    notes = [f"{UNITS[audit.metric]}, from {' and '.join(ways)}."] if ways else []
    if any("regression" in way for way in ways):
        notes.append(
            "The regression is on log MACs and the four levels; a network outside the study's "
            "blocks has its compliance S1 to S4 for levels. It is exploratory: no matched design."
        )
    return Sheet(
        title="effects of the guidelines at both lengths",
        headings=("guideline", "short", f"{audit.factor:g} times", "change", "sign"),
        rows=tuple(
            (
                NAMES[trend.guideline],
                *(_interval(found) for found in (trend.short, trend.long, trend.change)),
                _sign(trend),
            )
            for trend in audit.trends
        ),
        words=1,
        notes=(
            *notes,
            *(
                f"{NAMES[trend.guideline]} is left out: {trend.reason}."
                for trend in audit.trends
                if trend.reason
            ),
        ),
    )


def _network_sheet(audit: Audit) -> Sheet:
    name = SCORE[audit.metric]
    return Sheet(
        title="networks, the best after the longer training first",
        headings=(
            *("id", "trial", "rank in the run", f"short {name}", f"long {name}"),
            *("rank short", "rank long", "MMACs", "latency ms"),
        ),
        rows=tuple(_network(row) for _, row in audit.frame.iterrows()),
    )


def _network(row: pd.Series) -> tuple[str, ...]:
    return (
        str(row["id"]),
        *(f"{int(row[name])}" for name in ("trial", "rank")),
        *(f"{row[name]:.1%}" for name in ("short", "long")),
        *(f"{int(row[name])}" for name in ("rank_short", "rank_long")),
        f"{row['macs'] / 1e6:.2f}",
        f"{row['latency_ms']:.3f}",
    )


def _baselines(audit: Audit) -> list[Proxy]:
    return [
        proxy
        for proxy in audit.proxies
        if proxy.name in BASELINES.values() and not missing(proxy.tau.value)
    ]


def tau_text(tau: Tau) -> str:
    """Write a tau with its interval."""
    if missing(tau.value):
        return "cannot be told"
    return f"{tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}]"


def _regret(proxy: Proxy, k: int) -> str:
    found: Regret | None = next((one for one in proxy.regrets if one.k == k), None)
    if found is None:
        return ""
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _interval(found: Interval | None) -> str:
    return "" if found is None else f"{points(found[0])} {interval(*found[1:])}".rstrip()


def _sign(trend: Trend) -> str:
    if trend.short is None or trend.long is None:
        return ""
    return "same" if trend.short[0] * trend.long[0] > 0 else "other"


def text(audit: Audit, command: str) -> str:
    """Write audit.md; its first line is the headline."""
    parts = [
        headline(audit),
        f"# Audit of {audit.name}",
        *remarks(audit),
        f"Short: {plural(float(audit.epochs), 'epoch')}; long: "
        f"{plural(audit.factor * audit.epochs, 'epoch')} on another seed. The "
        "networks are one at random from each of equal slices of the run's ranking. "
        f"Written by `{command}`.",
        "![scores and ranks at both lengths](figures/audit.png)",
    ]
    for sheet in sheets(audit):
        parts += [f"## {sheet.title[0].upper()}{sheet.title[1:]}", _markdown(sheet), *sheet.notes]
    return "\n\n".join(parts) + "\n"


def _markdown(sheet: Sheet) -> str:
    rule = ["---" if i < sheet.words else "---:" for i in range(len(sheet.headings))]
    lines = [sheet.headings, rule, *sheet.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(audit: Audit, files: Sequence[object]) -> Group:
    """Lay the audit out for a terminal."""
    told: list[Text | Table] = [Text(line) for line in (headline(audit), *remarks(audit))]
    for sheet in sheets(audit):
        table = Table(title=f"\n{sheet.title}", title_justify="left", box=None, pad_edge=False)
        for place, heading in enumerate(sheet.headings):
            table.add_column(
                heading, justify="left" if place < sheet.words else "right", no_wrap=True
            )
        for row in sheet.rows:
            table.add_row(*(Text(cell) for cell in row))
        told += [table, *(Text(note) for note in sheet.notes)]
    return Group(*told, Text(), *(Text(f"  {path}") for path in files))
