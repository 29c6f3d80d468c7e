from __future__ import annotations

import os
from pathlib import Path

import pytest

from runs.folders import require_writable, run_directory, write_files
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


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a Ray job, as Ray 2.60 makes it, and a home to go to."""
    folder = tmp_path / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_ab"
    (folder / "inner").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("REPLK_SEARCH_RESULTS", raising=False)
    return folder


@pytest.mark.parametrize("inner", [".", "inner"])
def test_a_ray_job_leaves_nothing_in_its_copy_of_the_clone(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str
) -> None:
    monkeypatch.chdir(job / inner)
    home = tmp_path / "home" / "replk-search" / "results"
    assert run_directory(None, "micro").parent == home
    assert run_directory(Path("mine"), "micro") == home / "mine"
    assert run_directory(tmp_path / "mine", "micro") == tmp_path / "mine"


@pytest.mark.usefixtures("job")
def test_a_ray_job_is_told_where_results_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for named, folder in (
        (str(tmp_path / "shared"), tmp_path / "shared"),
        ("~/kept", tmp_path / "home" / "kept"),
        ("kept", tmp_path / "home" / "kept"),
    ):
        monkeypatch.setenv("REPLK_SEARCH_RESULTS", named)
        assert run_directory(None, "micro").parent == folder
        assert run_directory(Path("mine"), "micro") == folder / "mine"
        assert run_directory(tmp_path / "mine", "micro") == tmp_path / "mine"
    (tmp_path / "home" / "kept" / "mine").mkdir(parents=True)
    (tmp_path / "home" / "kept" / "mine" / "file").touch()
    with pytest.raises(RunError, match=r"^--out .*/home/kept/mine: must not exist yet"):
        run_directory(Path("mine"), "micro")


def test_outside_a_job_the_variable_is_for_runs_without_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "working_dir_files").mkdir()
    monkeypatch.chdir(tmp_path / "working_dir_files")
    monkeypatch.delenv("REPLK_SEARCH_RESULTS", raising=False)
    assert run_directory(None, "micro").parent == Path("results")
    monkeypatch.setenv("REPLK_SEARCH_RESULTS", str(tmp_path / "shared"))
    assert run_directory(None, "micro").parent == tmp_path / "shared"
    assert run_directory(Path("mine"), "micro") == Path("mine")
