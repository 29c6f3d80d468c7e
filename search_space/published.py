"""The published networks that come with the package, and what their authors say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_space.architecture import Architecture
from search_space.yaml_io import load_architecture, load_space, shipped_names

SECOND_HAND = "second-hand"
"""Stands in the source of figures that were read in notes on a paper, not in the paper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A network as its authors published it."""

    name: str
    architecture: Architecture
    """Exactly as published, at 224 px."""
    top1: float
    """ImageNet-1K top-1 in per cent, by its authors."""
    size: int
    """Side in pixels of the images of `top1` and `macs`."""
    pretraining: str
    """Data seen before ImageNet-1K, or none."""
    source: str
    params: float | None = None
    """Parameters as printed by its authors."""
    macs: float | None = None
    """Multiply-adds as printed by its authors, who call them FLOPs."""
    epochs: int | None = None
    """Length of the training where it was shorter than the 300 epochs of all others."""
    miou_ade20k: float | None = None
    """Mean intersection over union in per cent on ADE20K, with UPerNet."""

    @property
    def second_hand(self) -> bool:
        """Whether the figures were read in notes on the paper only."""
        return SECOND_HAND in self.source

    @property
    def text(self) -> str:
        """Write its top-1 and how it came about: `88 % at 384 px after ImageNet-22K`."""
        parts = [f"{self.top1:g} % at {self.size} px"]
        parts += [f"after {self.pretraining}"] if self.pretraining != "none" else []
        parts += [f"in {self.epochs} epochs"] if self.epochs is not None else []
        parts += [f"({SECOND_HAND})"] if self.second_hand else []
        return " ".join(parts)


def published_facts(name: str) -> Mapping[str, Any]:
    """Give the `published` part of a shipped file: top-1, source and the like; {} for a space."""
    facts = load_space(name).document.get("published", {})
    return facts if isinstance(facts, dict) else {}


def published_networks() -> list[Published]:
    """Give every published network that is shipped, by name."""
    return [
        Published(name=name, architecture=load_architecture(name), **facts)
        for name in shipped_names()
        if (facts := published_facts(name))
    ]
