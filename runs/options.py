"""What options of several commands share."""

from __future__ import annotations

import click


def size_option(
    _context: click.Context, _option: click.Parameter, given: str | None
) -> tuple[int, int] | None:
    """Read `32` or `24x32` as height and width."""
    if given is None:
        return None
    sides = given.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() and 0 < int(side) <= 8192 for side in sides):
        raise click.BadParameter(
            f"must be one side or HEIGHTxWIDTH in pixels, got {given!r}; for example 32 or 24x32"
        )
    return int(sides[0]), int(sides[-1])
