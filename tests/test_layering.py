"""The order of the rooms, kept: who may import whom, what is imported where, who may print."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("search_space", "builders", "evaluators", "runs")
"""Left to right: a room imports itself and the rooms before it."""

COMMANDS = {
    f"runs/cli{name}.py"
    for name in ("", "_compare", "_erf", "_export", "_profile", "_search", "_study")
}
"""They alone import inside functions."""

# A heavy package is imported in these modules only.
ONLY_IN = {
    "fvcore": {"evaluators/counting.py"},
    "jinja2": {"runs/page/html.py"},
    "matplotlib": {
        *("runs/figures.py", "runs/audit_figure.py", "runs/field_figure.py"),
        *("runs/guideline_figure.py", "runs/roofline_figure.py", "runs/rung_figure.py"),
        *("runs/compare/pictures.py", "runs/page/sketches.py", "runs/progress_figure.py"),
        *(
            f"runs/page/{name}.py"
            for name in ("document", "front", "guidelines", "pictures", "progress", "ranking")
        ),
        "runs/space_figures.py",
        *(f"runs/page/{name}.py" for name in ("importance", "parallel", "subspaces")),
    },
    "mlflow": {"runs/mlflow_log.py"},
    "moocore": {
        "evaluators/estimates.py",
        "evaluators/fronts.py",
        "runs/ranking.py",
        "runs/rungs.py",
    },
    "onnx": {"evaluators/onnx_session.py", "runs/warm.py"},
    "onnxruntime": {"evaluators/onnx_session.py"},
    "platformdirs": {"runs/backends.py"},
    "plotly": {"runs/page/html.py"},
    "ray": {f"runs/ray_{name}.py" for name in ("engine", "node", "pool", "tuner")},
    "sklearn": {"evaluators/baseline.py", "evaluators/importance.py"},
    "tensorboardX": {"runs/tensorboard_log.py"},
    "timm": {"builders/timm_registry.py"},
    "torchmetrics": {"evaluators/scores.py"},
    "torchvision": {"evaluators/data.py"},
}
MAY_PRINT = {"runs/cli.py", "runs/console.py"}
MOST_LINES = 400


def sources() -> list[Path]:
    """Every module of the four rooms."""
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every imported module with its line, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno


def broken_rules(where: str, source: str) -> list[str]:
    """Say each rule of the house that one module breaks, as `room/module.py:line: what`."""
    tree = ast.parse(source)
    room = where.split("/")[0]
    broken = []
    for module, line in imported(tree):
        top = module.split(".")[0]
        if module.startswith("."):
            broken.append(f"{where}:{line}: relative import")
        elif top in ROOMS and ROOMS.index(top) > ROOMS.index(room):
            broken.append(f"{where}:{line}: {room} imports {top}, which stands to its right")
        elif top == "torch" and room == "search_space":
            broken.append(f"{where}:{line}: search_space imports torch")
        elif where not in ONLY_IN.get(top, {where}):
            broken.append(f"{where}:{line}: imports {top}")
        elif top == "tests":
            broken.append(f"{where}:{line}: imports the tests")
    if where not in MAY_PRINT:
        broken += [
            f"{where}:{node.lineno}: prints"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "print"
        ]
    if where not in COMMANDS:
        broken += [
            f"{where}:{inner.lineno}: imports {inner.module} inside a function"
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for inner in ast.walk(node)
            if isinstance(inner, ast.ImportFrom) and (inner.module or "").split(".")[0] in ROOMS
        ]
    if (lines := len(source.splitlines())) > MOST_LINES:
        broken.append(f"{where}:{lines}: more than {MOST_LINES} lines")
    return broken


def loaded_by(code: str, *packages: str) -> list[str]:
    """Run the code in a fresh interpreter; say which of the packages it imported."""
    probe = f"{code}\nimport sys; print(*sorted({{*{packages!r}}} & {{*sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split()


def test_there_are_modules_to_check_in_every_room() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in sources()} == set(ROOMS)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_keeps_the_rules_of_the_house(path: Path) -> None:
    assert broken_rules(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("where", "source", "said"),
    [
        ("builders/a.py", "from runs.cli import main", "builders imports runs"),
        ("search_space/a.py", "def f():\n    import evaluators.cost", "search_space imports eval"),
        ("search_space/a.py", "import torch.nn", "search_space imports torch"),
        ("runs/search.py", "import ray", "imports ray"),
        ("evaluators/cost.py", "from matplotlib.figure import Figure", "imports matplotlib"),
        ("evaluators/cost.py", "import torchvision", "imports torchvision"),
        ("builders/a.py", "from .blocks import BLOCKS", "relative import"),
        ("evaluators/cost.py", "if True:\n    print(1)", "prints"),
        ("runs/study.py", "def f():\n    from runs.search import g", "inside a function"),
        ("runs/study.py", "from tests.conftest import x", "imports the tests"),
        ("runs/study.py", "\n" * 401, "more than 400 lines"),
    ],
)
def test_the_check_itself_can_fail(where: str, source: str, said: str) -> None:
    broken = broken_rules(where, source)
    assert len(broken) == 1
    assert said in broken[0]


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("runs/cli.py", "def f():\n    from runs.search import g\n    print(g)"),
        ("runs/figures.py", "from matplotlib.figure import Figure"),
        ("evaluators/a.py", "import torch\nfrom builders.network import Network"),
        ("search_space/a.py", "from search_space.errors import SpaceError"),
    ],
)
def test_the_check_lets_what_is_allowed_pass(where: str, source: str) -> None:
    assert broken_rules(where, source) == []


def test_no_module_of_search_space_loads_torch() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sources()
        if path.is_relative_to(ROOT / "search_space")
    ]
    code = "\n".join(f"import {name}" for name in modules)
    assert loaded_by(code, "torch", "optuna", "pandas", "ray") == []


def test_help_loads_no_heavy_package() -> None:
    code = (
        "import sys; sys.argv = ['replk-search', '--help']\n"
        "from runs.cli import main\n"
        "try:\n    main()\nexcept SystemExit as leave:\n    assert not leave.code"
    )
    assert loaded_by(code, "torch", "optuna", "pandas", "ray", "matplotlib", "numpy") == []


def test_the_probe_of_loaded_packages_can_fail() -> None:
    assert loaded_by("import json, ast", "json", "torch") == ["json"]


@pytest.mark.parametrize("room", ROOMS)
def test_an_installed_room_belongs_to_this_distribution(room: str) -> None:
    owners = packages_distributions().get(room, [])
    if "replk-search" not in owners:
        pytest.skip("replk-search is not installed")
    assert set(owners) == {"replk-search"}
