"""Stem, stages and transitions: what a network and a backbone have in common."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

import torch
from torch import Tensor, nn

from builders.backends import runs_eagerly
from search_space.architecture import Architecture
from search_space.errors import DataError
from search_space.families import stage_maps


class Trunk(nn.Module):
    """map_n = stage_n(transition_n(map_n-1)), map_1 = stage_1(stem(images)).

    Inside, maps are channels_last, where a CPU has its fast convolutions and the pointwise layers
    need no copies; images may come in any layout, and in any size from `least_side()` on.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        stem: nn.Module,
        stages: Iterable[nn.Module],
        transitions: Iterable[nn.Module],
    ) -> None:
        """Join the parts; there is one transition before every stage but the first."""
        super().__init__()
        self.architecture = architecture
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.transitions = nn.ModuleList(transitions)

    def least_side(self, *, pixels: int = 1) -> int:
        """Give the least height and width of an image of which every map has `pixels` a side.

        One pixel is enough to run. `torch.export` with dynamic sizes wants two: to it a side of
        one pixel is a case of its own.
        """
        return next(side for side in count(1) if min(min(self._maps((side, side)))) >= pixels)

    def features(self, x_BCHW: Tensor) -> list[Tensor]:
        """Give the map after every stage, first to last.

        Raises:
            DataError: the images are too small for the network, or for its batch norms in training.
        """
        if runs_eagerly():  # in a graph these would be guards on sizes that may be dynamic
            self._check_size(x_BCHW)
        y_BCHW = self.stem(x_BCHW.contiguous(memory_format=torch.channels_last))
        maps = []
        for number, stage in enumerate(self.stages):
            if number:
                y_BCHW = self.transitions[number - 1](y_BCHW)
            y_BCHW = stage(y_BCHW)
            maps.append(y_BCHW)
        return maps

    def _maps(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        stem = self.architecture.stem
        return stage_maps(
            size,
            len(self.stages),
            stem=stem.kind,
            stride=stem.stride,
            transition=self.architecture.transition,
        )

    def _check_size(self, x_BCHW: Tensor) -> None:
        if x_BCHW.dim() != 4:
            raise DataError(
                "images: must have four dimensions (images, channels, height, width), "
                f"got {tuple(x_BCHW.shape)}; stack them to a batch"
            )
        images, _, height, width = x_BCHW.shape
        rows, columns = self._maps((height, width))[-1]
        if not rows or not columns:
            raise DataError(
                f"images: each side must be at least {self.least_side()} pixels for every stage to "
                f"make a map, got {height} x {width}; resize them"
            )
        single = self.training and images * rows * columns == 1
        before = ("stem", "stages", "transitions")
        behind = (child for name, child in self.named_children() if name not in before)
        on_last_map = (part for last in (self.stages[-1], *behind) for part in last.modules())
        if single and any(isinstance(part, nn.BatchNorm2d) for part in on_last_map):
            raise DataError(
                "images: batch norms need more than one value a channel in training, got one "
                f"image of {height} x {width} pixels, of which the last map is 1 x 1; "
                "use more or larger images, or call eval()"
            )
