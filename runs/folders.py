"""The directory of a run or a measurement: never one that holds something.

That of a measurement is tried before the work and made when the files are there, so a command that
fails, or is stopped, leaves nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

from runs.records import LOCK_NAME, RECORD_NAME, write_atomic
from search_space.errors import RunError

RESULTS = Path("results")
"""Where runs go that are given no --out."""
RESULTS_VARIABLE = "REPLK_SEARCH_RESULTS"
"""Environment variable that names another folder for them; relative to the user's home."""
THROWN_AWAY = ("runtime_resources", "working_dir_files")
"""Folders, one in the other, where Ray unpacks what a job was submitted with; it goes with it."""
LONGEST_SLUG = 60
"""Letters of a space's name in the name of its directory."""


def run_directory(out: Path | None, name: str) -> Path:
    """Give the directory of a new run or measurement: `out`, or results/<name>-<UTC time>.

    The environment variable REPLK_SEARCH_RESULTS names another folder than results. A Ray job works
    in a copy that is thrown away, so what is relative there lies in that folder too, which is
    ~/replk-search/results on the node of the job where the variable is not set.

    Raises:
        RunError: something is there already.
    """
    results = _results()
    if out is not None and _thrown_away(Path.cwd()):
        out = results / out
    if out is None:
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:LONGEST_SLUG].strip("-.") or "run"
        base = results / f"{slug}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        more = (base.with_name(f"{base.name}-{n}") for n in itertools.count(2))
        return next(path for path in itertools.chain([base], more) if not path.exists())
    try:
        taken_already = out.is_dir() and not all(map(_left_before_a_run, out.iterdir()))
    except OSError as error:
        raise RunError(
            f"--out {out}: must be a directory of yours, got: {error.strerror}; name another"
        ) from error
    if taken_already or (os.path.lexists(out) and not out.is_dir()):
        raise RunError(
            f"--out {out}: must not exist yet, a result is never overwritten; if it is a run, "
            f"continue it with 'replk-search resume {out}', or name another directory"
        )
    return out


def _left_before_a_run(path: Path) -> bool:
    """Whether a file is of a run that ended, by a full disk or a kill, before it had a record."""
    return (
        path.name == LOCK_NAME or re.fullmatch(rf"\.{RECORD_NAME}\.\d+\.tmp", path.name) is not None
    )


def require_writable(directory: Path) -> None:
    """Try whether a directory can be made and written, and leave nothing of it.

    Only trying tells: permissions say nothing of a full or special file system.

    Raises:
        RunError: it cannot.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise _unusable(directory, error.strerror) from error
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):  # another command writes there by now
                path.rmdir()


def write_files(directory: Path, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Make a directory and write files into it, by name; gives their paths.

    Raises:
        RunError: it cannot be made, or one of them cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(directory, error.strerror) from error
    for name, content in contents.items():
        write_atomic(directory / name, content)
    return [directory / name for name in contents]


def _results() -> Path:
    """Give the folder of runs that are given no --out."""
    if named := os.environ.get(RESULTS_VARIABLE):
        return Path.home() / Path(named).expanduser()
    return Path.home() / "replk-search" / RESULTS if _thrown_away(Path.cwd()) else RESULTS


def _thrown_away(folder: Path) -> bool:
    """Say whether Ray made a folder for one job, or one above it."""
    return any(pair == THROWN_AWAY for pair in itertools.pairwise(folder.parts))


def _unusable(directory: Path, why: str | None) -> RunError:
    return RunError(f"--out {directory}: must be a directory of yours, got: {why}; name another")
