"""What of a run can still be read, for its report: nothing is repaired, locked or written.

`resume` refuses a run whose plan was changed or that a newer program wrote, as it would go on with
something else. A report need not: it says what the sound lines say, and what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from runs.columns import BY_NAME
from runs.history import History
from runs.plan import Plan
from runs.records import (
    MARK_NAME,
    RECORD_NAME,
    SCHEMA,
    Event,
    Scan,
    acknowledged,
    header_of,
    scan,
)
from runs.salvaged_plan import readable_plan
from runs.salvaged_table import TABLE_NAME, events_of_table
from runs.training_job import weights_path
from runs.wording import SCORES, plural
from search_space.errors import ReplkError, RunError

SHOWN = 5
"""How many numbers a note names before it says `and 7 more`."""
NUMBER, TEXT = (int, float), str
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "header": {},
    "asked": {"trial": int, "role": TEXT, "id": TEXT, "seed": int, "architecture": TEXT},
    "started": {"trial": int},
    "retried": {"trial": int},
    "interrupted": {"trials": list},
    "refused": {"trial": int, "rejected": dict, "duplicates": int},
    "done": {"trial": int, "state": TEXT},
    "longer": {"trial": int, "factor": NUMBER, "state": TEXT},
    "session": {"budget": int, "workers": int},
    "calibration": {},
    "reference": {"latency_ms": NUMBER},
    "exhausted": {},
    "timing": {"wall_s": NUMBER},
    "remeasured": {"latencies": dict},
    "tested": {},
    "finaltrained": {"id": TEXT},
    "finished": {"spent": NUMBER},
}
"""Events that this version knows, with the fields that it cannot do without."""
PERHAPS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "asked": {
        **dict.fromkeys(("params", "distributions", "study"), dict),
        **dict.fromkeys(("length", "share"), list),
        **dict.fromkeys(("repeat", "rung", "continues"), int),
        "outside_space": bool,
        "noise": TEXT,
    },
    "finaltrained": {"epochs": NUMBER, "test_accuracy": NUMBER, "curve": list},
}
"""Fields that may be missing or empty."""
INNER: dict[str, dict[str, type | tuple[type, ...]]] = {
    "study": {"block": int, "member": int, "levels": list, "varied": list},
    "confirm": {"target": (int, type(None)), "part": TEXT},
}
"""What is read of these fields, where there is one."""
KINDS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "whole": int,
    "seed": int,
    "number": NUMBER,
    "flag": bool,
}
"""What a value of a column is, by its kind."""
STATES = ("complete", "diverged", "stopped", "failed", "infeasible")
TRAINED = ("complete", "diverged", "stopped")
NEEDED = ("macs", "params")
"""Values that a trained network has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Salvaged:
    """A run as far as it is sound."""

    plan: Plan
    history: History
    missing: tuple[str, ...]
    """What is not sound, one sentence each; empty where nothing is wrong."""


def salvaged(directory: Path) -> Salvaged:
    """Read what is sound of a run, whether or not a search goes on there.

    Raises:
        RunError: there is no run, nothing of its trials can be read, or not what was planned.
    """
    notes: list[str] = []
    found, why = _scanned(directory)
    events = found.events
    if events:
        notes += _of_record(directory, found)
    else:
        notes.append(
            f"{RECORD_NAME}: {why}; {TABLE_NAME} stands for it, without learning curves, study "
            "and confirmation"
        )
    try:
        if not events:
            events = events_of_table(directory)
    except RunError as error:
        raise RunError(
            f"{directory}: must hold {RECORD_NAME} of a run: it {why}, and {error}; "
            "restore it from a copy, or name another directory"
        ) from None
    plan, more = readable_plan(directory, header_of(events))
    notes += more
    events, more = _understood(events)
    history, lost = _history(events)
    notes += [*more, *lost, *_of_trials(history, damaged=bool(notes))]
    return Salvaged(
        plan=plan, history=history, missing=(*notes, *_of_files(directory, plan, history))
    )


def _scanned(directory: Path) -> tuple[Scan, str]:
    """Give the undamaged events of the record, and why there are none."""
    if not directory.is_dir():
        raise RunError(
            f"{directory}: must be the directory of a run, there is none; "
            "name one that holds trials.jsonl, such as those in results/"
        )
    why = "holds no undamaged line"
    try:
        content = (directory / RECORD_NAME).read_bytes()
    except FileNotFoundError:
        content, why = b"", "is not there"
    except OSError as error:
        content, why = b"", f"cannot be read, {error.strerror}"
    return scan(content), why


def _of_record(directory: Path, found: Scan) -> Iterator[str]:
    """Say what the record lost, and whether a newer program wrote it."""
    events, mark = found.events, acknowledged(directory)
    last = max(mark, events[-1]["seq"] + 1)
    lost = last - len(events)
    if found.bad_lines or found.torn:
        lines = [plural(found.bad_lines, "damaged line")] if found.bad_lines else []
        lines += ["a torn end"] if found.torn else []
        yield f"{RECORD_NAME}: has {' and '.join(lines)}, passed over"
    if lost:
        present = {event["seq"] for event in events}
        # A damaged count may be of any size.
        gone = _numbers((seq for seq in range(last) if seq not in present), lost)
        yield f"{RECORD_NAME}: {lost} of {plural(last, 'event')} lost, {gone}"
    if not mark:
        yield f"{MARK_NAME}: cannot be read; events lost at the end of the record go unnoticed"
    header = header_of(events)
    schema = SCHEMA if header is None else header.get("schema")
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        yield (
            f"{RECORD_NAME}: a newer replk-search wrote it, schema {schema!r} where this one knows "
            f"{SCHEMA}; what it knows of it is reported: update it to see all"
        )


