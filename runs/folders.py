"""The directory of a command that measures: tried before the work, made when the files are there.

So a command that fails, or is stopped, leaves nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

from runs.records import write_atomic
from search_space.errors import RunError


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


def _unusable(directory: Path, why: str | None) -> RunError:
    return RunError(f"--out {directory}: must be a directory of yours, got: {why}; name another")
