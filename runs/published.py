"""The table of all published networks: what we count beside what their authors print."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from evaluators.cost import Cost, cost
from search_space.families import FAMILIES
from search_space.published import SECOND_HAND, Published, published_networks

CLASSES = 1000
"""Of ImageNet-1K."""
WIDTH = 120
"""Columns that the table may take."""
NOTES = (
    "Computed by us: params and MACs (multiply-adds of one image of 224x224), of 1000 classes and "
    "of the merged network as its authors count it: UniRepLKNet fully merged, RepLKNet with its "
    "small kernels merged and all other batch norms kept, ConvNeXt and SLaK as trained "
    "(SLaK dense).",
    "Published by the authors: top-1 on ImageNet-1K in per cent, at so many pixels. `trained` "
    "names what was seen before ImageNet-1K, or a training shorter than the usual 300 epochs: such "
    "figures compare with each other only.",
    "Depths and kernels are by stage; 13/3 has every second block 3x3, 13/3/3 two of three.",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A published network and its cost at 224 px."""

    network: Published
    cost: Cost


def published_rows() -> list[Row]:
    """Give every published network, by family, then by size."""
    rows = [Row(found, cost(found.architecture, CLASSES)) for found in published_networks()]
    order = list(FAMILIES)
    return sorted(
        rows,
        key=lambda row: (
            order.index(row.network.architecture.block),
            row.cost.params_merged,
            row.network.name,
        ),
    )


def published_facts_json() -> list[dict[str, Any]]:
    """Give the table as plain facts, computed and published ones apart."""
    return [_plain(row) for row in published_rows()]


def published_page() -> str:
    """Write the table for a person."""
    rows = published_rows()
    lines = [f"{len(rows)} published networks"]
    heading = _line(
        ("name", "depths", "kernels", "widths", "params", "MACs", "top-1", "px", "trained")
    )
    for block, group in groupby(rows, key=lambda row: row.network.architecture.block):
        lines += ["", f"family {block}", heading]
        lines += [_line(_cells(row)) for row in group]
    lines.append("")
    for note in NOTES:
        lines += textwrap.wrap(note, WIDTH)
    second = [row.network for row in rows if row.network.second_hand]
    if second:
        lines.append(f"* {SECOND_HAND}: read in notes on the paper, not in the paper itself.")
    lines += textwrap.wrap(
        "'replk-search profile NAME' says more of one; 'replk-search --warm-start published' "
        "begins a search with those that fit its space.",
        WIDTH,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    network, stages = row.network, row.network.architecture.stages
    trained = "" if network.pretraining == "none" else network.pretraining
    if network.epochs is not None:
        trained = f"{network.epochs} epochs"
    return (
        network.name,
        "-".join(str(stage.depth) for stage in stages),
        "-".join(_kernels(stage.kernels) for stage in stages),
        "-".join(str(width) for width in network.architecture.widths),
        f"{row.cost.params_merged / 1e6:.1f}M",
        f"{row.cost.macs_merged / 1e9:.2f}G",
        f"{network.top1:.{2 if network.top1 * 10 % 1 else 1}f}{'*' if network.second_hand else ''}",
        str(network.size),
        trained,
    )


def _kernels(kernels: tuple[int, ...]) -> str:
    """Write the kernels of a stage without repeating what repeats: 13, 13/3 or 13/3/3."""
    period = next(
        n
        for n in range(1, len(kernels) + 1)
        if kernels == (kernels[:n] * len(kernels))[: len(kernels)]
    )
    return "/".join(map(str, kernels[:period]))


def _line(cells: tuple[str, ...]) -> str:
    name, depths, kernels, widths, params, macs, top1, size, trained = cells
    return (
        f"{name:39} {depths:8} {kernels:14} {widths:17} {params:>6} {macs:>6} {top1:>6} {size:>3} "
        f"{trained}"
    ).rstrip()


def _plain(row: Row) -> dict[str, Any]:
    network = row.network
    told = {
        key: value
        for key, value in asdict(network).items()
        if key not in ("name", "architecture") and value is not None
    }
    stages = network.architecture.stages
    return {
        "name": network.name,
        "family": network.architecture.block,
        "id": network.architecture.id,
        "depths": [stage.depth for stage in stages],
        "widths": list(network.architecture.widths),
        "kernels": [list(stage.kernels) for stage in stages],
        "computed": {
            "size": list(network.architecture.size),
            "classes": CLASSES,
            "params_train": row.cost.params_train,
            "params_merged": row.cost.params_merged,
            "params_inference": row.cost.params_inference,
            "macs_train": row.cost.macs_train,
            "macs_merged": row.cost.macs_merged,
            "macs_inference": row.cost.macs_inference,
        },
        "published": {**told, "second_hand": network.second_hand},
    }
