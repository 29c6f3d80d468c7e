"""The errors that a user can cause; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ReplkError(Exception):
    """A user's mistake, told as `where: what must hold, what was given; what to do`."""

    exit_code = 2


class SpaceError(ReplkError):
    """A design space or an architecture that cannot be read or cannot exist."""


class DataError(ReplkError):
    """A data set that cannot be used."""


class CheckpointError(ReplkError):
    """A checkpoint that cannot be read, or is of another network."""


class RunError(ReplkError):
    """A run directory or a setting of a run that cannot be used."""


class WorkFailed(ReplkError):
    """The work itself failed, through no mistake in what was asked (exit code 1)."""

    exit_code = 1


def nearest(given: str, known: Iterable[str]) -> str:
    """Say what to write instead of `given`: the nearest known name, or all of them.

    Returns:
        `did you mean 'depth'?` where a name is near, else `must be one of: a, b, c`.
    """
    names = [str(name) for name in known]
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"must be one of: {', '.join(names)}"


def shown(value: object) -> str:
    """Write a value for a message: its repr, in one short line whatever it holds."""
    text = repr(value)
    text = text if len(text) <= 80 else f"{text[:60]}... ({len(text):,} characters)"
    return text.encode("ascii" if not text.isprintable() else "utf-8", "backslashreplace").decode()
