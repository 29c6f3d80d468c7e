"""What stands beside the table of the guidelines: what its verdicts do and do not mean."""

from __future__ import annotations

from collections.abc import Iterable

from evaluators.protocol import Protocol
from runs.guideline_published import PUBLISHED, PUBLISHED_SPEED, SOURCE
from runs.guideline_text import (
    NAMES,
    UNITS,
    change,
    decided_early,
    effect_text,
    interval,
    points,
    rows,
)
from runs.wording import Facts, missing, plural

HASH_DIGITS = 12
"""Of the hash, where it is named in a sentence."""


def sanity_text(facts: Facts) -> str:
    """Say whether the task rewards large kernels at all; empty where it was not asked."""
    found = facts.get("guidelines") or {}
    sanity = found.get("sanity") or {}
    if not sanity:
        return ""
    large, small = (len(sanity["trainings"][arm]) for arm in ("large", "small"))
    told = (
        f"in one pair of networks, {large} and {small} trainings: large kernels in the later "
        f"stages against small kernels everywhere, {points(sanity['effect'])} "
        f"{UNITS[found['protocol']['metric']]}, 95 % interval over seeds "
        f"{interval(sanity['low'], sanity['high'])}; another pair may differ."
    )
    answers = {
        "rewarded": f"This task rewards large kernels {told}",
        "punished": (
            f"This task punishes large kernels at this fidelity {told} What the guidelines say "
            "about using them cannot be expected to show here."
        ),
        "not shown": (
            f"That this task rewards large kernels at all was not shown {told} Read the verdicts "
            "as of a task that may not need context."
        ),
    }
    return answers[sanity["word"]]


def caveats(facts: Facts) -> list[str]:
    """Say what the verdicts do and do not mean, a sentence each; nothing without evidence."""
    found = facts.get("guidelines") or {}
    verdicts = found.get("verdicts") or ()
    if not verdicts:
        return []
    told = [
        f"{NAMES[v['guideline']]}, {v['word']}{' here' * (v['word'] == 'not testable')}: "
        f"{v['reason']}."
        for v in verdicts
        if v.get("reason")
    ]
    return [*told, *_lost(found), *_failed(found), *_margins(found), *_early(found)]


def _lost(found: Facts) -> list[str]:
    """Say which blocks do not count, and what those change that diverged."""
    said = []
    if lost := found.get("incomplete"):
        do, which = ("does", "it") if lost == 1 else ("do", "each")
        said.append(
            f"{plural(lost, 'block')} {do} not count: a training in {which} was lost for good."
        )
    if diverged := found.get("diverged"):
        trainings = plural(diverged["trainings"], "training")
        count = "counts" if diverged["trainings"] == 1 else "count"
        effects = ", ".join(
            f"{v['guideline'].upper()} {effect_text(v)}"
            for v in diverged["verdicts"]
            if not missing(v["effect"])
        )
        said.append(
            f"{trainings} in {plural(diverged['blocks'], 'block')} diverged and {count} at chance "
            f"level; without these blocks: {effects or 'too few are left'}."
        )
    return said


def _failed(found: Facts) -> list[str]:
    """Say what a failed replication does not say."""
    failed = [
        v["guideline"].upper()
        for v in found["verdicts"]
        if v["word"] in ("contradicted", "no practical effect")
    ]
    if not failed:
        return []
    at = f" ({found['fidelity']})" if found.get("fidelity") else ""
    return [
        f"{_listed(failed)}: this says 'not at this fidelity'{at}, not that the guideline is "
        "false: what is published was found after far longer trainings of larger networks."
    ]


def _margins(found: Facts) -> list[str]:
    """Say what counts as lost and as nothing."""
    protocol = found["protocol"]
    if not any(v["blocks"] for v in found["verdicts"]):
        return []
    return [
        f"G4 asks that no more than {protocol['margin']:g} points are lost and the measured "
        "latency is lower; an effect whose interval lies within "
        f"{protocol['practical']:g} points of 0 has no practical effect."
    ]


def _early(found: Facts) -> list[str]:
    """Say how far estimates lean that were stopped early, as `evidence.Verdict` has it."""
    early = [
        v["guideline"].upper() for v in found["verdicts"] if decided_early(v, found["protocol"])
    ]
    if not early:
        return []
    return [
        f"{_listed(early)}: estimates that were stopped early lean away from 0, by about .17 "
        "points where the truth is .5 and by .04 where it is 1.0 (simulated at 24 blocks)."
    ]


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


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
    """Say how the columns are to be read and what was fixed; nothing without evidence."""
    found = facts.get("guidelines") or {}
    if not found.get("verdicts"):
        return []
    protocol = Protocol.from_document(found["protocol"])
    family = "by Holm" if protocol.rule == "fixed" else "over looks and guidelines"
    return [
        f"Effects are {UNITS[protocol.metric]}, of the guideline followed against not followed, "
        "over contexts drawn from the space with MACs matched within 1 %; up: contexts in which it "
        "was above 0; a new network: 95 % interval of the effect in a network not tried; adjusted "
        f"p: {family}; could see: the smallest effect that these blocks would have found four "
        "times in five (G4: the smallest margin); cross-entropy: less is better.",
        f"Fixed before the first training (sha256 {str(found['sha256'])[:HASH_DIGITS]}): "
        f"hypotheses, margins, contexts, seeds and {plural(protocol.blocks, 'planned block')}, "
        f"{rule_text(protocol)}; alpha {f'{protocol.alpha:g}'.lstrip('0')} over the family of "
        "guidelines.",
        f"J: {SOURCE}. {_figures(protocol.metric)}.",
    ]


def rule_text(protocol: Protocol) -> str:
    """Say when the rule of a study may decide."""
    if protocol.rule == "fixed":
        return "looked at once, after the last"
    looks = _listed(map(str, protocol.looks()))
    return f"looked at after {looks} of them by the bounds of O'Brien and Fleming"


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
