"""The files beside the record, made anew from it: tables, networks, figures, page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from runs.columns import table_schema
from runs.gathering import gather
from runs.history import History
from runs.page.document import Document, drawings
from runs.page.findings import Findings
from runs.page.html import html
from runs.page.markdown import markdown
from runs.page.pictures import pictures
from runs.page.sections import report
from runs.page.seen import NAME, as_json
from runs.plan import Plan
from runs.records import write_atomic
from search_space.errors import RunError
from search_space.yaml_io import dump_architecture

_OWN = re.compile(r"[0-9a-f]{12}|subspace-\d+")
"""Names of files that a report makes and drops again; others in its folders are somebody's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What a run came to."""

    findings: Findings
    """Its tables, and everything else that report and console say."""
    paths: list[Path]
    """Files that were written."""


def write_results(
    directory: Path,
    plan: Plan,
    history: History,
    *,
    predicates: Sequence[str] = (),
    missing: Sequence[str] = (),
    out: Path | None = None,
) -> Results:
    """Write trials.csv, front.csv and their schema, architectures/, figures/ and the report.

    Args:
        directory: of the run.
        plan: of the run.
        history: of the run.
        predicates: sub-spaces that the report compares.
        missing: what damage took, for the report to say.
        out: folder for the files; None: the run's own.

    Raises:
        RunError: a file cannot be written; the one before it is unchanged.
    """
    findings = gather(directory, plan, history, predicates=predicates, missing=missing)
    folder = out or directory
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tables = {"trials.csv": findings.frame, "front.csv": findings.front}
    paths = [folder / name for name in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        write_atomic(path, table.to_csv(index=False))
    paths.append(folder / "trials.schema.json")
    write_atomic(paths[-1], json.dumps(table_schema(), indent=2) + "\n")
    paths += _write_architectures(folder / "architectures", findings.front, history)
    paths += write_report(folder, report(findings))
    if findings.seen:
        paths.append(folder / "figures" / NAME)
        write_atomic(paths[-1], as_json(findings.seen))
    return Results(findings=findings, paths=paths)


def write_report(directory: Path, document: Document) -> list[Path]:
    """Write a document as report.html and report.md, and its figures as PNG and SVG.

    Raises:
        RunError: a file cannot be written; the one before it is unchanged.
    """
    folder = directory / "figures"
    with _writing(folder):
        folder.mkdir(exist_ok=True)
    paths, drawn = [], pictures(document)
    for key, picture in drawn.items():
        paths += [folder / f"{key}.png", folder / f"{key}.svg"]
        write_atomic(paths[-2], picture.png)
        write_atomic(paths[-1], picture.svg)
    for drawing in drawings(document):
        paths.append(folder / f"{drawing.key}.svg")
        with _writing(paths[-1]):
            paths[-1].parent.mkdir(exist_ok=True)
        write_atomic(paths[-1], drawing.svg)
    # Of networks that have left the front, and of predicates of an earlier report.
    for old in {*folder.glob("networks/*.svg"), *folder.glob("subspace-*.*")} - set(paths):
        if _OWN.fullmatch(old.stem):
            with _writing(old):
                old.unlink()
    for name, text in (("report.html", html(document, drawn)), ("report.md", markdown(document))):
        paths.append(directory / name)
        write_atomic(paths[-1], text)
    return paths


def _write_architectures(folder: Path, best: pd.DataFrame, history: History) -> list[Path]:
    """Write each network of the front; files of networks that have left it go."""
    with _writing(folder):
        folder.mkdir(exist_ok=True)
    paths = []
    for number in best["trial"]:
        trial = history.trials[int(number)]
        paths.append(folder / f"{trial.id}.yaml")
        write_atomic(paths[-1], dump_architecture(trial.architecture, name=trial.id))
    for old in set(folder.glob("*.yaml")) - set(paths):
        if _OWN.fullmatch(old.stem):
            with _writing(old):
                old.unlink()
    return paths


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: could not be written, {error.strerror or error}; the record is safe: "
            "make room, then write the results with 'replk-search report', or elsewhere with --out"
        ) from error
