"""What networks of a front really see: effective receptive fields, measured for the report.

On the test images of the run, at their size, with the longest-trained weights that the run kept. A
report must come fast and must not fail for a picture: work is capped in multiply-adds, and where
weights or images are gone, the reason stands in the place of the map. What was measured before with
the same weights is read from `figures/fields.json`, which also holds when the images have moved.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from builders import Network, build_network, merge_network
from evaluators.cost import cost
from evaluators.images import ImageData
from evaluators.receptive_field import PEAK, Field, extent, receptive_fields
from runs.export.chosen import Chosen, choose
from runs.fields import Settings, images_for
from runs.history import History
from runs.page.findings import Seen
from runs.plan import Plan
from search_space.errors import ReplkError

NAME = "fields.json"
"""In the folder of the figures."""
FORMAT = 1

IMAGES, FEWEST = 64, 1
"""Images in an average: as a rule, and for networks that are large."""
MACS = 1.5e10
"""Multiply-adds of all forward passes for one report: 7 s of a core for networks of 28 x 28 pixels,
15 s at 224 x 224."""
TOO_LONG = "measuring it would take long here; `replk-search erf` does it"
SIDE = 64
"""Longest side of a map on the page; larger ones are averaged."""
PIXELS = 4e8
"""Pixels of a data set that is decoded for a report; a session has them at hand, however many."""

Seens = dict[str, Seen]
Reasons = dict[str, str]
"""Why a network has no map, by its id."""


def fields_of_front(
    directory: Path, plan: Plan, history: History, networks: Sequence[str]
) -> tuple[Seens, Reasons]:
    """Measure the effective receptive field of the last stage of some networks; never raises.

    Args:
        directory: of the run.
        plan: of the run; its data may be a decoded copy.
        history: of the run.
        networks: ids, those to be measured first first.

    Returns:
        What was measured, and why the others were not.
    """
    known = _known(directory / "figures" / NAME)
    seen: Seens = {}
    reasons: Reasons = {}
    left: list[Chosen] = []
    for network in networks:
        try:
            chosen = choose(directory, plan, history, network)
            stamp = None if chosen.weights is None else _stamp(chosen.weights.path)
        except (ReplkError, OSError) as error:
            reasons[network] = _first_line(error)
            continue
        if stamp is None:
            reasons[network] = "the run kept no weights of this network"
        elif (found := known.get(network)) and found.weights == stamp:
            seen[network] = found
        else:
            left.append(chosen)
    if left:
        try:
            data = _images(plan)
        except (ReplkError, OSError, RuntimeError, ValueError) as error:
            reasons |= dict.fromkeys((one.id for one in left), f"no images, {_first_line(error)}")
            return seen, reasons
        for network, told in _measured(left, plan, data):
            if isinstance(told, Seen):
                seen[network] = told
            else:
                reasons[network] = told
    return seen, reasons


def as_json(seen: Mapping[str, Seen]) -> str:
    """Write fields as the file that `fields_of_front` reads: maps as whole numbers 0 to 255."""
    networks = {
        network: {
            "weights": one.weights,
            "size": list(one.size),
            "images": one.images,
            "area50": one.area50,
            "sigma_px": one.sigma_px,
            "saturated": one.saturated,
            "map": np.rint(255 * one.map).astype(int).tolist(),
        }
        for network, one in seen.items()
    }
    document = {"format": FORMAT, "networks": networks}
    return json.dumps(document, separators=(",", ":")) + "\n"


def _known(path: Path) -> Seens:
    """Read what an earlier report measured; nothing where that cannot be used."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            return {}
        return {network: _read(plain) for network, plain in document["networks"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _read(plain: Mapping[str, Any]) -> Seen:
    height, width = plain["size"]
    map_HW = np.array(plain["map"], dtype=float) / 255
    if map_HW.ndim != 2:
        raise ValueError("a map has rows and columns")
    return Seen(
        map=map_HW,
        size=(int(height), int(width)),
        area50=float(plain["area50"]),
        sigma_px=float(plain["sigma_px"]),
        saturated=bool(plain["saturated"]),
        images=int(plain["images"]),
        weights=str(plain["weights"]),
    )


def _images(plan: Plan) -> ImageData:
    """Read the images; of a large set only a decoded copy.

    Raises:
        ReplkError: they are gone, or it is large and there is no copy.
    """
    told = plan.facts.get("data") or {}
    height, width = told.get("size") or plan.data.size
    count = sum(int(told.get(split) or 0) for split in ("train", "val", "test"))
    if plan.data.copy is None and count * height * width > PIXELS:
        raise ReplkError(f"reading all {count:,} of them would take long")
    return plan.data.load()


def _measured(
    networks: Sequence[Chosen], plan: Plan, data: ImageData
) -> Iterator[tuple[str, Seen | str]]:
    """Measure networks, first to last, as far as the multiply-adds go."""
    left = MACS
    for place, one in enumerate(networks):
        macs = max(1, cost(one.architecture, plan.num_classes).macs_train)
        # What is left is shared; the first ones have their fewest images before the last ones.
        fair = int(left / (len(networks) - place) / macs)
        images = min(IMAGES, max(FEWEST, fair), len(data.test))
        if images * macs > left:
            yield one.id, TOO_LONG
            continue
        left -= images * macs
        try:
            yield one.id, _measure(one, plan, data, images)
        except (ReplkError, OSError, SafetensorError, RuntimeError, ValueError) as error:
            yield one.id, _first_line(error)


def _measure(one: Chosen, plan: Plan, data: ImageData, images: int) -> Seen:
    assert one.weights is not None
    architecture, path = one.architecture, one.weights.path
    settings = Settings(size=architecture.size, images=images)
    pixels_NCHW = images_for(data, architecture.channels, settings, statistics=data.mean_std)
    with torch.random.fork_rng(devices=[]):
        network = build_network(architecture, plan.num_classes)
    network.load_state_dict(load_file(path))
    merged = merge_network(network.eval()).requires_grad_(requires_grad=False)
    assert isinstance(merged, Network)
    field = receptive_fields(merged, pixels_NCHW, last=True)[-1]
    found = extent(field.map, field.centre)
    return Seen(
        map=page_map(field),
        size=architecture.size,
        area50=found.area50,
        sigma_px=found.sigma_px,
        saturated=found.saturated,
        images=field.images,
        weights=_stamp(path),
    )


def page_map(field: Field) -> NDArray[np.float64]:
    """Give a map for the page: log10(1 + x), peak 1e3, as 256 steps from 0 to 1; see `Seen`."""
    linear = torch.from_numpy(field.map / field.map.max())[None, None]
    height, width = field.map.shape
    if (longest := max(height, width)) > SIDE:
        rows, columns = (max(1, round(side * SIDE / longest)) for side in (height, width))
        linear = F.adaptive_avg_pool2d(linear, (rows, columns))
    logged: Tensor = torch.log1p(linear / linear.max() * PEAK) / np.log1p(PEAK)
    steps: NDArray[np.float64] = np.rint(255 * logged[0, 0].numpy()) / 255
    return steps


def _stamp(path: Path) -> str:
    """Name a file of weights with a checksum of its content."""
    return f"{path.name} {zlib.crc32(path.read_bytes()):08x}"


def _first_line(error: Exception) -> str:
    """Say what was wrong, without what to do about it: a report is no place for that."""
    lines = str(error).splitlines()
    return lines[0].split("; ")[0] if lines else type(error).__name__
