"""The pieces of a stand-alone module: classes and functions of `runs.export.parts`, as text."""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from types import ModuleType

from runs.export.parts import blocks, channels, ends, kernels, layers, whole

MODULES: tuple[ModuleType, ...] = (whole, blocks, kernels, channels, ends, layers)
"""Where the pieces are, in the order in which a reader who starts at the network wants them.

So a base class and what an annotation names must stand in the same module, or in torch.
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A class or function at the top of a module."""

    text: str
    heading: str
    """What its module holds, in a sentence."""
    names: frozenset[str]
    """Every name that it uses."""


@cache
def all_pieces() -> dict[str, Piece]:
    """Give the pieces by name, in the order of the modules and of the lines in them."""
    pieces = {}
    for module in MODULES:
        source = inspect.getsource(module)
        tree = ast.parse(source)
        heading, *_ = (ast.get_docstring(tree) or "").splitlines()
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                text = ast.get_source_segment(source, node)
                assert text is not None
                assert node.name not in pieces, f"two pieces are called {node.name}"
                pieces[node.name] = Piece(text, heading, names_in(node))
    return pieces


def needed_pieces(text: str) -> list[str]:
    """Give the pieces that a text uses, and those that they use, in the order of `all_pieces`.

    A comment stands before those of a module: its heading.
    """
    pieces = all_pieces()
    wanted: set[str] = set()
    found = names_in(ast.parse(text)) & pieces.keys()
    while found:
        wanted |= found
        found = frozenset().union(*(pieces[name].names for name in found)) & pieces.keys() - wanted
    needed = (piece for name, piece in pieces.items() if name in wanted)
    texts = []
    for heading, group in groupby(needed, key=lambda piece: piece.heading):
        texts += [f"# {heading}", *(piece.text for piece in group)]
    return texts


def needed_imports(names: frozenset[str]) -> list[str]:
    """Write the imports that bind these names, in ruff's order; names bound elsewhere are left."""
    modules: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    for name, (module, member) in _imported().items():
        if name in names and member is None:
            modules[module] = f"import {module}" + (f" as {name}" if name != module else "")
        elif name in names and member is not None:
            members.setdefault(module, []).append(member)
    sections: list[list[str]] = [[], []]
    for module in sorted(modules):
        sections[_foreign(module)].append(modules[module])
    for module in sorted(members):
        from_here = ", ".join(sorted(members[module]))
        sections[_foreign(module)].append(f"from {module} import {from_here}")
    return [*sections[0], *([""] if all(sections) else []), *sections[1]]


def names_in(node: ast.AST) -> frozenset[str]:
    """Give every name that a piece of Python reads or binds."""
    return frozenset(inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name))


@cache
def _imported() -> dict[str, tuple[str, str | None]]:
    """Give what each name is that the parts import: a module, or a module and its member."""
    imported: dict[str, tuple[str, str | None]] = {}
    for module in MODULES:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    imported[alias.asname or alias.name] = (alias.name, None)
            elif isinstance(node, ast.ImportFrom) and not _ours(node.module or ""):
                for alias in node.names:
                    imported[alias.name] = (node.module or "", alias.name)
    return imported


def _ours(module: str) -> bool:
    return module == "__future__" or module.split(".")[0] == __name__.split(".")[0]


def _foreign(module: str) -> bool:
    return module.split(".")[0] not in sys.stdlib_module_names
