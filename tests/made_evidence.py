"""Evidence that nobody measured: verdicts of a study, as `gathering.run_facts` gives them."""

from __future__ import annotations

from typing import Any

import numpy as np

FIDELITY = "2 epochs (126 steps)"


def verdict(guideline: str, word: str, **changes: Any) -> dict[str, Any]:
    """Give a verdict with every field of `evidence.Verdict`."""
    made = {
        "guideline": guideline,
        "word": word,
        "provisional": False,
        "reason": "",
        "blocks": 12,
        "up": 9,
        "effect": 0.62,
        "low": 0.11,
        "high": 1.13,
        "new_low": -1.2,
        "new_high": 2.44,
        "loss": -0.012,
        "loss_low": -0.02,
        "loss_high": -0.004,
        "p": 0.021,
        "p_holm": 0.042,
        "detectable": 0.94,
        "between_sd": 0.8,
        "macs_change": 0.0,
        "latency_change": 0.061,
        "latency_low": 0.05,
        "latency_high": 0.073,
        "decided_at": None,
    }
    return made | changes


def untested(guideline: str, reason: str) -> dict[str, Any]:
    """Give a verdict without numbers."""
    return dict.fromkeys(verdict(guideline, "")) | {
        "guideline": guideline,
        "word": "not testable",
        "provisional": False,
        "reason": reason,
        "blocks": 0,
        "up": 0,
    }


def pilot() -> dict[str, Any]:
    """Give the verdict on squeeze-and-excitation that a pilot of 80 steps came to."""
    return verdict(
        "g1",
        "contradicted",
        provisional=True,
        blocks=6,
        up=0,
        effect=-1.36,
        low=-2.05,
        high=-0.67,
        new_low=-3.19,
        new_high=0.47,
        loss=0.042,
        loss_low=0.026,
        loss_high=0.058,
        p=0.004,
        p_holm=0.016,
        detectable=1.21,
    )


def sanity(word: str) -> dict[str, Any]:
    """Give the answer to whether the task rewards large kernels."""
    trainings = {"large": [41.0, 42.0, 42.5, 41.5, 43.0], "small": [38.0, 39.0, 38.5, 39.5, 39.5]}
    return {"effect": 3.1, "low": 2.2, "high": 4.0, "word": word, "trainings": trainings}


def dense(**changes: Any) -> dict[str, Any]:
    """Give the evidence of a segmentation study in which all four guidelines were tested."""
    verdicts = [
        pilot(),
        verdict("g2", "supported"),
        verdict(
            "g3",
            "undecided",
            reason="the interval holds 0 and effects above 0.5 points",
            effect=0.31,
            low=-0.42,
            high=1.04,
            p=0.37,
            p_holm=0.37,
            up=7,
        ),
        verdict(
            "g4",
            "supported",
            effect=-0.04,
            low=-0.31,
            high=0.23,
            p=0.0004,
            p_holm=0.0008,
            detectable=0.41,
            up=5,
            latency_change=-0.094,
            latency_low=-0.12,
            latency_high=-0.07,
        ),
    ]
    made: dict[str, Any] = {
        "protocol": {
            "task": "segmentation",
            "metric": "miou",
            "blocks": 12,
            "rule": "fixed",
            "alpha": 0.05,
            "margin": 0.5,
            "practical": 0.5,
            "first_look": 8,
            "every": 4,
            "missing": {},
            "contexts": 12,
        },
        "levels": {
            "g1": {"against": "no extra structure in the blocks", "as it says": "se in every block"}
        },
        "verdicts": verdicts,
        "fidelity": FIDELITY,
        "sanity": sanity("rewarded"),
        "rechecks": None,
        "diverged": None,
        "incomplete": 0,
        "noise": noise()["noise"],
        "sha256": "0f" * 32,
    }
    return made | changes


def flat() -> dict[str, Any]:
    """Give the evidence of a classification study, where guideline 3 cannot be tested."""
    made = dense()
    verdicts = [*made["verdicts"]]
    verdicts[2] = untested("g3", "needs a dense task")
    protocol = made["protocol"] | {"task": "classification", "metric": "accuracy"}
    return made | {"verdicts": verdicts, "protocol": protocol, "sanity": None}


def noise() -> dict[str, Any]:
    """Give the noise floor, tau between seeds and the baselines."""
    return {
        "noise": {
            "seed_sd": 0.81,
            "freedom": 16,
            "between_sd": 1.5,
            "reliability": 0.774,
            "tau_repeat": 0.57,
            "tau_ceiling": 0.69,
        },
        "seed_tau": {"value": 0.52, "low": 0.21, "high": 0.77, "networks": 14},
        "baselines": {
            "macs": {"value": 0.41, "low": 0.30, "high": 0.51},
            "params": {"value": 0.38, "low": 0.27, "high": 0.49},
            "latency": {"value": 0.36, "low": 0.25, "high": 0.47},
            "random": {"value": 0.0, "low": -0.11, "high": 0.11},
        },
    }


def champion(best: str, metric: str = "accuracy") -> dict[str, Any]:
    """Give the confirmation of a network."""
    return {
        "id": best,
        "short": 0.871,
        "choice": [0.862, 0.858, 0.866],
        "final": [0.859, 0.861, 0.855],
        "runner_up": {"id": "0123456789ab", "choice": [0.861, 0.86, 0.857], "final": [0.857]},
        "drop": 1.27,
        "metric": metric,
    }


def with_standing(trials: list[dict[str, Any]], *, dense: bool = False) -> list[dict[str, Any]]:
    """Give made trials what is known of their worth; in `dense` ones an mIoU too."""
    made = []
    for place, row in enumerate(trials):
        known = {} if row.get("accuracy") is None else _standing(row["accuracy"], place)
        miou = {"miou": row["accuracy"] / 2.5, "test_miou": None} if dense and known else {}
        made.append(row | miou | known)
    return made


def _standing(score: float, place: int) -> dict[str, Any]:
    chance = float(np.exp(-place))
    return {
        "estimate": score - 0.002,
        "estimate_low": score - 0.012,
        "estimate_high": score + 0.008,
        "rank_low": 1 + place // 2,
        "rank_high": 6 + place,
        "tied": place < 5,
        "p_best": chance / 2,
        "p_front": chance,
        "outside_space": place % 3 == 1,
        "predicted_gain": 0.004 - 0.001 * place,
        "predicted_gain_low": -0.003 - 0.001 * place,
        "predicted_gain_high": 0.011 - 0.001 * place,
    }
