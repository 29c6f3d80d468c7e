"""A run of seconds for tests: four shapes on 12 x 12 images, and a space of networks of a few hundred weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SPACE = """\
name: micro
stem: {kind: unireplknet, stride: 2}
stages:
  - {depth: 1, width: {choice: [4, 6]}, kernel: {choice: [3, 5, 7]}}
  - {depth: {choice: [1, 2]}, width: {int: [4, 8], step: 2}, kernel: {choice: [3, 5]}}
every_stage:
  dilations: {choice: [none, paper, [[3, 1]]]}
  ffn_ratio: 1
shared:
  structure: {choice: [none, se]}
"""


def write_data(path: Path, *, train: int = 96, val: int = 40, test: int = 40) -> Path:
    """Write an npz of noisy bars, crosses and squares, drawn from a fixed seed."""
    rng = np.random.default_rng(0)
    shapes = np.zeros((4, 12, 12))
    shapes[0, 5:7, 2:10] = shapes[1, 2:10, 5:7] = 1
    shapes[2] = np.maximum(shapes[0], shapes[1])
    shapes[3, 3:9, 3:9] = 1
    arrays = {}
    for split, count in (("train", train), ("val", val), ("test", test)):
        labels = np.arange(count) % 4
        noisy = shapes[labels] * 150 + rng.integers(0, 100, (count, 12, 12))
        arrays[f"{split}_images"] = noisy.astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    np.savez(path, **arrays)
    return path


def write_space(path: Path, text: str = SPACE) -> Path:
    """Write the space."""
    path.write_text(text, encoding="utf-8")
    return path
