"""How a run was measured and how to repeat it, in words."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from runs.backends import backends_text
from runs.prediction import prediction_text
from runs.ranking import measured
from runs.wording import (
    DENSE,
    Facts,
    is_dense,
    milliseconds,
    missing,
    plain,
    plural,
    share,
)
from search_space.architecture import Architecture

CLASSES_SHOWN = 20
SCALE_LIMIT = 0.1
"""Share by which scaled and plain latencies may differ before it is said."""


def method(facts: Facts) -> list[tuple[str, str]]:
    """Give what a reader must know to judge the numbers: a word and a text each."""
    pairs = [
        ("data", _data_text(facts.get("data") or {})),
        ("training", recipe_text(facts.get("recipe") or {}, sparse=bool(facts.get("sparse")))),
        ("backends", backends_text(facts)),
        ("mIoU" if is_dense(facts) else "accuracy", _score_text(facts)),
        ("latency", _latency_text(facts)),
        ("prediction", prediction_text(facts)),
        ("device", device_text(facts.get("device") or {})),
        (
            "counting",
            "MACs are multiply-adds of one image, params are parameters, "
            "both of the merged network",
        ),
        ("search", _search_text(facts)),
        ("warm start", " ".join(filter(None, (warm_start_text(facts), _known_text(facts))))),
        ("space", _space_text(facts)),
        ("software", _versions_text(facts)),
        ("code", _commit_text(facts.get("git_commit"))),
    ]
    return [(word, text) for word, text in pairs if text]


BACKENDS = {
    "onnxruntime": "by ONNX Runtime",
    "torch": "by torch, channels last",
}
"""What runs a network while its latency is measured, in words."""


def disturbance_text(latency: Facts) -> str:
    """Say what speaks for a disturbance in a measurement: the facts of `Latency` that do.

    Args:
        latency: `descheduled`, `foreign` and `drift` of a latency.
    """
    phrases = [
        f"the core was taken away in {share(latency['descheduled'])} of the rounds",
        f"the reference's time changed by {abs(latency['drift']):.0%}",
    ]
    if latency["foreign"] is not None:
        phrases.insert(1, f"others used {latency['foreign']:.0%} of the CPUs")
    return ", ".join(phrases)


def disturbed_text(frame: pd.DataFrame) -> str:
    """Say how far the latencies can be trusted; empty where nothing speaks against them."""
    said = []
    if number := int(measured(frame)["latency_disturbed"].sum()):
        said.append(
            f"{plural(number, 'latency was', 'latencies were')} measured while something else kept "
            "the machine busy, also when repeated (latency_disturbed in trials.csv)."
        )
    scale = float((frame["latency_ms"] / frame["latency_raw_ms"]).median())
    if abs(scale - 1) > SCALE_LIMIT:
        said.append(
            f"latency_ms is {scale:.2f} times what the clock showed (latency_raw_ms): the machine "
            "had another speed when the reference was measured. The order of the networks does "
            "not depend on it, a limit on milliseconds does."
        )
    return " ".join(said)


def batch_text(facts: Facts) -> str:
    """Name the batch whose latency was measured."""
    size = (facts.get("settings") or {}).get("latency_batch", 1)
    return "one image" if size == 1 else f"a batch of {size} images"


def recipe_text(recipe: Facts, *, sparse: bool = False) -> str:
    """Say how every network was trained; empty where nothing is known.

    Args:
        recipe: the settings of `evaluators.training.Recipe`.
        sparse: whether any network holds weights at zero.
    """
    phrases: dict[str, Callable[[Any], str]] = {
        "epochs": lambda value: plural(value, "epoch"),
        "batch_size": lambda value: f"batches of {value}",
        "lr": lambda value: f"AdamW with a peak learning rate of {value:g}",
        "warmup": lambda value: (
            f"warm-up over {value:.0%} of the steps, then down to 0 as a half cosine"
        ),
        "weight_decay": lambda value: f"weight decay {value:g}, not on biases and norms",
        "label_smoothing": lambda value: f"label smoothing {value:g} in the training loss alone",
        "shift": lambda value: (
            f"images moved by up to {plural(value, 'pixel')} each way"
            if value
            else "images not moved"
        ),
        "flip": lambda value: "half of them mirrored" if value else "none mirrored",
        "recalibration_batches": lambda value: (
            f"batch norm statistics averaged anew over {plural(value, 'batch', 'batches')} "
            "before each evaluation"
            if value
            else "batch norm statistics as the training left them"
        ),
    }
    zeros: dict[str, Callable[[Any], str]] = {
        "sparsity_init": lambda value: f"zeros of sparse networks shared out by {value}",
        "prune_rate": lambda value: f"at first {value:.0%} of the others pruned and regrown",
        "mask_updates": lambda value: f"masks moved {plural(value, 'time')}",
    }
    return "; ".join(
        phrase(recipe[key])
        for key, phrase in (phrases | zeros if sparse else phrases).items()
        if not missing(recipe.get(key))
    )


def device_text(device: Facts, *, short: bool = False) -> str:
    """Name the device, and unless `short` its cores, clock and drivers; empty where not known."""
    name = str(device.get("name") or device.get("device") or "")
    if short or not name:
        return name
    phrases: dict[str, Callable[[Any], str]] = {
        "cores": lambda value: plural(value, "core"),
        "mhz_now": lambda value: f"{value:,.0f} MHz when the run began",
        "clock_now": lambda value: f"{value} when the run began",
        "vector": str,
        "cuda": lambda value: f"CUDA {value}",
        "cudnn": lambda value: f"cuDNN {value}",
        "driver": lambda value: f"driver {value}",
    }
    told = [phrase(device[key]) for key, phrase in phrases.items() if not missing(device.get(key))]
    kind = str(device.get("device") or "").upper()
    return ", ".join([*([kind] if kind and kind != name.upper() else []), name, *told])


def _data_text(data: Facts) -> str:
    if not data:
        return ""
    words = {"train": "to train", "val": "to validate", "test": "to test"}
    splits = ", ".join(f"{data[key]:,} {word}" for key, word in words.items() if key in data)
    parts = [f"{data.get('name', 'unnamed')}: {splits or 'unknown'} images"]
    if data.get("size"):
        sides = "x".join(str(side) for side in data["size"])
        parts.append(f"{sides} pixels, {plural(data.get('channels', 1), 'channel')}")
    if classes := data.get("classes") or ():
        more = ", …" if len(classes) > CLASSES_SHOWN else ""
        parts.append(
            f"{len(classes)} classes ({', '.join(map(str, classes[:CLASSES_SHOWN]))}{more})"
        )
    if not missing(data.get("majority_share")):
        majority = share(data["majority_share"])
        what = f"{majority} of the pixels" if data.get("task") == DENSE else majority
        parts.append(f"always naming the most frequent class gets {what} right")
    if data.get("source"):
        parts.append(f"source: {data['source']}")
    if data.get("sha256"):
        parts.append(f"sha256 {data['sha256']}")
    return "; ".join(parts)


def _score_text(facts: Facts) -> str:
    final = ", and once more for the network that was trained on" if facts.get("final") else ""
    seen = (
        "the search sees validation images only, the test images were looked at after it, once for "
        f"the networks of the front{final}"
    )
    if not is_dense(facts):
        return f"share of images whose class is named rightly; {seen}"
    return (
        "overlap of the predicted and the true pixels of a class over their union, averaged over "
        "the classes; a class that is in neither is left out. Beside it the share of pixels named "
        "rightly (pixel accuracy). Both are of the head that reads every stage; the one that reads "
        f"the last stage alone is trained with it on the same network. {seen.capitalize()}"
    )


def _latency_text(facts: Facts) -> str:
    backend = (facts.get("settings") or {}).get("latency_backend", "torch")
    threads = (facts.get("device") or {}).get("threads")
    on = f" on {plural(threads, 'thread')}" if threads else ""
    reference = milliseconds(facts.get("reference_ms"))
    return (
        f"one forward pass of {batch_text(facts)} through the merged network{on}, float32, "
        f"{BACKENDS[backend]}, while every training waits. Rounds alternate with a reference "
        f"network that took {reference} ms when the run began; latency_ms is the median ratio to "
        "it times that number, with the 95 % interval of the median from order statistics, so that "
        "a machine that changes its speed does not reorder networks; latency_raw_ms in trials.csv "
        "is the plain median. At the end the networks of the front were measured again, longer and "
        "side by side. Separable: the interval overlaps with that of neither neighbour in latency "
        "on the front; a dash: not measured again"
    )


def _search_text(facts: Facts) -> str:
    settings = facts.get("settings") or {}
    parts = {
        "sampler": settings.get("sampler"),
        "objectives": ", ".join(settings.get("objectives") or ()),
        "budget": facts.get("budget") or settings.get("budget"),
        "of it": _shares_text(settings),
        "fidelity": halving_text(settings),
        "workers": settings.get("workers"),
        "seed": settings.get("seed"),
    }
    return "; ".join(f"{word} {value}" for word, value in parts.items() if value not in (None, ""))


def halving_text(settings: Facts) -> str:
    """Say how long networks of the search are trained; empty where all are in full length."""
    if settings.get("fidelity", "full") == "full":
        return ""
    factor = settings["halving_factor"]
    return (
        f"halving, to 1/{factor**2}, 1/{factor} and all of the length, one in {factor} goes on "
        "from where it stopped"
    )


def _shares_text(settings: Facts) -> str:
    """Say what of the budget was set aside beforehand; empty where nothing was."""
    words = {
        "noise": "for the noise floor",
        "evidence": "for blocks that test the guidelines",
        "confirm": "for fresh seeds at the end",
    }
    shares = ", ".join(
        f"{settings[key]} {word}" for key, word in words.items() if settings.get(key)
    )
    rest = "none" if settings.get("study_alone") else "the others"
    return f"{shares}, {rest} for the search" if shares else ""


def warm_start_text(facts: Facts) -> str:
    """Say what was trained first; empty where it was the anchors of the space."""
    kind = (facts.get("settings") or {}).get("warm_start", "anchors")
    if kind == "anchors":
        return ""
    started = facts.get("warm_start")
    if kind == "none" or not started:
        return "nothing beforehand: the sampler begins alone"
    networks, left_out, rejected = (started[key] for key in ("networks", "left_out", "rejected"))
    others = {
        "coinciding with one of these": started["coinciding"],
        f"left out ({_counted(left_out)})": sum(left_out.values()),
        f"rejected by a constraint ({_counted(rejected)})": sum(rejected.values()),
        "beyond half of the budget": started["beyond"],
    }
    rest = ", ".join(f"{number} {text}" for text, number in others.items() if number)
    if not networks:
        return (
            f"no published network, so the sampler begins alone; of all {started['published']}: "
            f"{rest}."
        )
    return (
        f"{plural(len(networks), 'published network')}, scaled to the space, as anchors, best "
        f"published top-1 first; of all {started['published']}{': ' if rest else ''}{rest}."
    )


def _known_text(facts: Facts) -> str:
    """Say which trial is which published network."""
    networks = (facts.get("warm_start") or {}).get("networks", ())
    named = (
        f"{told['id']} is {told['names'][0]} ({told['text']}"
        + (f"; also {', '.join(told['names'][1:])}" if told["names"][1:] else "")
        + ")"
        for told in networks
    )
    text = ", ".join(named)
    return f"Their published ImageNet-1K top-1: {text}." if text else ""


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{word} {number}" for word, number in numbers.items())


def _space_text(facts: Facts) -> str:
    parts = [
        f"{_grouped(facts['networks'])} distinct networks" if facts.get("networks") else "",
        str(facts.get("networks_accepted") or ""),
    ]
    return "; ".join(part for part in parts if part)


def _versions_text(facts: Facts) -> str:
    versions = {"Python": facts.get("python"), **(facts.get("versions") or {})}
    named = [f"{name} {version}" for name, version in versions.items() if version]
    return ", ".join([*named, *([str(facts["platform"])] if facts.get("platform") else [])])


def _commit_text(commit: str | None) -> str:
    if not commit:
        return "not run from a git clone, so no commit is known"
    if commit.endswith("+"):
        return f"git commit {commit[:-1]}, with changes that were not committed"
    return f"git commit {commit}"


def _grouped(number: Any) -> str:
    """Write 828360 as 828,360 and inf in words; anything else stays as it is."""
    if str(number) == "inf":
        return "infinitely many"
    return f"{int(number):,}" if str(number).isdigit() else str(number)


def fidelity_text(facts: Facts, frame: pd.DataFrame) -> str:
    """Say how long networks were trained, on what, and how much of a kernel their maps can use.

    Empty where neither is known. Maps and kernels are those of the complete trials.
    """
    recipe, data = facts.get("recipe") or {}, facts.get("data") or {}
    said = []
    if recipe.get("epochs") and data.get("train"):
        seen = round(recipe["epochs"] * data["train"])
        size = f" of {'x'.join(map(str, data['size']))} pixels" if data.get("size") else ""
        length = plural(recipe["epochs"], "epoch")
        which = "ranked score" if facts.get("rungs") else "score"
        said.append(f"Every {which} is after {length}: {seen:,} images seen{size}.")
    texts = frame.loc[frame["state"] == "complete", "architecture"].dropna().unique()
    networks = [Architecture.from_json(text) for text in texts]
    if networks:
        stages = range(max(len(network.stages) for network in networks))
        sides = [{max(n.maps[i]) for n in networks if i < len(n.maps)} for i in stages]
        kernels = [
            max((max(n.stages[i].kernels), max(n.maps[i])) for n in networks if i < len(n.maps))
            for i in stages
        ]
        maps = "|".join("/".join(map(str, sorted(side))) for side in sides)
        said.append(
            f"Maps by stage are {maps} pixels wide, the largest kernels "
            f"{'|'.join(str(kernel) for kernel, _ in kernels)}; a kernel k on a map r has "
            f"min(k, 2r - 1) taps that meet it: "
            f"{'|'.join(str(min(kernel, 2 * side - 1)) for kernel, side in kernels)}."
        )
    return " ".join(said)


# How to repeat it.


def sessions(facts: Facts) -> list[dict[str, str]]:
    """Give the sessions of a run, every value as text."""
    keys = ("started", "budget", "workers", "command")
    return [
        {key: plain(session.get(key)) for key in keys} for session in facts.get("sessions") or ()
    ]


def command_text(facts: Facts) -> str:
    """Give the command that repeats the run: with its seed, and without --out, which is there."""
    command = str(facts.get("command") or "")
    seed = (facts.get("settings") or {}).get("seed")
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    kept = [
        word
        for before, word in itertools.pairwise(["", *words])
        if "--out" not in (before, word) and not word.startswith("--out=")
    ]
    told = any(word == "--seed" or word.startswith("--seed=") for word in kept)
    if kept and seed is not None and not told:
        kept += ["--seed", str(seed)]
    return shlex.join(kept)
