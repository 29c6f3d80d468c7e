"""Programs as fixtures, for modules that say `pytest_plugins = ["tests.faults_fixtures"]`.

Nothing imports this module, or pytest could not rewrite it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runs.plan import Plan
from tests.faults_programs import Program, Start, assert_nothing_left
from tests.faults_searches import LONGER
from tests.micro import RECIPE, Inputs


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for temporary files of programs."""
    return tmp_path / "home"


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Start programs that do not outlive the test; what the last one leaves is an error."""
    started: list[Program] = []

    class Started(Program):
        def __init__(self, *words: str | Path, **options: object) -> None:
            super().__init__(*words, home=home, **options)
            started.append(self)

    yield Started
    alive = [program for program in started if program.process.poll() is None]
    for program in started:
        program.kill()
    if started and not alive:
        assert_nothing_left(home)


@pytest.fixture(scope="module")
def plan(inputs: Inputs) -> Plan:
    return inputs.planned(budget=3)[0]


@pytest.fixture(scope="module")
def halving(inputs: Inputs) -> Plan:
    """A plan in which most trainings stop on the way."""
    recipe = replace(RECIPE, epochs=LONGER)
    return inputs.planned(budget=1, fidelity="halving", recipe=recipe)[0]
