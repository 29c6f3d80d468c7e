"""A network without its head: the map of every stage, for detection, segmentation and the like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from builders.backends import AUTO, Backends
from builders.layers import MapNorm
from builders.network import Network, build_network
from builders.trunk import Trunk
from search_space.architecture import Architecture
from search_space.errors import SpaceError, nearest

OutNorms = Literal["none", "layer", "batch"]


class Backbone(Trunk):
    """(B, channels, H, W) to the maps (B, widths[i], H / strides[i], W / strides[i]).

    Halves are rounded as the family pads. Images may have any size from `least_side()` on. The
    names of the parameters are those of `Network`: its state dict loads, and what belongs to the
    head or to stages that are not used is passed over.
    """

    def __init__(
        self,
        network: Trunk,
        *,
        out_stages: Sequence[int] | None = None,
        out_norms: OutNorms = "none",
    ) -> None:
        """Share the stem, stages and transitions of a network, see `features_only`."""
        rows = network.architecture.stages
        chosen = _chosen(out_stages, len(rows))
        used = max(chosen) + 1
        super().__init__(
            network.architecture,
            stem=network.stem,
            stages=network.stages[:used],
            transitions=network.transitions[: used - 1],
        )
        self.out_stages = chosen
        """Numbers of the stages whose maps come out, from 0, in this order."""
        self.widths = tuple(network.architecture.widths[index] for index in chosen)
        """Channels of every map."""
        stride = network.architecture.stem.stride
        self.strides = tuple(stride * 2**index for index in chosen)
        """Pixels of the image that one step on every map stands for."""
        self.out_norms = nn.ModuleList(_norm(out_norms, width) for width in self.widths)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Give the map of every chosen stage.

        Raises:
            DataError: the images are too small.
        """
        maps = self.features(x_BCHW)
        return [norm(maps[i]) for i, norm in zip(self.out_stages, self.out_norms, strict=True)]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        foreign = [f"{prefix}head."]
        for part in ("stages", "transitions"):
            kept = len(getattr(self, part))
            all_of_them = len(self.architecture.stages)
            foreign += [f"{prefix}{part}.{number}." for number in range(kept, all_of_them)]
        for name in [name for name in state_dict if name.startswith(tuple(foreign))]:
            del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def build_backbone(
    architecture: Architecture,
    *,
    drop_path: float = 0.0,
    backends: Backends = AUTO,
    out_stages: Sequence[int] | None = None,
    out_norms: OutNorms = "none",
) -> Backbone:
    """Build an architecture without its head; first weights and drop path as in `build_network`.

    Args:
        architecture: what to build; the size that it names does not bind the images.
        drop_path: see `build_network`.
        backends: what computes the depthwise convolutions while it trains.
        out_stages: see `features_only`.
        out_norms: see `features_only`.

    Raises:
        SpaceError: where a part cannot be built, or a stage does not exist.
    """
    network = build_network(architecture, 1, drop_path=drop_path, backends=backends)
    return features_only(network, out_stages=out_stages, out_norms=out_norms)


def features_only(
    network: Network,
    *,
    out_stages: Sequence[int] | None = None,
    out_norms: OutNorms = "none",
) -> Backbone:
    """Give the backbone of a network, trained or merged or new; both share their weights.

    Args:
        network: its head is left out, and with `out_stages` the stages behind the last chosen.
        out_stages: stages whose maps come out, 0 the first, -1 the last; None is all.
        out_norms: a new norm on every map: "layer" normalises the channels of each pixel, as
            ConvNeXt and UniRepLKNet do for detection and segmentation; "batch" is a batch norm, as
            RepLKNet-XL does.

    Raises:
        SpaceError: a stage that the network does not have, or an unknown norm.
    """
    return Backbone(network, out_stages=out_stages, out_norms=out_norms)


def _chosen(out_stages: Sequence[int] | None, stages: int) -> tuple[int, ...]:
    if out_stages is None:
        return tuple(range(stages))
    chosen = tuple(index + stages if index < 0 else index for index in out_stages)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(stages)):
        raise SpaceError(
            f"out_stages: must name different stages from 0 to {stages - 1}, "
            f"got {tuple(out_stages)}; -1 is the last"
        )
    return chosen


def _norm(kind: OutNorms, width: int) -> nn.Module:
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "none": nn.Identity,
        "layer": MapNorm,
        "batch": nn.BatchNorm2d,
    }
    if kind not in kinds:
        raise SpaceError(f"out_norms: must be known, got {kind!r}; {nearest(kind, kinds)}")
    return kinds[kind](width)
