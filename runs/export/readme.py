"""The README of an exported package: how to use the network, and what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluators.cost import cost
from evaluators.full_recipe import FullRecipe
from evaluators.images import ImageData, shape_text
from evaluators.scores import Scores
from runs.export.chosen import Chosen
from runs.export.recipe_text import indented, recipe_text, table
from runs.method_text import batch_text, command_text, device_text
from runs.page.markdown import escape
from runs.plan import Plan
from runs.wording import milliseconds, missing, plural, score_text, share

SHORT_EPOCHS = 30
"""Below so many, weights are called those of a short training; published ones have 100 to 300."""

FILES = (
    ("model.py", "the network, in training form and merged; imports only torch"),
    ("weights.safetensors", "weights of the training form"),
    ("model.onnx", "the merged network; batches of any size, float32"),
    ("architecture.yaml", "the same network for replk-search"),
    ("classes.json", "names of the classes, in the order of the logits"),
    ("example.safetensors", "some validation images with labels and logits"),
    ("check.py", "loads all of this and compares what it computes"),
    ("LICENSE", "of the code; the weights are another matter, which it names"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a README says."""

    plan: Plan
    chosen: Chosen
    data: ImageData
    recipe: FullRecipe | None
    """Of the training on; None where the weights are those of the run."""
    val: Scores
    test: Scores
    before: Scores | None
    """In validation, of the weights that a training on began with."""
    differences: Sequence[tuple[str, float]]
    """What check.py compared, with the greatest difference."""
    onnx_difference: float

    @property
    def epochs(self) -> float:
        """Passes over the training images behind the weights."""
        before = self.chosen.weights.epochs if self.chosen.weights else 0.0
        return before + (self.recipe.epochs if self.recipe else 0.0)


def readme(told: Told) -> str:
    """Write the README, GitHub's Markdown."""
    parts = [
        f"# Network {told.chosen.id}",
        _what(told),
        "## Use it",
        _use(told),
        "## What was measured",
        table(("what", "value", "how"), measured(told)),
        "## Where the weights come from",
        "\n\n".join(weights_text(told)),
        *(recipe_text(told.recipe, dense=_dense(told)) if told.recipe else []),
        "The search that found the network was started by",
        indented([command_text({**told.plan.facts, "settings": asdict(told.plan.settings)})]),
        "## What was checked",
        "`python check.py` repeats this comparison, from any folder. A difference is the greatest "
        "absolute one, over the greatest absolute value; above 1e-4 the program ends with 1. When "
        f"the package was made, ONNX Runtime differed from torch by {told.onnx_difference:.1e} at "
        "most on batches of 1, 2 and 7 images:",
        table(("compared", "difference"), [(w, f"{d:.1e}") for w, d in told.differences]),
        "## Training form and merged form",
        "`Network()` is what is trained: parallel branches, batch norms, layer scale. `merge` "
        "gives a new network that computes the same in eval mode with all that folded into fewer "
        "convolutions: it is smaller and faster, and what was measured. Train the first, deploy "
        "the second." + _dense_text(told),
        "## Classes",
        "`classes.json` holds them in the order of the logits:",
        _classes(told.data.classes),
        "## Files",
        table(("file", "content"), [(f"`{name}`", text) for name, text in FILES], raw=True),
    ]
    return "\n\n".join(parts) + "\n"


def lines(told: Told, to: Path) -> tuple[str, ...]:
    """Say on the console what was written."""
    worst = max(told.onnx_difference, *(difference for _, difference in told.differences))
    before = ""
    if told.before is not None:
        before = f"; {score_text(_scores(told.before))} before this training"
    return (
        f"{told.chosen.id}: {_score(told.val, told, 'val')}{before}; "
        f"{_score(told.test, told, 'test')}",
        *(text.replace("**", "") for text in weights_text(told, write=str)),
        f"ONNX Runtime on batches of 1, 2 and 7: greatest difference {told.onnx_difference:.1e} "
        f"of the greatest logit; all forms together {worst:.1e}",
        f"written to {to}; `python {to / 'check.py'}` compares everything again",
    )


def measured(told: Told) -> list[tuple[str, str, str]]:
    """Give the rows of what was measured: what, value, how."""
    plan, result, data = told.plan, told.chosen.trial.result, told.data
    count = cost(told.chosen.architecture, data.num_classes)
    merged = "merged network, these weights"
    rows = []
    for name, scores, split in (("validation", told.val, "val"), ("test", told.test, "test")):
        how = f"{plural(len(getattr(data, split)), 'image')}, {merged}"
        seen = "; the search chose by them" if split == "val" else "; the search chose without them"
        if scores.miou is not None:
            rows.append((f"{name} mIoU", share(scores.miou), how + seen))
        word = "accuracy" if scores.miou is None else "pixel accuracy"
        rows.append((f"{name} {word}", share(scores.accuracy), how + seen))
        rows.append((f"{name} cross-entropy", f"{scores.loss:.3f} nats", how))
    if not missing(result.get("latency_ms")):
        rows.append(("latency", _latency(result), _latency_how(plan)))
    rows += [
        ("multiply-adds", f"{count.macs_inference:,}", "merged, one image"),
        ("parameters", f"{count.params_inference:,}", "merged"),
        ("parameters in training", f"{count.params_train:,}", "training form"),
        ("multiply-adds in training", f"{count.macs_train:,}", "training form, one image"),
    ]
    if not missing(result.get("params_nonzero")):
        text = "weights that are not held at zero, at the end of the search's training"
        rows.append(("non-zero parameters", f"{result['params_nonzero']:,}", text))
    return rows


