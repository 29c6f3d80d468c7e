"""Strict YAML: what is read as YAML 1.2 says, and what is refused in one sentence."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_space.errors import SpaceError, nearest, shown
from search_space.yaml_text import dotted, parse_yaml, read_yaml


def read(scalar: str) -> Any:
    return parse_yaml(f"a: {scalar}", name="a.yaml").value["a"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e6", 2_000_000.0),
        ("1e-6", 1e-6),
        ("2.5", 2.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("+7", 7),
        ("-7", -7),
        ("010", 10),  # octal in YAML 1.1
        ("0o10", 8),
        ("0x1F", 31),
        ("1:30", "1:30"),  # 90 in YAML 1.1
        ("1_000", "1_000"),
        ("2026-01-31", "2026-01-31"),
        ("no", "no"),
        ("yes", "yes"),
        ("off", "off"),
        ("y", "y"),
        ("none", "none"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'7'", "7"),
        ('"true"', "true"),
        ("=", "="),
        ("|\n  text", "text"),
    ],
)
def test_scalars_are_read_as_yaml_1_2_says(text: str, value: object) -> None:
    found = read(text)
    assert found == value
    assert type(found) is type(value)


def test_every_node_remembers_its_line() -> None:
    document = parse_yaml("a: 1\nb:\n  - {c: 2,\n     d: 3}\n", name="a.yaml")
    assert document.value == {"a": 1, "b": [{"c": 2, "d": 3}]}
    assert document.line(("a",)) == 1
    assert document.line(("b", 0, "c")) == 3
    assert document.line(("b", 0, "d")) == 4
    assert document.line(("b", 0, "d", "unknown", 7)) == 4
    assert document.where(("b", 0, "d")) == "a.yaml:4: b[0].d"


def test_aliases_stand_for_their_value() -> None:
    document = parse_yaml("a: &k {choice: [3, 7]}\nb: *k\n", name="a.yaml")
    assert document.value["b"] == {"choice": [3, 7]}


def test_a_byte_order_mark_and_windows_lines_are_read() -> None:
    document = parse_yaml("\ufeffa: 1\r\nb: 2\r\n", name="a.yaml")
    assert document.value == {"a": 1, "b": 2}
    assert document.line(("b",)) == 2


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("stages", 1, "kernel"), "stages[1].kernel"),
        (("a",), "a"),
        (("a", "b c", 0), "a.'b c'[0]"),
        (("x\ny",), r"'x\ny'"),
        (("\ud800",), r"'\ud800'"),
    ],
)
def test_a_path_is_one_line_whatever_its_keys(path: tuple[str | int, ...], text: str) -> None:
    assert dotted(path) == text


REFUSED = {
    "empty": ("", "1: must be a mapping of keys such as 'stages:', got an empty file"),
    "only a comment": ("# nothing\n", "1: must be a mapping"),
    "list at the top": ("\n- a\n", "2: must be a mapping of keys such as 'stages:', got a list"),
    "scalar at the top": ("text", "1: must be a mapping of keys such as 'stages:', got a single"),
    "two documents": ("a: 1\n---\nb: 2\n", "2: must be YAML, got: a second document (---)"),
    "duplicate key": ("a: 1\nb: 2\na: 3\n", "3: a: must stand once, also on line 1; keep one"),
    "duplicate nested key": ("a:\n  b: 1\n  'b': 2\n", "3: a.b: must stand once, also on line 2"),
    "tab": ("a:\n\tb: 1\n", "2: must be YAML, got: while scanning for the next token"),
    "unclosed list": ("a: [1, 2\n", "2: must be YAML, got: while parsing a flow sequence"),
    "bad indent": ("a: 1\n  b: 2\n", "2: must be YAML, got: mapping values are not allowed"),
    "unknown alias": ("a: *b\n", "1: must be YAML, got: found undefined alias"),
    "python object": (
        "a: !!python/object:os.system {}\n",
        "1: a: tags are not read, got 'tag:yaml.org,2002:python/object:os.system'; remove it",
    ),
    "python name": ("a: !!python/name:os.system\n", "1: a: tags are not read"),
    "own tag": ("a: 1\nb: !mine 3\n", "2: b: tags are not read, got '!mine'; remove it"),
    "binary": ("a: !!binary aGk=\n", "1: a: tags are not read"),
    "set": ("a: !!set {b}\n", "1: a: tags are not read"),
    "int tag": ("a: !!int '3'\n", "1: a: tags are not read"),
    "merge key": (
        "a: &a {b: 1}\nc:\n  <<: *a\n",
        "3: c: merge keys (<<) are not read; write the keys out or use every_stage",
    ),
    "merge bomb": (
        "a: &a {b: 1}\nc: &c {<<: [*a, *a]}\nd: {<<: [*c, *c]}\n",
        "2: c: merge keys (<<) are not read",
    ),
    "number as key": ("a: {3: 1}\n", "1: a: keys must be words, got '3'"),
    "null as key": ("a: {~: 1}\n", "1: a: keys must be words, got '~'"),
    "list as key": ("? [1, 2]\n: 3\n", "1: keys must be plain words, got a list"),
    "mapping as key": ("a:\n  ? {b: 1}\n  : 3\n", "2: a: keys must be plain words, got a mapping"),
    "infinity": ("a: .inf\n", "1: a: must be a finite number, got .inf"),
    "not a number": ("\na: .nan\n", "2: a: must be a finite number, got .nan"),
    "overflow": ("a: 1e999\n", "1: a: must be a finite number, got 1e999"),
    "5000 digits": (f"a: {'9' * 5000}\n", "1: a: must have at most 18 digits, got 5000"),
    "5000 hexadecimals": (f"a: 0x{'f' * 5000}\n", "1: a: must have at most 18 digits, got 5002"),
    "5000 decimals": (f"a: 0.{'1' * 5000}\n", "1: a: must have at most 18 digits, got 5001"),
    "recursive alias": ("a: &a {b: *a}\n", "1: a.b.b: must be nested at most 40 deep, got more"),
    "deep list": ("a: " + "[" * 5000, "1: must be YAML, got: nesting of more than 40 levels"),
    "deep mapping": ("{a: " * 5000, "1: must be YAML, got: nesting of more than 40 levels"),
    "many values": ("a: [" + "1," * 30_000, "1: must be YAML, got: more than 10,000 values"),
    "nul byte": ("a: 1\nb: \0\n", r"2: must be text, got the character '\x00'; remove it"),
    "escape": ("a: \x1b[31m\n", r"1: must be text, got the character '\x1b'; remove it"),
    "escape out of range": (r'a: "\UFFFFFFFF"', "1: must be YAML, got an escape or a version"),
    "version of 5000 digits": (
        f"%YAML 1.{'9' * 5000}\n---\na: 1\n",
        "1: must be YAML, got an escape",
    ),
    "version 3": ("%YAML 3.0\n---\na: 1\n", "1: must be YAML, got: found incompatible YAML"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_text_is_refused_in_one_sentence(case: str) -> None:
    text, said = REFUSED[case]
    start = time.perf_counter()
    with pytest.raises(SpaceError) as refused:
        parse_yaml(text, name="a.yaml")
    assert str(refused.value).startswith(f"a.yaml:{said}")
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 300
    assert time.perf_counter() - start < 5


def test_an_alias_bomb_is_refused_before_it_explodes() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    with pytest.raises(SpaceError, match=r"^a\.yaml:\d+: a\d.*at most 10,000 values.*aliases"):
        parse_yaml("\n".join(lines), name="a.yaml")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SpaceError):
        assert isinstance(parse_yaml(text, name="a.yaml").value, dict)


def test_a_file_over_a_megabyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("a: 1\n" * 400_000)
    with pytest.raises(SpaceError, match=r"large\.yaml:1: must be at most 1,000,000 bytes"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("a: 1\n".encode("utf-16"), r"a\.yaml:1: must be UTF-8 text, got byte 0xff"),
        (b"a: 1\nb: \xe9\n", r"a\.yaml:2: must be UTF-8 text, got byte 0xe9; save it as UTF-8"),
        (b"\x00\x00", r"a\.yaml:1: must be text, got the character '\\x00'"),
    ],
)
def test_bytes_that_are_no_utf_8_are_refused_with_their_line(
    tmp_path: Path, raw: bytes, said: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(raw)
    with pytest.raises(SpaceError, match=said):
        read_yaml(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"must be a file that can be read, got: Is a directory"):
        read_yaml(tmp_path)
    with pytest.raises(SpaceError, match=r"must be a file that can be read, got: No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(SpaceError, match=r"must be a file that can be read, got: .*null byte"):
        read_yaml(Path("a\0.yaml"))
    with pytest.raises(SpaceError, match=r"must be a file that can be read, got: File name too"):
        read_yaml(Path("a" * 5000 + ".yaml"))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs an endless file")
def test_an_endless_file_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"^/dev/zero:1: must be at most 1,000,000 bytes"):
        read_yaml(Path("/dev/zero"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with pytest.raises(SpaceError, match=r"must be a file that can be read, got: Permission den"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        ([1, 2], "[1, 2]"),
        ("é", "'é'"),
        ("x" * 500, "'" + "x" * 59 + "... (502 characters)"),
    ],
)
def test_values_are_shown_short(value: object, text: str) -> None:
    assert shown(value) == text


def test_the_nearest_name_is_suggested_and_else_all() -> None:
    assert nearest("kernl", ["kernel", "width"]) == "did you mean 'kernel'?"
    assert nearest("zzz", ["kernel", "width"]) == "must be one of: kernel, width"
