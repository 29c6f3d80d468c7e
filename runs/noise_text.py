"""How far a ranking can be trusted, and what its champion is worth on fresh seeds, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runs.wording import Facts, fixed, missing, plural, score_text, share

BASELINES = {
    "macs": "by MACs",
    "params": "by parameters",
    "latency": "by latency",
    "random": "at random",
}
"""Rankings that cost no training."""


def noise_lines(facts: Facts) -> list[str]:
    """Say what the noise of a training leaves of the ranking; nothing where it is not known.

    Args:
        facts: as `gathering.run_facts` gives them; read is `ranking_noise`: `noise`
            (`estimates.Noise` as a dict), `seed_tau` and `baselines`.
    """
    found = facts.get("ranking_noise") or {}
    floor = found.get("noise")
    if not floor:
        return []
    lines = [
        f"Noise floor: scores of one network scatter by {fixed(floor['seed_sd'], 2)} points "
        f"between seeds (standard deviation, {plural(floor['freedom'], 'degree')} of freedom), "
        f"networks by {fixed(floor['between_sd'], 2)}. Of the variance between scores of one "
        f"training each, {share(floor['reliability'])} is between networks, the rest is luck.",
        f"Kendall's tau to expect between two trainings of all networks: "
        f"{fixed(floor['tau_repeat'], 2)}; between one and the truth, which no short training "
        f"exceeds: {fixed(floor['tau_ceiling'], 2)}.{_measured(found.get('seed_tau'))}",
    ]
    baselines = _baselines(found.get("baselines") or {})
    if baselines:
        lines.append(
            f"Rankings that cost nothing, tau with the scores: {baselines}.{_cheaper(found)}"
        )
    return lines


def _measured(tau: Facts | None) -> str:
    if not tau:
        return ""
    return (
        f" Measured between seeds of {plural(tau['networks'], 'network')}, mostly "
        f"leaders trained again, whose range is narrower than that of all: {_tau(tau)}, "
        "95 % interval over networks."
    )


def _tau(tau: Facts) -> str:
    return f"{fixed(tau['value'], 2)} [{fixed(tau['low'], 2)}, {fixed(tau['high'], 2)}]"


def _baselines(baselines: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{word} {_tau(baselines[name])}"
        for name, word in BASELINES.items()
        if baselines.get(name) and not missing(baselines[name]["value"])
    )


def _cheaper(found: Facts) -> str:
    """Say so where size orders the networks as well as another training would."""
    taus = {
        name: abs(tau["value"])
        for name, tau in (found.get("baselines") or {}).items()
        if tau and name != "random" and not missing(tau["value"]) and tau["low"] * tau["high"] > 0
    }
    best = max(taus, key=lambda name: taus[name], default=None)
    if best is None or taus[best] < found["noise"]["tau_repeat"]:
        return ""
    return f" Ranking {BASELINES[best]} orders these networks as well as a second training would."


def fresh_score(facts: Facts) -> dict[str, Any] | None:
    """Give the champion's scores on its last seeds, else on those of the choice; None without.

    Returns:
        `score` (as `score_text` takes it), `seeds`, and whether they took no part in the choice
        (`unseen`).
    """
    told = facts.get("champion") or {}
    scores = told.get("final") or told.get("choice") or ()
    if not scores:
        return None
    return {
        "score": {told.get("metric", "accuracy"): float(np.mean(scores))},
        "seeds": len(scores),
        "unseen": bool(told.get("final")),
    }


def standing_text(facts: Facts, row: Facts, *, right_after: str) -> str:
    """Say what the recommended network reaches, by its last seeds where it has some.

    Args:
        facts: of the run.
        row: its trial.
        right_after: which training the score of the trial was taken after.
    """
    fresh = fresh_score(facts)
    if fresh is None or facts["champion"]["id"] != row["id"]:
        return f"{score_text(row, 'the validation images')} {right_after}"
    seeds = plural(fresh["seeds"], "seed")
    which = "used for nothing else" if fresh["unseen"] else "by which it was chosen"
    return (
        f"{score_text(fresh['score'], 'the validation images')} {right_after}, the mean over "
        f"{seeds} {which}"
    )


def champion_lines(facts: Facts) -> list[str]:
    """Say how the champion was confirmed and what its first score was too good by.

    Args:
        facts: as `gathering.run_facts` gives them; read is `champion`: `id`, `short`, `choice`,
            `final` (shares), `runner_up`, `drop` (points), `metric`, `of`.
    """
    told = facts.get("champion") or {}
    if not told or not told.get("choice"):
        return []
    among = f" of {plural(told['of'], 'network')}" if told.get("of") else ""
    steps = [f"{_mean(told, 'choice')}, the best{among} by these"]
    if not missing(told.get("short")):
        steps.insert(0, f"{_score(told, told['short'])} in its training of the search")
    if told.get("final"):
        steps.append(f"{_mean(told, 'final')} that took no part in the choice")
    lines = [f"Champion {told['id']}: {'; '.join(steps)}.{_drop(told)}"]
    second = told.get("runner_up")
    if second and second.get("choice"):
        last = f", {_mean(second, 'final')}" if second.get("final") else ""
        lines.append(f"Runner-up {second['id']}: {_mean(second, 'choice')}{last}.")
    return lines


def _drop(told: Facts) -> str:
    drop = told.get("drop")
    if missing(drop) or drop is None:
        return ""
    if drop >= 0:
        return f" Fresh seeds take off {drop:.2f} points: by so much its first score was lucky."
    return f" Fresh seeds add {-drop:.2f} points: its first score was not lucky."


def _mean(told: Facts, part: str) -> str:
    scores: Sequence[float] = told[part]
    which = "fresh" if part == "choice" else "last"
    return f"{share(float(np.mean(scores)))} on {plural(len(scores), f'{which} seed')}"


def _score(told: Facts, value: float) -> str:
    return f"{'mIoU ' if told.get('metric') == 'miou' else ''}{share(value)}"
