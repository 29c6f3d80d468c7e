"""The roofline of a network: where its time goes, as facts, text, table and files."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builders import build_network, inference_network
from evaluators.latency import device_facts
from evaluators.roofline import KINDS, OTHER, Layer, Roofline, measure_roofline
from runs.console import plain
from runs.describe import find_network
from runs.field_figure import png, svg
from runs.folders import require_writable, run_directory, write_files
from runs.latencies import first_device
from runs.plan import environment, resolved_device
from runs.roofline_figure import roofline_figure
from runs.wording import plural
from search_space.architecture import LARGE_KERNEL

MINOR = 0.005
"""Share of the whole time below which rows of the table are put together."""
PAGE, LABEL = 100, 12
"""Letters of a line, and of the label in front of it."""
WHAT = 40
"""Letters of the first column."""

COLUMNS = {
    "ms": (8, 3),
    "time%": (5, 1),
    "MMAC": (9, 2),
    "FLOP/B": (6, 1),
    "GF/s": (6, 1),
    "GB/s": (6, 1),
    "roof%": (5, 0),
}
"""Numbers of the table: width and decimals."""


def check_directory(net: str, out: Path | None) -> None:
    """Try whether the files of a network can be written, before anything is measured.

    Raises:
        RunError: something is there already, or the directory cannot be made.
    """
    require_writable(_directory(net, out))


def add_roofline(
    facts: dict[str, Any], *, device: str, batch_size: int, out: Path | None
) -> dict[str, Any]:
    """Measure the layers of a profiled network, write the files, and add all that to its facts.

    Args:
        facts: as `runs.describe.profiled` gives them.
        device: auto, cpu, cuda or cuda:N.
        batch_size: images of a measured batch.
        out: directory of the files; None names one below results/.

    Returns:
        The facts with one more key, "roofline".

    Raises:
        ReplkError: there is no such device, or the files cannot be written.
    """
    device = first_device(resolved_device(device))
    size = (facts["input"]["size"][0], facts["input"]["size"][1])
    channels = facts["input"]["channels"]
    network = replace(find_network(facts["name"])[0], size=size, channels=channels)
    measured = measure_roofline(
        inference_network(build_network(network, facts["classes"]).eval()),
        size=size,
        channels=channels,
        device=device,
        batch_size=batch_size,
    )
    found = document(measured) | {"batch_size": batch_size, "device": device_facts(device)}
    directory = _directory(facts["name"], out)
    names = [f"roofline.{ending}" for ending in ("png", "svg", "csv", "json")]
    found["files"] = [str(directory / name) for name in names]
    facts = facts | {"roofline": found, "versions": environment([])["versions"]}
    figure = roofline_figure(facts)
    contents = (png(figure), svg(figure), _csv(found["layers"]), json.dumps(facts, indent=2) + "\n")
    write_files(directory, dict(zip(names, contents, strict=True)))
    return facts


def document(measured: Roofline) -> dict[str, Any]:
    """Give what was measured as plain values."""
    machine = measured.machine
    return {
        "machine": {
            "peak_gflops": machine.peak_gflops,
            "peaks_gflops": machine.peaks,
            "memory_gbs": machine.memory_gbs,
            "cache_gbs": machine.cache_gbs,
            "bandwidths_gbs": [list(pair) for pair in machine.bandwidths],
            "call_us": machine.call_us,
        },
        "whole_ms": measured.whole_ms,
        "layers_ms": measured.layers_ms,
        "rounds": measured.rounds,
        "disturbed": measured.disturbed,
        "left_out": measured.left_out,
        "layers": [_layer(layer, measured) for layer in measured.layers],
    }


def _layer(layer: Layer, measured: Roofline) -> dict[str, Any]:
    bound_ms, limit = measured.machine.bound_ms(layer.effective_macs, layer.bytes)
    if measured.machine.call_us * layer.operators / 1e3 > bound_ms:
        limit = "calls"
    return {
        "name": layer.name or "network",
        "part": _part(layer.name),
        "kind": layer.kind,
        "what": layer.what,
        "operators": layer.operators,
        "output": list(layer.output),
        "ms": layer.ms,
        "share": layer.ms / measured.layers_ms,
        "macs": layer.macs,
        "effective_macs": layer.effective_macs,
        "bytes": layer.bytes,
        "intensity": layer.intensity,
        "gflops": layer.gflops,
        "gbs": layer.gbs,
        "bandwidth_gbs": measured.machine.bandwidth_gbs(layer.bytes),
        "bound_ms": bound_ms,
        "of_bound": bound_ms / layer.ms,
        "limit": limit,
    }


def roofline_text(found: dict[str, Any]) -> str:
    """Write the roofline for a person: the roofs, the layers put together, what the words mean.

    Args:
        found: the key "roofline" of the facts.
    """
    machine, device = found["machine"], found["device"]
    threads = "one thread of " if device["device"] == "cpu" else ""
    best = max(machine["peaks_gflops"], key=machine["peaks_gflops"].get)
    layers_ms, whole_ms = found["layers_ms"], found["whole_ms"]
    heading = (
        f"{threads}{device['name']}: at most {machine['peak_gflops']:.1f} GFLOP/s ({best}), "
        f"{machine['memory_gbs']:.1f} GB/s from memory, {machine['cache_gbs']:.1f} from the "
        f"fastest cache; calling an operator takes {machine['call_us']:.1f} us. The layers take "
        f"{layers_ms:.3f} of the {whole_ms:.3f} ms of the whole in torch "
        f"({100 * layers_ms / whole_ms:.0f} %; Python takes the rest), batch of "
        f"{found['batch_size']}, medians of {plural(found['rounds'], 'round')}."
    )
    if found["left_out"]:
        heading += f" {found['left_out']} more are left out: something else took the core."
    if found["disturbed"]:
        heading += (
            f" Disturbed: something else took the core in {found['disturbed']} of them; "
            "measure again on a quiet machine."
        )
    heading_lines = _labelled("roofline", textwrap.wrap(heading, PAGE - LABEL - 1))
    written = _labelled("written", [plain(path) for path in found["files"]])
    return "\n".join([*heading_lines, "", *_table(found["layers"]), "", *_legend(), "", *written])


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    """Put a label in front of the first line, and as much room in front of the others."""
    return [f"{'' if number else label:{LABEL}} {line}" for number, line in enumerate(lines)]


def _table(layers: Sequence[dict[str, Any]]) -> list[str]:
    """Lay out the parts of the network with their layers, then the kinds of layers."""
    lines = [
        " ".join([f"{'':{WHAT}}", *(f"{name:>{width}}" for name, (width, _) in COLUMNS.items())])
        + " limit"
    ]
    for part, of_part in itertools.groupby(layers, key=lambda layer: layer["part"]):
        own = list(of_part)
        lines.append(_row(part, own))
        groups = _alike(own)
        minor = [alike for alike in groups if sum(layer["share"] for layer in alike) < MINOR]
        if len(minor) == 1:
            minor = []
        lines += [_row(f"  {_words(alike)}", alike) for alike in groups if alike not in minor]
        if minor:
            rest = [layer for alike in minor for layer in alike]
            lines.append(_row(f"  {len(rest)} more, each row below {100 * MINOR:g} %", rest))
    lines.append("")
    for kind in KINDS:
        own = [layer for layer in layers if layer["kind"] == kind]
        if own:
            lines.append(_row(f"{kind}, {plural(len(own), 'layer')}", own))
    lines.append(_row(f"all, {plural(len(layers), 'layer')}", layers))
    return lines


def _alike(layers: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Put layers together that do the same on maps of the same shape."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for layer in layers:
        key = (layer["kind"], layer["what"], layer["operators"], tuple(layer["output"]))
        groups.setdefault(key, []).append(layer)
    return list(groups.values())


def _words(alike: Sequence[dict[str, Any]]) -> str:
    """Say how many layers do what, on which map, in the width of the first column."""
    layer = alike[0]
    shape = [str(side) for side in layer["output"][1:]]
    if layer["kind"] != OTHER:
        # The words name the widths already: a convolution gives (C, H, W), a product (H, W, C).
        shape = shape[:-1] if not layer["what"].startswith(("conv ", "depthwise ")) else shape[1:]
    at = f" at {'x'.join(shape)}" if shape else ""
    times = f"{len(alike)}x " if len(alike) > 1 else ""
    what = layer["what"]
    if len(f"  {times}{what}{at}") > WHAT:
        what = what.split(":")[0]
    return f"{times}{what}{at}"


def _row(words: str, layers: Sequence[dict[str, Any]]) -> str:
    total = {
        key: sum(layer[key] for layer in layers)
        for key in ("ms", "share", "effective_macs", "bytes", "bound_ms")
    }
    operations, ms = 2 * total["effective_macs"], total["ms"]
    values = (
        ms,
        100 * total["share"],
        total["effective_macs"] / 1e6,
        operations / total["bytes"] if total["bytes"] else 0.0,
        operations / ms / 1e6,
        total["bytes"] / ms / 1e6,
        100 * total["bound_ms"] / ms,
    )
    numbers = [
        f"{value:{width}.{decimals}f}"
        for value, (width, decimals) in zip(values, COLUMNS.values(), strict=True)
    ]
    limits = {layer["limit"] for layer in layers}
    limit = limits.pop() if len(limits) == 1 else ""
    return " ".join([f"{words:{WHAT}}", *numbers, limit]).rstrip()


def _legend() -> list[str]:
    text = (
        "MMAC: million multiply-adds whose tap falls on the map, not on its padding; FLOP: two a "
        "multiply-add. B: bytes that the operators read and write, weights included. roof: the "
        "least time that the peak and the bandwidth (of a working set of that many bytes) allow, "
        "over the time taken; limit: which of them sets it, or calls, where calling the operators "
        f"takes longer. large: a side of {LARGE_KERNEL} or more."
    )
    return textwrap.wrap(text, PAGE)


def _part(name: str) -> str:
    """Give the part of the network that a layer belongs to, in words."""
    stage = re.match(r"stages\.(\d+)", name)
    if stage:
        return f"stage {int(stage[1]) + 1}"
    transition = re.match(r"transitions\.(\d+)", name)
    if transition:
        return f"to stage {int(transition[1]) + 2}"
    return name.split(".")[0] or "network"


def _directory(net: str, out: Path | None) -> Path:
    return run_directory(out, f"roofline-{Path(net).stem}")


def _csv(layers: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(layers[0]), lineterminator="\n")
    writer.writeheader()
    for layer in layers:
        writer.writerow(layer | {"output": "x".join(map(str, layer["output"]))})
    return text.getvalue()
