"""The plan of a run from whichever copy is sound: the header of the record, or run.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from evaluators.recipe import Recipe
from runs.images import DataSource
from runs.plan import PLAN_NAME, Plan, Settings, plan_of
from runs.records import RECORD_NAME
from search_space.errors import ReplkError, RunError

PARTS = {"settings": Settings, "recipe": Recipe, "data_source": DataSource}
"""Parts of a plan of which a newer program may write more."""
DATA: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "classes": list,
    "majority_share": (int, float),
}
"""What must be known of the data."""
SHOWN = 5
"""How many names a note gives."""


def readable_plan(directory: Path, header: Mapping[str, Any] | None) -> tuple[Plan, list[str]]:
    """Give the plan of a run, and say what is wrong with its copies.

    The copy in the header has a checksum, so it is the one to believe where they differ.

    Args:
        directory: of the run.
        header: of its record; None where that is lost.

    Raises:
        RunError: no copy can be read.
    """
    recorded, unread = _read(header.get("plan") if header else None, RECORD_NAME)
    if header is None:
        unread = "has no readable header"
    written, wrong = _written(directory / PLAN_NAME)
    if recorded is None and written is None:
        raise RunError(
            f"{directory}: must tell what was planned, {RECORD_NAME} {unread} and {PLAN_NAME} "
            f"{wrong}; restore {PLAN_NAME} from a copy, or update replk-search"
        )
    notes = []
    if recorded is None:
        notes.append(
            f"{PLAN_NAME}: is the only copy of the plan that is left; {RECORD_NAME} {unread}"
        )
    elif written is None:
        notes.append(f"{PLAN_NAME}: {wrong}; the record's own copy stands for it")
    else:
        ours, theirs = recorded.document(), written.document()
        changed = list(_differences(ours, theirs))
        if changed:
            more = ", ..." if len(changed) > SHOWN else ""
            notes.append(
                f"{PLAN_NAME}: was changed since the run began ({', '.join(changed[:SHOWN])}{more})"
                "; the record's own copy stands for it"
            )
    source = header["plan"] if recorded is not None and header is not None else None
    names = [] if source is None else list(_foreign(source))
    if names:
        notes.append(f"{RECORD_NAME}: settings unknown to this version: {', '.join(names[:SHOWN])}")
    plan = recorded or written
    assert plan is not None
    return plan, notes


def _written(path: Path) -> tuple[Plan | None, str]:
    """Read run.yaml, or say why not."""
    try:
        return _read(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        return None, "is not there"
    except OSError as error:
        return None, f"cannot be read, {error.strerror}"
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return None, f"is no YAML of ours, {_short(error)}"


def _read(document: Any, name: str) -> tuple[Plan | None, str]:
    """Read the document of a plan as far as this version knows it, or say why not."""
    try:
        known = dict(document)
        for part, kind in PARTS.items():
            names = {field.name for field in fields(kind)}
            known[part] = {key: v for key, v in document[part].items() if key in names}
        plan = plan_of(known, name=f"{name} (space)")
        for key, types in DATA.items():
            if not isinstance(plan.facts["data"][key], types):
                raise TypeError(f"facts.data.{key} is {plan.facts['data'][key]!r}")
    except (ReplkError, LookupError, TypeError, ValueError, AttributeError) as error:
        return None, f"holds no plan that this version understands, {_short(error)}"
    return plan, ""


def _foreign(document: Mapping[str, Any]) -> Iterator[str]:
    """Give the settings that this version does not know."""
    for part, kind in PARTS.items():
        for name in sorted(document[part].keys() - {field.name for field in fields(kind)}):
            yield f"{part}.{name}"


def _differences(ours: Any, theirs: Any, name: str = "") -> Iterator[str]:
    """Give the dotted names of what differs in two documents."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in dict.fromkeys([*ours, *theirs]):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(ours.get(key), theirs.get(key), inner)
    elif ours != theirs:
        yield name


def _short(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:120]}"