def weights_text(told: Told, write: Callable[[str], str] = escape) -> list[str]:
    """Say how long the weights were trained, on what, and what that means for their use.

    Args:
        told: what is known.
        write: what makes text of others safe.
    """
    plan, data, weights = told.plan, told.data, told.chosen.weights
    on = (
        f"{write(data.name)} ({write(data.source)}; {len(data.train):,} training images, sha256 "
        f"{data.sha256[:12]})"
    )
    search = plural(plan.recipe.epochs, "epoch")
    if weights is None:
        said = [f"They were trained from scratch on {on}, for {plural(told.epochs, 'epoch')}."]
    elif weights.final:
        more = plural(round(weights.epochs - plan.recipe.epochs, 6), "epoch")
        said = [
            f"They were trained on {on}: {search} as trial {weights.trial} of the search, and "
            f"{more} more at its end as the recommended network."
        ]
    else:
        said = [f"They were trained on {on}: {search}, as trial {weights.trial} of the search."]
    if told.recipe is not None:
        more = "" if weights is None else f" {plural(told.recipe.epochs, 'epoch')} more followed."
        said.append(f"The full recipe below was used.{more} {_gain(told)}".replace("  ", " "))
    elif weights is not None:
        whole = plural(weights.epochs, "epoch")
        short = (
            f"**These are the weights of a short training of the search ({whole}): train it on "
            f"before you use it**, with `replk-search export RUN {told.chosen.id} --to DIR "
            "--train-epochs 100` or a training of your own that begins with `Network()`."
        )
        said.append(short if weights.epochs < SHORT_EPOCHS else f"That is {whole}.")
    if told.recipe is not None and told.epochs < SHORT_EPOCHS:
        said.append(
            f"**{plural(told.epochs, 'epoch')} is a short training**: published networks had 100 "
            "to 300."
        )
    return [text.strip() for text in said]


def _what(told: Told) -> str:
    architecture, plan = told.chosen.architecture, told.plan
    size = shape_text(*architecture.size, architecture.channels)
    many = plural(told.data.num_classes, "class", "classes")
    gives = f"one of {many} for every pixel" if _dense(told) else f"one of {many}"
    return (
        f"A large-kernel ConvNet ({architecture.block}, {plural(architecture.depth, 'block')}) "
        f"found by replk-search in the space *{escape(plan.space.name)}*. It takes images of "
        f"{size} (height x width x channels) and gives {gives}: "
        f"{_score(told.val, told, 'val')}, {_score(told.test, told, 'test')}."
    )


def _use(told: Told) -> str:
    shape = ", ".join(map(str, (told.chosen.architecture.channels, *told.chosen.architecture.size)))
    last = (
        "maps = logits.argmax(1)  # (B, H, W), the class of every pixel\n"
        "print([names[number] for number in maps[0].unique()])"
        if _dense(told)
        else "print([names[number] for number in logits.argmax(1)])"
    )
    return f"""From this folder, with torch and safetensors:

```python
import json

import torch
from safetensors.torch import load_file

from model import Network, merge, normalise

with open("classes.json", encoding="utf-8") as file:
    names = json.load(file)
network = Network()
network.load_state_dict(load_file("weights.safetensors"))
network = merge(network.eval())  # leave this line out to train on

# Put your images here: (B, {shape}), bytes of 0 to 255.
pixels = load_file("example.safetensors")["pixels"]
with torch.inference_mode():
    logits = network(normalise(pixels))
{last}
```

Or with ONNX Runtime, which needs no torch where you normalise yourself, (pixels - MEAN) / STD with
the numbers of `model.py`:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(["logits"], {{"images": normalise(pixels).numpy()}})
```"""


def _gain(told: Told) -> str:
    if told.before is None:
        return ""
    now, then = (_main(scores) for scores in (told.val, told.before))
    word = "accuracy" if told.val.miou is None else "mIoU"
    said = f"Validation {word} was {share(then)} before it and is {share(now)} after it."
    if now < then:
        said += " That is no gain: train longer, or export without `--train-epochs`."
    return said


def _latency(result: dict[str, Any]) -> str:
    low, high = result.get("latency_low_ms"), result.get("latency_high_ms")
    return (
        f"{milliseconds(result['latency_ms'])} ms "
        f"({milliseconds(low)} to {milliseconds(high)}, 95 %)"
    )


def _latency_how(plan: Plan) -> str:
    facts, settings = plan.facts, plan.settings
    device = device_text(facts.get("device") or {}, short=True)
    threads = (facts.get("device") or {}).get("threads")
    on = f", {plural(threads, 'thread')}" if threads else ""
    backend = "ONNX Runtime" if settings.latency_backend == "onnxruntime" else "torch"
    batch = batch_text({"settings": {"latency_batch": settings.latency_batch}})
    return f"{batch}, {device}{on}, {backend}, float32, as the run measured it"


def _score(scores: Scores, told: Told, split: str) -> str:
    words = {"val": "validation", "test": "test"}[split]
    return score_text(_scores(scores), f"the {len(getattr(told.data, split)):,} {words} images")


def _scores(scores: Scores) -> dict[str, float | None]:
    return {"accuracy": scores.accuracy, "miou": scores.miou}


def _main(scores: Scores) -> float:
    return scores.accuracy if scores.miou is None else scores.miou


def _dense(told: Told) -> bool:
    return told.data.task == "segmentation"


def _dense_text(told: Told) -> str:
    if not _dense(told):
        return ""
    return (
        " Here the training form gives two readings, (B, 2, classes, H, W): [:, 0] reads the maps "
        "of all stages, [:, 1] the last map alone. `merge` and the ONNX model keep the first."
    )


def _classes(classes: Sequence[str]) -> str:
    return indented(
        [f"{n}: {json.dumps(name, ensure_ascii=False)}" for n, name in enumerate(classes)]
    )
