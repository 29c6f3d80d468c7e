"""The micro run as fixtures, for modules that say `pytest_plugins = ["tests.micro_fixtures"]`.

Nothing imports this module, or pytest could not rewrite it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import session
from runs.cli import cli
from runs.ending import run as exit_code_of
from tests.micro import Inputs, write_data, write_space


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The micro space and its images on the disk."""
    folder = tmp_path_factory.mktemp("inputs")
    return Inputs(space=write_space(folder / "micro.yaml"), data=write_data(folder / "shapes.npz"))


@pytest.fixture(scope="session")
def finished(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of six trials that kept all weights; copy it before you change it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    plan, images = inputs.planned(budget=6)
    session.begin(plan, images, out, session.Manner(quiet=True))
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process: its exit code, what it printed, what it complained."""

    def command(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = exit_code_of(
            lambda: cli.main(
                [str(word) for word in words], prog_name="replk-search", standalone_mode=False
            )
        )
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command
