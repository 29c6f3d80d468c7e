from __future__ import annotations

import os
from pathlib import Path

import pytest

from runs.folders import require_writable, write_files
from search_space.errors import RunError


def test_trying_a_directory_leaves_nothing_of_it(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    require_writable(tmp_path / "a")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_directory_that_cannot_be_made_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for refused in (require_writable, lambda path: write_files(path, {"x": "y"})):
        with pytest.raises(RunError, match=r"^--out .*file/x: must be a directory of yours, got: "):
            refused(tmp_path / "file" / "x")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "closed").mkdir(mode=0o500)
    if not os.access(tmp_path / "closed", os.W_OK):
        with pytest.raises(RunError, match=r"got: Permission denied; name another$"):
            require_writable(tmp_path / "closed" / "x")


def test_files_are_written_into_a_new_directory(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "a" / "b", {"x.csv": "1,2\n", "x.png": b"\x89PNG"})
    assert paths == [tmp_path / "a" / "b" / "x.csv", tmp_path / "a" / "b" / "x.png"]
    assert [path.read_bytes() for path in paths] == [b"1,2\n", b"\x89PNG"]
