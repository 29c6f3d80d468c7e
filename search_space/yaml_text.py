"""Strict YAML 1.2 text to plain values that remember their line.

PyYAML's defaults take the last of two equal keys, read `no` as false and `2e6` as text, and expand
any alias; a search space must not be misread in silence, so this loader refuses, or reads as
YAML 1.2 says.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from search_space.errors import SpaceError, shown

MAX_BYTES = 1_000_000
MAX_NODES = 10_000
MAX_DEPTH = 40
MAX_DIGITS = 18

KeyPath = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+\Z")
_BASED_INT = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NON_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,40}\Z")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """The plain value of a YAML file, and the line of each of its nodes."""

    name: str
    """File name as the user wrote it, for messages."""
    value: Any
    lines: dict[KeyPath, int]
    """1-based line of every node; of a key under (path..., key, "<key>")."""

    def error(self, path: KeyPath, message: str) -> NoReturn:
        """Raise the SpaceError `file:line: path: message`, with the line of the nearest node."""
        where = f"{self.name}:{self.line(path)}"
        raise SpaceError(f"{where}: {dotted(path)}: {message}" if path else f"{where}: {message}")

    def line(self, path: KeyPath) -> int:
        """Give the line of a node, or of the innermost node around where it would stand."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def key_error(self, path: KeyPath, message: str) -> NoReturn:
        """Raise the error at the key that ends `path`, not at its value."""
        line = self.line((*path, "<key>"))
        raise SpaceError(f"{self.name}:{line}: {dotted(path)}: {message}")

    def where(self, path: KeyPath) -> str:
        """Give `file:line: path`, the start of a message about a node."""
        return f"{self.name}:{self.lines[path]}: {dotted(path)}"


def dotted(path: KeyPath) -> str:
    """Write a path as people do, in one line: `stages[1].kernel`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." * bool(text) + (part if _PLAIN_KEY.match(part) else shown(part))
    return text


def read_yaml(path: Path, *, name: str | None = None) -> Document:
    """Read a YAML file of at most 1 MB.

    Raises:
        SpaceError: the file cannot be read, is not UTF-8, or is not the YAML that a space may use.
    """
    label = name or str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SpaceError(
            f"{label}: must be a file that can be read, got: {why}; give the path of a YAML file"
        ) from None
    if len(raw) > MAX_BYTES:
        raise SpaceError(
            f"{label}:1: must be at most {MAX_BYTES:,} bytes, got more; "
            "a space is a few dozen lines"
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SpaceError(
            f"{label}:{line}: must be UTF-8 text, got byte 0x{raw[error.start]:02x}; "
            "save it as UTF-8"
        ) from None
    return parse_yaml(text, name=label)


def parse_yaml(text: str, *, name: str) -> Document:
    """Parse YAML text whose top is a mapping.

    Raises:
        SpaceError: with file, line, path, and what must hold.
    """
    node = _composed(text.removeprefix("\ufeff"), name)
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node else 1
        given = "an empty file" if node is None else _kind(node)
        raise SpaceError(f"{name}:{line}: must be a mapping of keys such as 'stages:', got {given}")
    builder = _Builder(name)
    return Document(name=name, value=builder.build(node, ()), lines=builder.lines)


def _composed(text: str, name: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise SpaceError(
            f"{name}:{line}: must be text, got the character {shown(text[error.position])}; "
            "remove it"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = " ".join(part for part in (error.context, error.problem) if part)
        if problem.startswith("expected a single document"):
            problem = "a second document (---); keep one"
        raise SpaceError(f"{name}:{line}: must be YAML, got: {' '.join(problem.split())}") from None
    except (ValueError, OverflowError):
        # PyYAML lets these escape for "\\UFFFFFFFF" and for versions of thousands of digits.
        raise SpaceError(
            f"{name}:1: must be YAML, got an escape or a version out of range"
        ) from None


class _Loader(yaml.SafeLoader):
    """Composes at most so many nodes, so deep: a hostile file ends early."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes = 0
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        self.nodes += 1
        self.depth += 1
        if self.nodes > 2 * MAX_NODES:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_NODES:,} values", problem_mark=mark)
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nesting of more than {MAX_DEPTH} levels; flatten it", problem_mark=mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Builder:
    """Turns composed nodes into plain values; counts nodes so that aliases cannot explode."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[KeyPath, int] = {}
        self.nodes = 0

    def fail(self, node: yaml.Node, path: KeyPath, message: str) -> NoReturn:
        where = f"{self.name}:{node.start_mark.line + 1}"
        raise SpaceError(f"{where}: {dotted(path)}: {message}" if path else f"{where}: {message}")

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.fail(
                node,
                path[:3],
                f"must have at most {MAX_NODES:,} values, got more; aliases (*name) multiply them",
            )
        if len(path) > MAX_DEPTH:
            self.fail(
                node, path[:3], f"must be nested at most {MAX_DEPTH} deep, got more; flatten it"
            )
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self.plain_tag(node, path, "seq")
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self.scalar(node, path)

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        self.plain_tag(node, path, "map")
        plain: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node, path)
            line = key_node.start_mark.line + 1
            if key in plain:
                self.fail(
                    key_node, (*path, key), f"must stand once, also on line {first[key]}; keep one"
                )
            first[key] = line
            self.lines[(*path, key, "<key>")] = line
            plain[key] = self.build(value_node, (*path, key))
        return plain

    def key(self, node: yaml.Node, path: KeyPath) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.fail(node, path, f"keys must be plain words, got {_kind(node)}")
        if node.value == "<<" and node.style is None:
            self.fail(
                node, path, "merge keys (<<) are not read; write the keys out or use every_stage"
            )
        if node.style is None and not isinstance(_plain(node.value), str):
            self.fail(node, path, f"keys must be words, got {shown(node.value)}")
        return str(node.value)

    def scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text: str = node.value
        if node.style is not None:
            self.plain_tag(node, path, "str")
            return text
        self.plain_tag(
            node, path, "str", "int", "float", "bool", "null", "timestamp", "merge", "value"
        )
        if _NON_FINITE.match(text):
            self.fail(node, path, f"must be a finite number, got {text}")
        forms = (_INT, _FLOAT, _BASED_INT)
        if len(text) > MAX_DIGITS and any(form.match(text) for form in forms):
            digits = sum(char.isalnum() for char in text)
            if digits > MAX_DIGITS:
                self.fail(node, path, f"must have at most {MAX_DIGITS} digits, got {digits}")
        value = _plain(text)
        if isinstance(value, float) and not math.isfinite(value):
            self.fail(node, path, f"must be a finite number, got {text}")
        return value

    def plain_tag(self, node: yaml.Node, path: KeyPath, *allowed: str) -> None:
        prefix, _, tag = str(node.tag).rpartition(":")
        if prefix != "tag:yaml.org,2002" or tag not in allowed:
            self.fail(node, path, f"tags are not read, got {shown(str(node.tag))}; remove it")


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _plain(text: str) -> Any:
    """Read a plain scalar as YAML 1.2's core schema does."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    if _BASED_INT.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    return text
