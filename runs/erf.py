"""The command `erf`: effective receptive fields of networks as a table, a figure and files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from evaluators.receptive_field import SHARES, Extent
from runs.console import PLAIN_WIDTH, duration, plain
from runs.field_figure import Column, field_figure, images_text, png, svg
from runs.fields import (
    UNTRAINED,
    Measured,
    Settings,
    check_weights,
    find_subjects,
    measure,
    samples_for,
)
from runs.folders import require_writable, run_directory, write_files
from runs.plan import environment
from runs.ranking import kernels_text


def begin(
    names: Sequence[str], settings: Settings, *, out: Path | None, as_json: bool, quiet: bool
) -> str | Table:
    """Measure the networks and write the files.

    Returns:
        What to show: the JSON text, or the table.

    Raises:
        ReplkError: a network, checkpoint, data set or directory cannot be used.
    """
    require_writable(run_directory(out, "erf"))
    subjects = find_subjects(names, settings)
    samples = samples_for(subjects, settings)
    for subject in subjects:
        check_weights(subject)
    terminal = Console(stderr=True, highlight=False, quiet=quiet)
    measured = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} images"),
        TimeRemainingColumn(),
        console=terminal,
        transient=True,
        disable=quiet or not terminal.is_terminal,
    ) as progress:
        for subject, sample in zip(subjects, samples, strict=True):
            task = progress.add_task(plain(subject.name), total=settings.images)
            report = partial(_advance, progress, task)
            measured.append(measure(subject, sample, settings, report=report))
            terminal.print(Text(f"{plain(subject.name)}: {duration(measured[-1].seconds)}"))
    facts = document(measured, settings)
    # Named anew: without --out, another command may have taken the name in the meantime.
    paths = write(run_directory(out, "erf"), measured, facts)
    facts["files"] = [str(path) for path in paths]
    for path in paths:
        terminal.print(Text(f"  {path}"), soft_wrap=True)
    return json.dumps(facts, indent=2) if as_json else table(measured, settings)


def show(page: Table) -> None:
    """Print the table, whole where there is no terminal that has a width."""
    terminal = Console(highlight=False)
    if not terminal.is_terminal:
        terminal = Console(highlight=False, width=PLAIN_WIDTH)
    terminal.print(page)


def table(measured: Sequence[Measured], settings: Settings) -> Table:
    """Lay out the numbers, a stage a row."""
    height, width = settings.size
    names = [f"r{share * 100:.0f} %" for share in SHARES]
    data = dict.fromkeys(plain(one.sample.data.name) for one in measured)
    of_it = f" of {next(iter(data))}" if len(data) == 1 else ""
    images = images_text([field for one in measured for field in one.fields])
    untrained = any(not one.subject.trained for one in measured)
    shown = Table(
        title=f"effective receptive fields at {height}x{width} px, {images}{of_it}",
        title_justify="left",
        box=None,
        pad_edge=False,
        caption="r: least centred square with 20, 30, 50, 99 % of log10(1 + x), peak "
        f"{settings.peak:g}, over the image. sigma: radius sqrt(sum p d^2 / 2); area: least share "
        "of the pixels with 50, 95 % of the gradient; both without the logarithm. |g|: with the "
        "negative part. Saturated: the image cuts the field, so sigma is a lower bound; use a "
        f"larger --size.{f' Untrained: {UNTRAINED}.' * untrained}{_normalised(measured)}",
        caption_justify="left",
    )
    for column in ("network", "weights", *([] if of_it else ["data"]), "stage"):
        shown.add_column(column, no_wrap=column == "stage")
    for column in (*names, "sigma px", "area50 %", "area95 %", "sigma |g|", "saturated"):
        shown.add_column(column, justify="right", no_wrap=True)
    for one in measured:
        rows = zip(one.fields, one.extents, one.absolute, strict=True)
        for index, (field, found, absolute) in enumerate(rows):
            kind = "trained" if one.subject.trained else "untrained"
            last = field.stage == len(one.fields)
            shown.add_row(
                *(
                    Text(text)
                    for text in (
                        "" if index else plain(one.subject.name),
                        "" if index else kind,
                        *([] if of_it else ["" if index else plain(one.sample.data.name)]),
                        f"{field.stage}{' (last)' if last else ''}",
                        *(f"{100 * value:.1f}" for value in found.r),
                        f"{found.sigma_px:.1f}",
                        f"{100 * found.area50:.2f}",
                        f"{100 * found.area95:.2f}",
                        f"{absolute.sigma_px:.1f}",
                        "yes" if found.saturated else "",
                    )
                ),
                end_section=last,
            )
    return shown


def document(measured: Sequence[Measured], settings: Settings) -> dict[str, Any]:
    """Give everything that was measured and what is needed to repeat it, as plain values."""
    data = [
        {"name": one.sample.data.name, "split": "test", "sha256": one.sample.data.sha256}
        for one in measured
    ]
    return {
        "size": list(settings.size),
        "images": settings.images,
        "data": data[0] if all(one == data[0] for one in data) else None,
        "seed": settings.seed,
        "peak": settings.peak,
        "shares": list(SHARES),
        "untrained": UNTRAINED,
        "versions": environment([])["versions"],
        "networks": [
            {
                "name": one.subject.name,
                "id": one.subject.architecture.id,
                "kernels": kernels_text(one.subject.architecture.stages),
                "trained": one.subject.trained,
                "weights": one.subject.origin,
                "data": its_data,
                "normalised": {
                    "by": one.sample.normalised,
                    "mean": list(one.sample.statistics[0]),
                    "deviation": list(one.sample.statistics[1]),
                },
                "seconds": round(one.seconds, 2),
                "stages": [
                    {
                        "stage": field.stage,
                        "centre": list(field.centre),
                        **_numbers(found),
                        **{f"abs_{key}": value for key, value in _numbers(absolute).items()},
                        "images": field.images,
                        "skipped": field.skipped,
                    }
                    for field, found, absolute in zip(
                        one.fields, one.extents, one.absolute, strict=True
                    )
                ],
            }
            for one, its_data in zip(measured, data, strict=True)
        ],
    }


def write(directory: Path, measured: Sequence[Measured], facts: dict[str, Any]) -> list[Path]:
    """Write erf.png, erf.svg, erf.csv and erf.json; only now the directory is made.

    Raises:
        RunError: it cannot be made, or one of them cannot be written.
    """
    columns = [
        Column(
            name=plain(one.subject.name),
            note="trained" if one.subject.trained else "untrained",
            data=plain(one.sample.data.name),
            fields=one.fields,
            extents=one.extents,
        )
        for one in measured
    ]
    figure = field_figure(columns, peak=facts["peak"], note=UNTRAINED)
    contents: dict[str, str | bytes] = {
        "erf.png": png(figure),
        "erf.svg": svg(figure),
        "erf.csv": _csv(facts),
        "erf.json": json.dumps(facts, indent=2) + "\n",
    }
    return write_files(directory, contents)


def _normalised(measured: Sequence[Measured]) -> str:
    """Say which networks read images normalised by other statistics than those of the data."""
    kinds: dict[str, list[str]] = {}
    for one in measured:
        if one.sample.statistics != one.sample.data.mean_std:
            kinds.setdefault(one.sample.normalised, []).append(plain(one.subject.name))
    return "".join(
        f" Mean and deviation of the images of {', '.join(names)}: {kind}."
        for kind, names in kinds.items()
    )


def _advance(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)


def _numbers(found: Extent) -> dict[str, Any]:
    return {
        **{f"r{share * 100:.0f}": value for share, value in zip(SHARES, found.r, strict=True)},
        "sigma_px": found.sigma_px,
        "area50": found.area50,
        "area95": found.area95,
        "frame": found.frame,
        "saturated": found.saturated,
    }


def _csv(facts: dict[str, Any]) -> str:
    rows = [
        {
            **{key: net[key] for key in ("name", "id", "kernels", "trained", "weights")},
            "data": net["data"]["name"],
            "height": facts["size"][0],
            "width": facts["size"][1],
            **{k: v for k, v in stage.items() if k != "centre"},
            "centre_row": stage["centre"][0],
            "centre_column": stage["centre"][1],
        }
        for net in facts["networks"]
        for stage in net["stages"]
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
