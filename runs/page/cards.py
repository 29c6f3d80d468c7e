"""Cards: all there is of one network, for those of the front and around it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evaluators.compliance import compliance
from evaluators.cost import cost_by_part
from evaluators.latency_model import LatencyModel
from evaluators.operators import HEAD, STEM, stage_name
from runs.front_view import POSSIBLE
from runs.method_text import BACKENDS, batch_text, device_text
from runs.page.document import (
    Block,
    Card,
    Cards,
    Cell,
    Code,
    Column,
    Details,
    Pairs,
    Row,
    Section,
    Table,
    Text,
)
from runs.page.drawing import drawing
from runs.page.findings import Findings
from runs.page.sketches import Curve, curve_drawing, heat_map
from runs.wording import (
    MISSING,
    Facts,
    fixed,
    milliseconds,
    missing,
    percent,
    plural,
    score_text,
    scores_of,
    share,
)
from search_space.architecture import LARGE_KERNEL, Architecture

FILES = "networks"
"""Folder of the drawings, inside that of the figures."""
STRUCTURES = {"se": "SE", "none": "none"}


def section(findings: Findings) -> Section | None:
    """Show the networks of the front and around it on cards; None without any."""
    carded, competing = findings.carded, findings.competing
    shown = competing[competing["id"].isin(carded)]
    rows = {str(row["id"]): row for row in _records(shown)}
    cards = [_card(rows[network], findings) for network in carded if network in rows]
    if not cards:
        return None
    left = len(set(findings.front["id"]) - set(carded))
    words = (
        "One card a network: the recommended one, then by how likely each is on the front. Cards "
        f"are for the front, for what is on it with {percent(POSSIBLE)} or more, and for networks "
        "with a mark of their own. Tiles of the drawings are to one scale on all cards."
    )
    if left:
        words += f" {plural(left, 'further network')} of the front {'has' if left == 1 else 'have'}"
        words += " no card: those least likely to be on it."
    # Who is not on the front stands folded away: a page of thirty open cards hides what follows.
    front = {*findings.front["id"], findings.facts.get("recommended")}
    first = [card for card in cards if card.network in front]
    others = [card for card in cards if card.network not in front]
    blocks: list[Block] = [Text(text=words), *([Cards(cards=first)] if first else [])]
    if others:
        several = plural(len(others), "further network")
        summary = f"{several}: possibly on the front, or marked in its picture"
        blocks.append(Details(summary=summary, blocks=[Cards(cards=others)]))
    return Section(key="cards", title="Networks one by one", blocks=blocks)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _card(row: Mapping[str, Any], findings: Findings) -> Card:
    network, facts = str(row["id"]), findings.facts
    architecture = Architecture.from_json(str(row["architecture"]))
    trainings = _trainings(network, row, findings.complete)
    blocks: list[Block] = [
        drawing(architecture, name=f"Network {network}", key=f"{FILES}/{network}"),
        Pairs(rows=_pairs(row, architecture, trainings, findings)),
    ]
    if seen := findings.seen.get(network):
        blocks.append(heat_map(seen, name=f"Effective receptive field of {network}"))
    if curves := _curves(trainings, findings):
        blocks.append(curve_drawing(curves, name=f"Learning curve of {network}"))
    if reason := findings.unseen.get(network):
        text = f"What it sees was not measured: {reason}."
        blocks.append(Text(text=text, soft=True))
    if table := _cost_table(row, architecture, facts):
        blocks.append(table)
    blocks.append(Code(text="\n".join(_commands(network, facts))))
    return Card(
        network=network,
        title=f"{network}, kernels {row['kernels']}",
        badge="recommended" if network == facts.get("recommended") else "",
        blocks=blocks,
    )


# Scores, ranks, latency, compliance.


def _pairs(
    row: Mapping[str, Any],
    architecture: Architecture,
    trainings: Sequence[Mapping[str, Any]],
    findings: Findings,
) -> list[tuple[str, str]]:
    facts = findings.facts
    told = [
        ("score", _scores(row, trainings, findings)),
        ("trained on", _final(str(row["id"]), facts)),
        ("standing", _standing(row)),
        ("latency", _latency(row, facts)),
        ("size", _size(row)),
        ("guidelines", compliance_text(architecture)),
        ("stands for", _names(str(row["id"]), facts)),
    ]
    return [(word, text) for word, text in told if text]


def _trainings(
    network: str, row: Mapping[str, Any], complete: pd.DataFrame
) -> list[dict[str, Any]]:
    """Give the complete full-length trainings of a network, the one that competes first."""
    found = complete[(complete["id"] == network) & (complete["length"].fillna(1) == 1)]
    return sorted(_records(found), key=lambda one: (one["trial"] != row["trial"], one["trial"]))


def _scores(
    row: Mapping[str, Any], trainings: Sequence[Mapping[str, Any]], findings: Findings
) -> str:
    column = findings.score
    parts = [score_text(scores_of(row, ""), "the validation images")]
    if not missing(row.get("estimate")):
        ends = f"{share(row['estimate_low'])} to {share(row['estimate_high'])}"
        parts.append(f"estimate over seeds {share(row['estimate'])} (95 % interval {ends})")
    tested = scores_of(row, "test_")
    if not all(missing(value) for value in tested.values()):
        parts.append(score_text(tested, "the test images"))
    if len(trainings) > 1:
        values = ", ".join(share(one[column]) for one in trainings)
        parts.append(f"{plural(len(trainings), 'seed')}: {values}")
    return "; ".join(parts)


def _final(network: str, facts: Facts) -> str:
    """Say what the final training came to, where it was of this network."""
    final = facts.get("final") or {}
    if final.get("id") != network:
        return ""
    if final.get("state") == "diverged":
        return "its final training diverged"
    epochs: Any = final.get("epochs")
    length = "" if missing(epochs) else f"for {plural(float(epochs), 'epoch')}: "
    parts = [
        score_text(scores, images)
        for scores, images in (
            (scores_of(final, ""), "the validation images"),
            (scores_of(final, "test_"), "the test images"),
        )
        if not missing(scores["accuracy"])
    ]
    return f"{length}{', '.join(parts)}" if parts else ""


def _standing(row: Mapping[str, Any]) -> str:
    parts = [] if missing(row.get("rank")) else [f"rank {int(row['rank'])}"]
    low, high = row.get("rank_low"), row.get("rank_high")
    if not missing(low):
        parts.append(f"95 % interval {low}" + (f" to {high}" if high != low else ""))
    if not missing(row.get("tied")) and row["tied"] and row.get("rank") != 1:
        parts.append("tied with the first")
    for column, words in (("p_front", "on the front"), ("p_best", "the best")):
        if not missing(row.get(column)):
            parts.append(f"{words} with probability {share(row[column])}")
    return ", ".join(parts)


def _latency(row: Mapping[str, Any], facts: Facts) -> str:
    if missing(row.get("latency_ms")):
        return ""
    text = f"{milliseconds(row['latency_ms'])} ms"
    low, high = row.get("latency_low_ms"), row.get("latency_high_ms")
    if not missing(low) and not missing(high):
        text += f" (95 % interval {milliseconds(low)} to {milliseconds(high)})"
    settings = facts.get("settings") or {}
    device = device_text(facts.get("device") or {}, short=True)
    backend = BACKENDS.get(str(settings.get("latency_backend")), "")
    text += f" for {batch_text(facts)}"
    text += f" on {device}" if device else ""
    text += f", run {backend}" if backend else ""
    if not missing(row.get("latency_disturbed")) and row["latency_disturbed"]:
        text += "; something else kept the machine busy"
    return text


def _size(row: Mapping[str, Any]) -> str:
    if missing(row.get("params")) or missing(row.get("macs")):
        return ""
    text = f"{int(row['params']):,} parameters, {int(row['macs']):,} multiply-adds, merged"
    if not missing(row.get("params_train")):
        text += f"; {int(row['params_train']):,} parameters in training"
    nonzero: Any = row.get("params_nonzero")
    if not missing(nonzero) and row.get("weights_sparsity"):
        text += f", {int(nonzero):,} of the merged ones not zero"
    return text


def _names(network: str, facts: Facts) -> str:
    """Say which published network or corner of the space it stands for."""
    anchors: Sequence[Mapping[str, Any]] = facts.get("anchors") or ()
    return ", ".join(name for told in anchors if told["id"] == network for name in told["names"])


def compliance_text(architecture: Architecture) -> str:
    """Give S1 to S4, each with a word on why."""
    scores, words = compliance(architecture), compliance_words(architecture)
    values = (scores.s1, scores.s2, scores.s3, scores.s4)
    return ", ".join(
        f"S{number} {MISSING if value is None else fixed(value, 2)} ({word})"
        for number, (value, word) in enumerate(zip(values, words, strict=True), 1)
    )


def compliance_words(architecture: Architecture) -> tuple[str, str, str, str]:
    """Say in a word or two what S1 to S4 rest on: structures, branches, kernels, added blocks."""
    scores, stages = compliance(architecture), architecture.canonical.stages
    structures = dict.fromkeys(STRUCTURES.get(s.structure, s.structure) for s in stages)
    large = [stage for stage in stages if max(stage.kernels) >= LARGE_KERNEL]
    kinds = []
    for stage in large:
        if any(r > 1 for _, r in stage.dilations):
            kinds.append("dilated")
        elif stage.dilations:
            kinds.append("undilated")
        else:
            plain = stage.small_kernel is None and stage.strip is None
            kinds.append("bare" if plain else "small")
    kernels = "|".join(str(max(stage.kernels)) for stage in stages)
    added = "shallow" if scores.s4 is None else "3x3" if scores.s4 >= 0.5 else "large"
    return "/".join(structures), "/".join(dict.fromkeys(kinds)) or "no large", kernels, added


# Learning curves.


def _curves(trainings: Sequence[Mapping[str, Any]], findings: Findings) -> list[Curve]:
    found = (findings.curves.get(int(one["trial"]), ()) for one in trainings)
    finite = ([(s, loss) for s, loss in curve if np.isfinite(loss) and s > 0] for curve in found)
    return [curve for curve in finite if curve]


# Cost part by part.


def _cost_table(row: Mapping[str, Any], architecture: Architecture, facts: Facts) -> Table | None:
    """Share out what a network costs; None where it is not what the record counted."""
    classes = (facts.get("data") or {}).get("classes") or ()
    if not classes:
        return None
    parts = cost_by_part(architecture, len(classes))
    macs = sum(part.macs_inference for part in parts.values())
    params = sum(part.params_inference for part in parts.values())
    if macs != row.get("macs") or params != row.get("params"):
        return None
    times = _times(architecture, facts)
    whole_ms = sum(times.values())
    maps = _maps(architecture)
    headings = [("part", False), ("map", False), ("k params", True), ("MMACs", True)]
    headings += [("of all MACs", True), ("of the predicted latency", True)][: 1 + bool(times)]
    rows = []
    for name, part in parts.items():
        own = (part.params_inference / 1e3, part.macs_inference / 1e6, part.macs_inference / macs)
        cells = [
            Cell(text=name),
            Cell(text=maps.get(name, "")),
            Cell(text=fixed(own[0], 1), value=own[0]),
            Cell(text=fixed(own[1], 2), value=own[1]),
            Cell(text=share(own[2]), value=own[2]),
        ]
        if times:
            own_time = times.get(name, 0.0) / whole_ms
            cells.append(Cell(text=share(own_time), value=own_time))
        rows.append(Row(cells=cells))
    return Table(
        key=f"cost-{row['id']}",
        caption="Cost part by part, of the merged network and one image: "
        f"{fixed(params / 1e3, 1)} k parameters and {fixed(macs / 1e6, 2)} MMACs in all.",
        columns=[Column(heading=heading, number=number) for heading, number in headings],
        rows=rows,
    )


def _times(architecture: Architecture, facts: Facts) -> dict[str, float]:
    """Predict the milliseconds of each part; nothing without a model of the device."""
    plain = facts.get("latency_model")
    if plain is None:
        return {}
    try:
        times = LatencyModel.from_dict(plain).predict_by_part(architecture)
    except (KeyError, TypeError):
        return {}
    return times if sum(times.values()) > 0 else {}


def _maps(architecture: Architecture) -> dict[str, str]:
    """Write the map that each part reads or keeps; those of transitions stand around them."""
    found = {STEM: architecture.size, HEAD: architecture.maps[-1]}
    found |= {stage_name(number): at for number, at in enumerate(architecture.maps)}
    told = {name: f"{height}x{width}" for name, (height, width) in found.items()}
    return told | ({HEAD: "all"} if architecture.task == "segmentation" else {})


# Commands.


def _commands(network: str, facts: Facts) -> list[str]:
    run = shlex.quote(str(facts.get("directory") or "RUN"))
    of_it = shlex.quote(f"{facts.get('directory') or 'RUN'}/{network}")
    return [
        f"replk-search export {run} {network} --to {network}",
        f"replk-search profile {of_it}",
        f"replk-search erf {of_it}",
    ]
