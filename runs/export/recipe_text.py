"""The full recipe as the README of a package shows it, and the marks of Markdown that it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evaluators.full_recipe import FULL_STRENGTH_EPOCHS, FullRecipe
from runs.page.markdown import escape
from runs.wording import plural

RECIPE: tuple[tuple[str, Callable[[FullRecipe], str], str], ...] = (
    ("length", lambda r: plural(r.epochs, "epoch"), "as asked for"),
    ("batches", lambda r: plural(r.batch_size, "image"), "as in the search"),
    (
        "optimiser",
        lambda r: f"AdamW, peak rate {r.lr:.3g}",
        "peak of the search; lower where a training on is shorter than the training before it",
    ),
    (
        "schedule",
        lambda r: (
            f"linear warm-up over {r.warmup:.1%} of the steps, half cosine to {r.floor * r.lr:.2g}"
        ),
        "published: 20 of 300 epochs, to a 4,000th",
    ),
    ("weight decay", lambda r: f"{r.weight_decay:g}, not on biases and norms", "published: 0.05"),
    ("label smoothing", lambda r: f"{r.label_smoothing:.3g}", "published: 0.1"),
    ("mixed batches", lambda r: f"{r.mixing:.1%}", "published: all"),
    ("mixup", lambda r: f"{r.mixup:g}", "published for this size"),
    ("cutmix", lambda r: f"{r.cutmix:g}", "published for this size"),
    ("random erasing", lambda r: f"{r.erasing:.1%} of the images", "published: 25%"),
    (
        "RandAugment",
        lambda r: (
            f"{r.operations} operations of strength {r.magnitude:g}, each with "
            f"chance {r.operation_share:.1%}{'' if r.geometric else ', none that moves pixels'}"
        ),
        "published: 2 of strength 9, chance 50%; ours equalises no histograms",
    ),
    (
        "drop path",
        lambda r: f"{r.drop_path:.3g} at the last block",
        "published for this size, less in a short training",
    ),
    (
        "moving average",
        lambda r: f"decay {r.average:.4f}; these are the weights",
        "published: 0.9999, the same share of the steps",
    ),
    (
        "shifts, mirroring",
        lambda r: f"{plural(r.shift, 'pixel')}, {'on' if r.flip else 'off'}",
        "as in the search",
    ),
)
"""What a training on was made with: name, value, and where the value comes from."""


def recipe_text(recipe: FullRecipe, *, dense: bool) -> list[str]:
    """Give the part on how the network was trained on: a heading, a paragraph and a table."""
    strength = min(1.0, recipe.epochs / FULL_STRENGTH_EPOCHS)
    said = (
        " In segmentation nothing is mixed, erased or moved that masks would not follow."
        if dense
        else ""
    )
    return [
        "### The full recipe",
        "Published values are those of UniRepLKNet's released commands (arXiv 2311.15599), "
        "which follow ConvNeXt's; drop path, mixup and cutmix are those of its variant of this "
        "size, the moving average is that of ConvNeXt, SLaK and RepLKNet. They were made for 300 "
        "epochs of 1.28 million images; augmentation, smoothing and drop path act here with "
        f"{strength:.1%} of their published strength, in proportion to the length up to "
        f"{FULL_STRENGTH_EPOCHS} epochs.{said} Batch norms were averaged anew over training "
        "images at the end.",
        table(
            ("setting", "value", "where it comes from"),
            [(name, value(recipe), source) for name, value, source in RECIPE],
        ),
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, raw: bool = False) -> str:
    """Write a table; `raw`: its cells are Markdown already."""
    written = [[cell if raw else escape(cell) for cell in row] for row in (head, *rows)]
    written.insert(1, ["---"] * len(head))
    return "\n".join(f"| {' | '.join(row)} |" for row in written)


def indented(texts: Sequence[str]) -> str:
    """Write a block of code that nothing in the texts can end."""
    return "\n".join(f"    {' '.join(text.split())}" for text in texts)
