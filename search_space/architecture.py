"""One network of the space as frozen data, its canonical form and its stable id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from search_space.families import DENSE, FAMILIES, stage_maps

Branches = tuple[tuple[int, int], ...]
"""Parallel branches of a large kernel as (kernel k, dilation r) pairs, sorted."""

LARGE_KERNEL = 7
"""Least kernel of a *large* block, as in the official code of UniRepLKNet; its paper says 9."""

# Published branches for K = 5..17: official code of UniRepLKNet, class DilatedReparamBlock.
PAPER_BRANCHES: dict[int, Branches] = {
    5: ((3, 1), (3, 2)),
    7: ((3, 2), (3, 3), (5, 1)),
    9: ((3, 3), (3, 4), (5, 1), (5, 2)),
    11: ((3, 3), (3, 4), (3, 5), (5, 1), (5, 2)),
    13: ((3, 3), (3, 4), (3, 5), (5, 1), (7, 2)),
    15: ((3, 3), (3, 5), (3, 7), (5, 1), (7, 2)),
    17: ((3, 4), (3, 5), (3, 7), (5, 1), (9, 2)),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stem:
    """What turns the image into the first map."""

    kind: str = "unireplknet"
    stride: int = 4
    """Total stride: 1, 2 or 4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A row of blocks of one width on one map."""

    depth: int
    width: int
    kernel: int = 3
    """Side in pixels of the depthwise kernel of the blocks marked L."""
    placement: str
    """One letter a block: L has the stage's kernel, S a depthwise 3x3."""
    dilations: Branches = ()
    """Branches beside each large kernel; () is a plain convolution."""
    structure: str = "none"
    """What adds depth inside each block; a row of UniRepLKNet's table 1."""
    se_ratio: int = 4
    """Width over squeezed width where `structure` is se."""
    ffn_ratio: float = 4
    """Hidden over outer width of the pointwise pair."""
    ffn_hidden: int | None = None
    """Hidden width of the pointwise pair as it is built, in place of the ratio; None is by it."""
    layer_scale: float = 0.0
    """Initial value of the layer scale; 0 is without."""
    small_kernel: int | None = None
    """RepLKNet: side of the kernel beside the large one; None is without."""
    dw_ratio: float = 1
    """RepLKNet: depthwise over outer width."""
    strip: int | None = None
    """SLaK: short side N of the M x N and N x M strips; None is one square kernel."""

    @property
    def kernels(self) -> tuple[int, ...]:
        """Depthwise kernel of every block, first to last."""
        return tuple(self.kernel if letter == "L" else 3 for letter in self.placement)

    @property
    def ffn_width(self) -> int:
        """Hidden width of the pointwise pair; by the ratio rounded down but never nothing."""
        if self.ffn_hidden is not None:
            return self.ffn_hidden
        return max(1, int(self.width * self.ffn_ratio))


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One network, without its classifier's size: what is built, counted, trained and ranked."""

    size: tuple[int, int]
    """Height and width of the input in pixels."""
    channels: int = 3
    block: str = "unireplknet"
    """Family of the blocks."""
    stem: Stem
    transition: str = "unireplknet"
    head: str = "pool_norm"
    width_factor: float = 1
    """SLaK: what every width is multiplied with."""
    weights_sparsity: float = 0
    """SLaK: share of weights held at zero in training."""
    stages: tuple[Stage, ...]

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return sum(stage.depth for stage in self.stages)

    @property
    def task(self) -> str:
        """What the head makes it fit for: classification, or segmentation with a dense head."""
        return "segmentation" if self.head == DENSE else "classification"

    @cached_property
    def built_stages(self) -> tuple[Stage, ...]:
        """The stages at the widths that are built: times `width_factor`, rounded down."""
        if self.width_factor == 1:
            return self.stages
        return tuple(
            replace(stage, width=built_width(stage.width, self.width_factor))
            for stage in self.stages
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of every stage as it is built."""
        return tuple(stage.width for stage in self.built_stages)

    @cached_property
    def maps(self) -> tuple[tuple[int, int], ...]:
        """Height and width in pixels of every stage's map, by the padding of the family."""
        return stage_maps(
            self.size,
            len(self.stages),
            stem=self.stem.kind,
            stride=self.stem.stride,
            transition=self.transition,
        )

    @cached_property
    def canonical(self) -> Architecture:
        """The effective network: dead taps cut, settings without effect at their defaults."""
        family = FAMILIES[self.block]
        sparse = "weights_sparsity" in family.network_keys
        factor = plain_number(self.width_factor) if sparse else 1
        stages = tuple(
            canonical_ffn(canonical_stage(stage, side=max(side), block=self.block), factor=factor)
            for stage, side in zip(self.stages, self.maps, strict=True)
        )
        return replace(
            self,
            stages=stages,
            width_factor=factor,
            weights_sparsity=plain_number(self.weights_sparsity) if sparse else 0,
        )

    @cached_property
    def id(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical.to_json().encode()).hexdigest()[:12]

    @property
    def dead_taps(self) -> int:
        """Taps a channel, of depthwise kernels and branches, that no pixel of the map can meet."""
        return sum(
            stage.placement.count("L") * _dead_large(stage, side=max(side))
            + stage.placement.count("S") * _dead(3, 3, 1, side=max(side))
            for stage, side in zip(self.stages, self.maps, strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the architecture in the words of the YAML, only with the keys that act."""
        family = FAMILIES[self.block]
        plain: dict[str, Any] = {
            "input": {"channels": self.channels, "size": list(self.size)},
            "block": self.block,
            "stem": {"kind": self.stem.kind, "stride": self.stem.stride},
            "transition": self.transition,
            "head": self.head,
        }
        for key in sorted(family.network_keys):
            plain[key] = getattr(self, key)
        plain["stages"] = [_stage_dict(stage, self.block) for stage in self.stages]
        return plain

    def to_json(self) -> str:
        """Give the JSON with sorted keys and no spaces; the id hashes the canonical one."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read back what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: the text is not of that form (a file was damaged).
        """
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Architecture:
        """Read back what `to_dict` gave."""
        rest = dict(plain)
        image = rest.pop("input")
        height, width = image["size"]
        stages = tuple(_stage_from(stage) for stage in rest.pop("stages"))
        stem = Stem(**rest.pop("stem"))
        return cls(
            size=(height, width), channels=image["channels"], stem=stem, stages=stages, **rest
        )


def built_width(width: int, factor: float) -> int:
    """Give a width as it is built: times SLaK's `width_factor`, rounded down."""
    return width if factor == 1 else max(1, int(width * factor))


def paper_branches(kernel: int) -> Branches:
    """Give the branches of the published table for K = 5..17, and our extrapolation of it above.

    Source: UniRepLKNet's official code for 5..17; for K >= 19 ours: (5, 1), one half-size kernel
    at dilation 2, and 3x3 kernels that reach 1/2, 2/3 and 7/8 of the way to the edge.
    """
    if kernel <= 17:
        return PAPER_BRANCHES.get(kernel, ())
    reach = kernel - 1
    return tuple(
        sorted(
            {
                (5, 1),
                (2 * (reach // 4) + 1, 2),
                (3, reach // 4),
                (3, reach // 3),
                (3, 7 * reach // 16),
            }
        )
    )


def cropped_kernel(kernel: int, side: int) -> int:
    """Give the kernel whose taps can all touch a map of `side` pixels: min(K, 2H - 1), or 3."""
    return max(3, min(kernel, 2 * side - 1))


def cropped_branches(branches: Iterable[tuple[int, int]], side: int) -> Branches:
    """Drop the taps of (k, r) branches whose offset exceeds H - 1; one tap alone is (1, 1)."""
    cropped = []
    for k, r in branches:
        taps = min(k // 2, (side - 1) // r)
        cropped.append((2 * taps + 1, r if taps else 1))
    return tuple(sorted(cropped))


def canonical_stage(stage: Stage, *, side: int, block: str) -> Stage:
    """Give the effective stage on a map of `side` pixels: what is built when the space draws it.

    `ffn_ratio` and `ffn_hidden` stay as they are: `canonical_ffn` settles them, by the width.
    """
    acts = FAMILIES[block].stage_keys
    kernel = cropped_kernel(stage.kernel, side)
    if kernel == 3 or "L" not in stage.placement:
        kernel, placement = 3, "S" * stage.depth
    else:
        placement = stage.placement
    # `paper` means the table of the kernel that is built, so it is looked up again after cropping.
    paper = tuple(sorted(stage.dilations)) == paper_branches(stage.kernel)
    branches = paper_branches(kernel) if paper else cropped_branches(stage.dilations, side)
    structure = stage.structure if "structure" in acts else "none"
    small = stage.small_kernel if "small_kernel" in acts and kernel > 3 else None
    strip = stage.strip if "strip" in acts and kernel > 3 else None
    return Stage(
        depth=stage.depth,
        width=stage.width,
        kernel=kernel,
        placement=placement,
        dilations=branches if kernel > 3 and "dilations" in acts else (),
        structure=structure,
        se_ratio=stage.se_ratio if structure == "se" else 4,
        ffn_ratio=plain_number(stage.ffn_ratio),
        ffn_hidden=stage.ffn_hidden,
        layer_scale=plain_number(stage.layer_scale) if "layer_scale" in acts else 0.0,
        small_kernel=small if small is None or small < kernel else None,
        dw_ratio=plain_number(stage.dw_ratio) if "dw_ratio" in acts else 1,
        strip=strip if strip is None or strip < kernel else None,
    )


def canonical_ffn(stage: Stage, *, factor: float) -> Stage:
    """Write a hidden width as a ratio where that gives it, so that one network has one id.

    The ratio is the stage's own, or a whole one; beside any other hidden width it stands at 4.
    `factor` is the `width_factor`: the hidden width is the one that is built.
    """
    hidden = stage.ffn_hidden
    if hidden is None:
        return stage
    width = built_width(stage.width, factor)
    if hidden == replace(stage, width=width, ffn_hidden=None).ffn_width:
        return replace(stage, ffn_hidden=None)
    if hidden % width == 0:
        return replace(stage, ffn_ratio=hidden // width, ffn_hidden=None)
    return replace(stage, ffn_ratio=4)


def plain_number(value: float) -> float:
    """Give 4 for 4.0, so that equal numbers have one JSON."""
    return int(value) if float(value).is_integer() else value


def _dead_large(stage: Stage, *, side: int) -> int:
    """Count the dead taps of one large block: its kernel or strips, and what runs beside them."""
    kernel, strip = stage.kernel, stage.strip
    main = _dead(kernel, kernel, 1, side=side) if strip is None else 0
    strips = 2 * _dead(kernel, strip, 1, side=side) if strip is not None else 0
    small = _dead(stage.small_kernel or 1, stage.small_kernel or 1, 1, side=side)
    return main + strips + small + sum(_dead(k, k, r, side=side) for k, r in stage.dilations)


def _dead(height: int, width: int, r: int, *, side: int) -> int:
    """Count the taps of a kernel of dilation r that leave a square map from each of its pixels."""
    reach = (side - 1) // r
    alive = (2 * min(height // 2, reach) + 1) * (2 * min(width // 2, reach) + 1)
    return height * width - alive


def _stage_dict(stage: Stage, block: str) -> dict[str, Any]:
    acts = FAMILIES[block].stage_keys
    large = "L" in stage.placement
    plain: dict[str, Any] = {
        "depth": stage.depth,
        "width": stage.width,
        "kernel": stage.kernel,
        "placement": stage.placement,
        "ffn_ratio": stage.ffn_ratio,
    }
    # Absent where the ratio decides, so that ids are those of the time before the key.
    if stage.ffn_hidden is not None:
        plain["ffn_hidden"] = stage.ffn_hidden
    if "dilations" in acts and large:
        plain["dilations"] = [list(branch) for branch in stage.dilations] or "none"
    if "structure" in acts:
        plain["structure"] = stage.structure
    if stage.structure == "se" and "se_ratio" in acts:
        plain["se_ratio"] = stage.se_ratio
    if "layer_scale" in acts:
        plain["layer_scale"] = stage.layer_scale or "none"
    if "dw_ratio" in acts:
        plain["dw_ratio"] = stage.dw_ratio
    for key in ("small_kernel", "strip"):
        if key in acts and large:
            plain[key] = getattr(stage, key) or "none"
    return plain


def _stage_from(plain: dict[str, Any]) -> Stage:
    rest: dict[str, Any] = {k: None if v == "none" else v for k, v in plain.items()}
    branches = rest.pop("dilations", None) or ()
    rest["layer_scale"] = rest.get("layer_scale") or 0.0
    rest["structure"] = plain.get("structure", "none")
    return Stage(dilations=tuple(sorted((k, r) for k, r in branches)), **rest)
