"""The command `compare`: runs side by side as a table and as files, or as JSON alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from runs.compare.facts import facts
from runs.compare.measures import INDICATORS, Comparison, compare
from runs.compare.page import document
from runs.compare.reading import read_runs
from runs.compare.words import INDICATOR_WORDS, remarks, value
from runs.console import PLAIN_WIDTH
from runs.folders import require_writable, run_directory, write_files
from runs.page.html import html
from runs.page.markdown import markdown
from runs.page.pictures import pictures


def as_text(paths: Sequence[Path], *, wanted: Sequence[str]) -> str:
    """Compare runs and write nothing.

    Returns:
        What compare.json would hold.

    Raises:
        ReplkError: a run cannot be used, or the runs do not compare.
    """
    return json.dumps(facts(compare(read_runs(paths), wanted)), indent=2)


def begin(paths: Sequence[Path], *, wanted: Sequence[str], out: Path | None, quiet: bool) -> Group:
    """Compare runs and write the files.

    Returns:
        The table to show.

    Raises:
        ReplkError: a run or the directory cannot be used, or the runs do not compare.
    """
    require_writable(run_directory(out, "compare"))
    comparison = compare(read_runs(paths), wanted)
    terminal = Console(stderr=True, highlight=False, quiet=quiet)
    # Named anew: without --out, another command may have taken the name in the meantime.
    for path in write(run_directory(out, "compare"), comparison):
        terminal.print(Text(f"  {path}"), soft_wrap=True)
    return table(comparison)


def show(page: Group) -> None:
    """Print the table, whole where there is no terminal that has a width."""
    terminal = Console(highlight=False)
    if not terminal.is_terminal:
        terminal = Console(highlight=False, width=PLAIN_WIDTH)
    terminal.print(page)


def table(comparison: Comparison) -> Group:
    """Lay out the indicators, a run a row, with what must be known of them below."""
    shown = Table(
        title=f"{len(comparison.runs)} runs by "
        f"{' and '.join(own.name for own in comparison.objectives)}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    early = [] if comparison.level else [f"HV at {comparison.budget:g}"]
    for heading in ("run", "group"):
        shown.add_column(heading)
    numbers = ("seed", "spent", *(INDICATOR_WORDS[name] for name in INDICATORS), *early)
    for heading in (*numbers, "own front", "on joint front", "HV alone"):
        shown.add_column(heading, justify="right", no_wrap=True)
    letters = {place: own.group.letter for own in comparison.groups for place in own.group.members}
    for place, own in enumerate(comparison.runs):
        cells = [own.run.name, letters[place], str(own.run.plan.settings.seed)]
        cells.append(f"{own.run.spent:g}")
        cells += [value(getattr(own.indicators, name)) for name in INDICATORS]
        cells += [value(own.level.hypervolume)] if early else []
        cells += [str(own.own), str(own.contribution.points), value(own.contribution.alone)]
        shown.add_row(*(Text(cell) for cell in cells))
    return Group(shown, Text(), *(Text(line) for line in remarks(comparison)))


def write(directory: Path, comparison: Comparison) -> list[Path]:
    """Write figures/, front.csv, compare.json, compare.md and compare.html, in this order.

    Raises:
        RunError: the directory cannot be made, or one of them cannot be written.
    """
    page = document(comparison)
    drawn = pictures(page)
    images: dict[str, str | bytes] = {}
    for key, picture in drawn.items():
        images |= {f"{key}.png": picture.png, f"{key}.svg": picture.svg}
    paths = write_files(directory / "figures", images)
    return paths + write_files(
        directory,
        {
            "front.csv": comparison.front.to_csv(index=False),
            "compare.json": json.dumps(facts(comparison), indent=2) + "\n",
            "compare.md": markdown(page),
            "compare.html": html(page, drawn),
        },
    )