def _understood(events: Sequence[Event]) -> tuple[list[Event], list[str]]:
    """Leave out what this version does not know; say what that was."""
    kept = []
    passed: dict[tuple[str, str], Counter[str]] = {
        ("event", "unknown to this version"): Counter(),
        ("event", "in a form unknown to it"): Counter(),
        ("value", "in a form unknown to it"): Counter(),
    }
    unknown, odd, values = passed.values()
    for event in events:
        kind = event["event"]
        if kind not in FIELDS:
            unknown[kind] += 1
        elif _is_sound(event):
            strange = [name for name in event if kind == "done" and not _fits(name, event[name])]
            values.update(strange)
            kept.append({name: v for name, v in event.items() if name not in strange})
        else:
            odd[kind] += 1
    notes = []
    for (noun, what), counted in passed.items():
        if counted:
            names = ", ".join(f"{name!r}" for name in sorted(counted)[:SHOWN])
            several = plural(counted.total(), noun)
            notes.append(f"{RECORD_NAME}: {several} {what}, passed over: {names}")
    return kept, notes


def _is_sound(event: Event) -> bool:
    """Whether an event has what is read of it."""
    kind = event["event"]
    if not _has(event, FIELDS[kind]):
        return False
    perhaps = ((event.get(name), types) for name, types in PERHAPS.get(kind, {}).items())
    if not all(value is None or isinstance(value, types) for value, types in perhaps):
        return False
    if kind == "asked":
        inner = ((event.get(name), fields) for name, fields in INNER.items())
        # Every training of the confirmation says which part of it it is.
        return (event["role"] != "confirm" or event.get("confirm") is not None) and all(
            value is None or (isinstance(value, dict) and _has(value, fields))
            for value, fields in inner
        )
    if kind != "done":
        return True
    if event["state"] in TRAINED and not all(isinstance(event.get(n), int) for n in NEEDED):
        return False
    scored = any(isinstance(event.get(name), NUMBER) for name in SCORES)
    return event["state"] in STATES and (scored or event["state"] != "complete")


def _has(values: Event, fields: Mapping[str, type | tuple[type, ...]]) -> bool:
    return all(isinstance(values.get(name), types) for name, types in fields.items())


def _fits(name: str, value: Any) -> bool:
    """Whether a value of a finished trial is what its column holds, or is left empty."""
    if name == "curve":
        points = value if isinstance(value, list) else [value]
        return all(
            isinstance(p, list) and len(p) == 2 and all(isinstance(x, NUMBER) for x in p)
            for p in points
        )
    kinds = KINDS[BY_NAME[name].kind] if name in BY_NAME else (str, int, float)
    if isinstance(value, bool):
        return kinds is bool
    return value is None or isinstance(value, kinds)


def _history(events: list[Event]) -> tuple[History, list[str]]:
    """Add up the events, without those that cannot be; say which."""
    odd: dict[int, Event] = {}
    while True:
        history, before = History(), len(odd)
        for event in events:
            if event["seq"] not in odd:
                try:
                    history.apply(event)
                except (ReplkError, LookupError, TypeError, ValueError, AttributeError):
                    odd[event["seq"]] = event
        # An event that failed half-way may have left something: once more without it.
        if len(odd) == before:
            break
    numbers = _numbers(sorted(odd), len(odd))
    several = plural(len(odd), "event")
    notes = [f"{RECORD_NAME}: {several} not understood, passed over: {numbers}"] if odd else []
    asked = history.trials.keys()
    nameless = {event["trial"] for event in events if event["event"] == "done"} - asked
    if nameless:
        notes.append(
            f"{RECORD_NAME}: the networks of {plural(len(nameless), 'trial')} are lost, the "
            f"results with them: {_numbers(sorted(nameless), len(nameless))}"
        )
    return history, notes


def _of_trials(history: History, *, damaged: bool) -> Iterator[str]:
    """Say which trials have no result, where damage may be why."""
    pending = [trial.number for trial in history.pending]
    if pending and (damaged or "finished" in history.final):
        several = plural(len(pending), "trial")
        yield f"{RECORD_NAME}: holds no result of {several}, {_numbers(pending, len(pending))}"


def _of_files(directory: Path, plan: Plan, history: History) -> Iterator[str]:
    """Say which files beside the record are gone."""
    written = "finished" in history.final or (directory / TABLE_NAME).exists()
    if written and not (directory / "architectures").is_dir():
        yield "architectures/: is not there; its files are made anew from the record"
    kept = plan.settings.keep_weights
    complete = [t.number for t in history.trials.values() if t.state == "complete"]
    if kept != "none" and complete and not (directory / "weights").is_dir():
        yield "weights/: is not there; no trained network can be drawn, merged or exported"
        return
    if kept == "all":
        gone = [number for number in complete if not weights_path(directory, number).exists()]
        if gone:
            several = plural(len(gone), "trial")
            yield f"weights/: holds no weights of {several}, {_numbers(gone, len(gone))}"
    final = history.final.get("finaltrained")
    if final is not None and final.get("state", "complete") == "complete":
        name = f"weights/final-{final['id']}.safetensors"
        if not (directory / name).exists():
            yield f"{name}: is not there; the network that was trained on cannot be exported"


def _numbers(numbers: Iterable[int], count: int) -> str:
    """Write the first of some numbers, and how many follow."""
    more = f" and {count - SHOWN} more" if count > SHOWN else ""
    return f"number {', '.join(map(str, islice(numbers, SHOWN)))}{more}"
