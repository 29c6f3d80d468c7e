"""Strict YAML 1.2 text to plain values that remember their line.

PyYAML's defaults take the last of two equal keys, read `no` as false and `2e6` as text, and expand any
alias; a search space must not be misread in silence, so this loader refuses or reads as YAML 1.2 says.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from search_space.errors import SpaceError

MAX_BYTES = 1_000_000
MAX_NODES = 50_000
MAX_DEPTH = 40
MAX_DIGITS = 18

KeyPath = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+\Z")
_BASED_INT = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NON_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
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
        """Raise the SpaceError `file:line: path: message`, with the line of the nearest known node."""
        known = path
        while known not in self.lines:
            known = known[:-1]
        where = f"{self.name}:{self.lines[known]}"
        raise SpaceError(f"{where}: {dotted(path)}: {message}" if path else f"{where}: {message}")

    def key_error(self, path: KeyPath, message: str) -> NoReturn:
        """Raise the error at the key that ends `path`, not at its value."""
        line = self.lines.get((*path, "<key>"), self.lines[path[:-1]])
        raise SpaceError(f"{self.name}:{line}: {dotted(path)}: {message}")

    def where(self, path: KeyPath) -> str:
        """Give `file:line: path`, the start of a message about a node."""
        return f"{self.name}:{self.lines[path]}: {dotted(path)}"


def dotted(path: KeyPath) -> str:
    """Write a path as people do: `stages[1].kernel`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_yaml(path: Path, *, name: str | None = None) -> Document:
    """Read a YAML file of at most 1 MB.

    Raises:
        SpaceError: the file cannot be read, is not UTF-8, or is not the YAML that a space may use.
    """
    shown = name or str(path)
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise SpaceError(
            f"{shown}: must be a file that can be read, got: {error.strerror}; give the path of a YAML file"
        ) from None
    if raw is None:
        raise SpaceError(
            f"{shown}:1: must be at most {MAX_BYTES:,} bytes, got {path.stat().st_size:,}; "
            "a space is a few dozen lines"
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SpaceError(
            f"{shown}:{line}: must be UTF-8 text, got byte 0x{raw[error.start]:02x}; save it as UTF-8"
        ) from None
    return parse_yaml(text, name=shown)


def parse_yaml(text: str, *, name: str) -> Document:
    """Parse YAML text whose top is a mapping.

    Raises:
        SpaceError: with file, line, path, and what must hold.
    """
    loader = yaml.SafeLoader(text.lstrip("\ufeff"))
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise SpaceError(f"{name}:{line}: must be YAML, got: {problem}") from None
    except yaml.YAMLError as error:
        raise SpaceError(f"{name}:1: must be YAML, got: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise SpaceError(f"{name}:1: must be nested at most {MAX_DEPTH} deep; flatten it") from None
    finally:
        loader.dispose()
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node else 1
        given = "an empty file" if node is None else f"a {node.id}"
        raise SpaceError(f"{name}:{line}: must be a mapping of keys such as 'stages:', got {given}")
    builder = _Builder(name)
    return Document(name=name, value=builder.build(node, ()), lines=builder.lines)


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
                node, path, f"must have at most {MAX_NODES:,} values; aliases (*name) multiply them"
            )
        if len(path) > MAX_DEPTH:
            self.fail(node, path[:3], f"must be nested at most {MAX_DEPTH} deep; flatten it")
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self.plain_tag(node, path, "seq")
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
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
            self.fail(node, path, f"keys must be plain words, got a {node.id}")
        if node.value == "<<" and node.style is None:
            self.fail(
                node, path, "merge keys (<<) are not read; write the keys out or use every_stage"
            )
        if node.style is None and not isinstance(_plain(node.value), str):
            self.fail(node, path, f"keys must be words, got {node.value!r}")
        return str(node.value)

    def scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text = node.value
        if node.style is not None:
            self.plain_tag(node, path, "str")
            return text
        self.plain_tag(
            node, path, "str", "int", "float", "bool", "null", "timestamp", "merge", "value"
        )
        if _NON_FINITE.match(text):
            self.fail(node, path, f"must be a finite number, got {text}")
        if sum(char.isdigit() for char in text) > MAX_DIGITS and (
            _INT.match(text) or _FLOAT.match(text)
        ):
            self.fail(
                node, path, f"must have at most {MAX_DIGITS} digits, got {len(text)} characters"
            )
        value = _plain(text)
        if isinstance(value, float) and not math.isfinite(value):
            self.fail(node, path, f"must be a finite number, got {text}")
        return value

    def plain_tag(self, node: yaml.Node, path: KeyPath, *allowed: str) -> None:
        prefix, _, tag = str(node.tag).rpartition(":")
        if prefix != "tag:yaml.org,2002" or tag not in allowed:
            self.fail(node, path, f"tags are not read, got {node.tag}; remove it")


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
