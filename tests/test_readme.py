"""What the README shows is what the program does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from builders import build_network, official_state_dict
from runs.cli import cli
from runs.describe import profile_page, profiled
from search_space.yaml_io import load_architecture, parse_space

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every line of a block, and every piece of code in the text, that calls the program."""
    found = re.findall(r"^\$? ?(replk-search [^\n]*)$", "\n".join(blocks("[a-z]*")), re.MULTILINE)
    found += re.findall(r"`(replk-search [^`]*)`", README)
    return sorted({text.split("  #")[0].strip() for text in found})


def test_it_opens_with_the_two_commands() -> None:
    first = blocks("")[0].splitlines()
    assert [line.split()[:2] for line in first] == [["make", "search"], ["make", "test"]]
    assert README.index("make search") < 100


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.M))))
def test_its_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE)


@pytest.mark.parametrize("command", commands())
def test_its_commands_are_understood(command: str) -> None:
    words = shlex.split(command)[1:]
    # Options without a command are those of search.
    name, rest = (words[0], words[1:]) if words[0] in cli.commands else ("search", words)
    cli.commands[name].make_context(name, rest)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_its_spaces_can_be_read(text: str) -> None:
    assert parse_space(text).axes()


def test_its_profile_is_what_the_program_prints() -> None:
    shown = next(block for block in blocks("console") if "profile unireplknet_t" in block)
    page = profile_page(profiled("unireplknet_t"))
    assert page.startswith(shown.split("\n", 1)[1].strip())


@pytest.mark.parametrize("code", blocks("python"))
def test_its_python_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for file, name in re.findall(r'load_official\("([^"]+)", "([^"]+)"\)', code):
        torch.save(official_state_dict(build_network(load_architecture(name), 1000)), file)

    exec(code, {})

    promised = re.findall(r"print\(.*\) +# (.*)", code)
    assert capsys.readouterr().out.splitlines() == promised


def test_no_placeholder_is_left() -> None:
    assert "PLACEHOLDER" not in README


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_its_pictures_exist(target: str) -> None:
    assert (ROOT / target).is_file()
