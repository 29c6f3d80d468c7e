"""Cards of networks: numbers as in the frame and the cost model, and nothing where nothing is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from evaluators.cost import Cost, cost, cost_by_part
from evaluators.latency_model import Conditions, LatencyModel
from evaluators.operators import operators
from runs.outputs import write_report
from runs.page import cards
from runs.page import findings as findings_module
from runs.page.cards import compliance_text, compliance_words
from runs.page.document import (
    Block,
    Card,
    Cards,
    Code,
    Details,
    Document,
    Drawing,
    Pairs,
    Table,
    Text,
    drawings,
)
from runs.page.findings import MOST_CARDS, Findings, Seen, carded
from runs.page.hover import hovers
from runs.page.html import html
from runs.page.markdown import markdown
from runs.ranking import front, objectives_named
from search_space.architecture import Architecture
from search_space.yaml_io import load_architecture
from tests.family_architectures import EVERY, FAMILY, small_architecture
from tests.made_runs import NAMES, facts_of, frame_of, networks, rows

COUNT = 12
DATA = {"name": "made", "classes": [str(number) for number in range(10)]}
CONDITIONS = Conditions(num_classes=10, vector=16)


@pytest.fixture(scope="module")
def model() -> LatencyModel:
    drawn = networks(COUNT)
    return LatencyModel.fit(
        drawn, [cost(one, 10).macs_inference / 1e6 for one in drawn], CONDITIONS
    )


def findings_of(
    trials: list[dict[str, Any]] | None = None,
    names: tuple[str, ...] = NAMES,
    **changes: Any,
) -> Findings:
    frame = frame_of(rows(COUNT) if trials is None else trials, names)
    known = {key: changes.pop(key) for key in ("curves", "seen", "unseen") if key in changes}
    objectives = objectives_named(names)
    facts = facts_of(frame, names, data=DATA, **changes)
    best = front(frame, objectives)
    return Findings(facts=facts, frame=frame, front=best, objectives=objectives, **known)


@cache
def plain() -> Findings:
    return findings_of()


def cards_of(findings: Findings) -> list[Card]:
    section = cards.section(findings)
    assert section is not None
    folded = [block for block in section.blocks if isinstance(block, Details)]
    blocks = [*section.blocks, *(block for part in folded for block in part.blocks)]
    return [card for block in blocks if isinstance(block, Cards) for card in block.cards]


def of_kind(card: Card, kind: type[Block]) -> list[Any]:
    return [block for block in card.blocks if isinstance(block, kind)]


def pairs_of(card: Card) -> dict[str, str]:
    (pairs,) = of_kind(card, Pairs)
    return dict(pairs.rows)


def row_of(findings: Findings, card: Card) -> pd.Series[Any]:
    return findings.frame[findings.frame["id"] == card.network].iloc[0]


def some_seen(**changes: Any) -> Seen:
    map_HW = np.linspace(0, 1, 28 * 28).reshape(28, 28)
    known = {"area50": 0.125, "sigma_px": 4.26, "saturated": False, "images": 8}
    return Seen(**{"map": map_HW, "size": (28, 28), "weights": "1 abc", **known, **changes})


# Costs.


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("head", ["pool_norm", "dense"])
def test_parts_add_up_to_the_whole(name: str, head: str) -> None:
    architecture = replace(EVERY[name], head=head)
    parts = cost_by_part(architecture, 7)
    total = [sum(values) for values in zip(*parts.values(), strict=True)]
    whole = asdict(cost(architecture, 7))
    assert whole.pop("depth") == architecture.depth
    assert total == list(whole.values())
    stages = len(architecture.stages)
    between = [name for n in range(2, stages + 1) for name in (f"to stage {n}", f"stage {n}")]
    assert list(parts) == ["stem", "stage 1", *between, "head"]


def test_a_part_costs_what_its_operators_cost() -> None:
    """Against the operators, which count each part on their own."""
    architecture = FAMILY["unireplknet"]
    parts = cost_by_part(architecture, 7)
    listed = list(operators(architecture, 7))
    assert sum(part.macs_inference for part in parts.values()) == sum(o.macs for o in listed)
    # The head is the last three: pool, norm, linear; the linear layer alone multiplies.
    assert parts["head"].macs_inference == sum(o.macs for o in listed[-3:]) == 16 * 7


@pytest.mark.parametrize("name", EVERY)
def test_predicted_milliseconds_add_up_to_the_prediction(name: str, model: LatencyModel) -> None:
    found = model.predict_by_part(EVERY[name])
    assert sum(found.values()) == pytest.approx(model.predict(EVERY[name]))
    assert list(found) == list(cost_by_part(EVERY[name], 10))


# Which networks have a card.


def test_every_network_of_the_front_has_a_card_and_the_recommended_one_is_first() -> None:
    findings = plain()
    found = cards_of(findings)
    assert {card.network for card in found} == {*findings.front["id"], found[0].network}
    assert found[0].network == findings.facts["recommended"]
    assert [card.badge for card in found] == ["recommended"] + [""] * (len(found) - 1)


def test_a_recommended_network_beside_the_front_has_a_card_too() -> None:
    findings = plain()
    other = next(one for one in findings.competing["id"] if one not in set(findings.front["id"]))
    found = cards_of(replace(findings, facts={**findings.facts, "recommended": other}))
    assert [found[0].network, found[0].badge] == [other, "recommended"]
    assert len(found) == len(findings.front) + 1


def test_the_most_likely_members_have_cards_and_the_others_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most, count = 5, 8
    assert most < MOST_CARDS
    monkeypatch.setattr(findings_module, "MOST_CARDS", most)
    same = {f"t{n}": {"accuracy": 0.5 + n / 1000, "latency_ms": 1.0 + n} for n in range(count)}
    trials = [row | {"p_front": row["trial"] / 100} for row in rows(count, **same)]
    findings = findings_of(trials)
    assert len(findings.front) == count
    section = cards.section(findings)
    assert section is not None
    likely = findings.front.sort_values("p_front", ascending=False)["id"].tolist()
    assert [card.network for card in cards_of(findings)] == likely[:most]
    assert isinstance(section.blocks[0], Text)
    assert "3 further networks of the front have no card" in section.blocks[0].text


def test_unknown_membership_goes_by_rank() -> None:
    findings = plain()
    expected = findings.front.sort_values("rank")["id"].tolist()
    assert carded(findings.frame, findings.front, {}) == expected


def test_hollow_points_and_marked_networks_have_cards_and_the_rest_has_none() -> None:
    trials = [row | {"p_front": 0.05} for row in rows(20)]
    frame = frame_of(trials)
    beside = [n for n in frame["id"] if n not in set(front(frame, objectives_named(NAMES))["id"])]
    hollow, published, corner, reference, other = beside[:5]
    for row in trials:
        row["p_front"] = 0.1 if row["id"] == hollow else row["p_front"]
    found = findings_of(
        trials,
        anchors=[
            {"id": published, "names": ["shape of X"], "published": True},
            {"id": corner, "names": ["middle of the space"], "published": False},
        ],
        reference_network={"id": reference, "latency_ms": 1.0, "macs": 5, "params": 6},
    )
    assert {hollow, published, corner, reference} <= set(found.carded)
    assert other not in found.carded
    assert found.carded[0] == found.facts["recommended"]
    told = hovers(found)
    for row in found.competing.to_dict("records"):
        assert told[row["trial"]].endswith("no card") == (row["id"] not in found.carded)


def test_without_a_front_there_is_no_section() -> None:
    failed = [row | {"state": "failed", "accuracy": None} for row in rows(3)]
    assert cards.section(findings_of(failed)) is None


# What is on a card.


def test_numbers_are_those_of_the_frame_and_of_the_cost_model(model: LatencyModel) -> None:
    findings = findings_of(latency_model=model.to_dict())
    for card in cards_of(findings):
        row, told = row_of(findings, card), pairs_of(card)
        architecture = Architecture.from_json(row["architecture"])
        assert f"{row['accuracy']:.1%} of the validation images" in told["score"]
        assert f"rank {row['rank']}" in told["standing"]
        assert told["latency"].startswith(f"{row['latency_ms']:.3f} ms")
        assert f"{row['latency_low_ms']:.3f} to {row['latency_high_ms']:.3f}" in told["latency"]
        assert "for one image on AMD EPYC" in told["latency"]
        assert told["size"].startswith(f"{row['params']:,} parameters, {row['macs']:,} multiply")
        (table,) = of_kind(card, Table)
        parts = cost_by_part(architecture, 10)
        assert [line.cells[0].text for line in table.rows] == list(parts)
        for line, part in zip(table.rows, parts.values(), strict=True):
            assert line.cells[2].value == pytest.approx(part.params_inference / 1e3)
            assert line.cells[3].value == pytest.approx(part.macs_inference / 1e6)
        for column in (4, 5):
            assert sum(line.cells[column].value or 0 for line in table.rows) == pytest.approx(1)


def test_estimates_and_seeds_are_told() -> None:
    made = rows(COUNT)
    best = max(made, key=lambda row: row["accuracy"])
    known = {"estimate": 0.9123, "estimate_low": 0.9, "estimate_high": 0.92, "rank_low": 1}
    known |= {"rank_high": 4, "tied": True, "p_front": 0.91, "p_best": 0.4, "test_accuracy": 0.79}
    first = best | known
    again = best | {"trial": 90, "role": "confirm", "repeat": 1, "accuracy": 0.7777}
    card = cards_of(findings_of([*(r for r in made if r is not best), first, again]))[0]
    told = pairs_of(card)
    assert card.network == best["id"]
    assert "estimate over seeds 91.2% (95 % interval 90.0% to 92.0%)" in told["score"]
    assert "79.0% of the test images" in told["score"]
    assert f"2 seeds: {best['accuracy']:.1%}, 77.8%" in told["score"]
    assert "95 % interval 1 to 4" in told["standing"]
    assert "on the front with probability 91.0%" in told["standing"]


def test_the_final_training_is_told_of_its_network_alone() -> None:
    first, *others = cards_of(plain())
    assert pairs_of(first)["trained on"] == (
        "for 12 epochs: 91.0% of the validation images, 90.2% of the test images"
    )
    assert all("trained on" not in pairs_of(card) for card in others)


def test_costs_that_are_not_those_of_the_record_are_left_out() -> None:
    changed = findings_of([row | {"macs": row["macs"] + 1} for row in rows(COUNT)])
    assert all(not of_kind(card, Table) for card in cards_of(changed))


def test_curves_are_those_of_the_network_with_other_seeds_thin() -> None:
    made = rows(COUNT)
    best = max(made, key=lambda row: row["accuracy"])
    again = best | {"trial": 90, "role": "confirm", "repeat": 1}
    curves = {best["trial"]: [(10, 2.0), (20, 1.0)], 90: [(10, 2.5), (20, 1.5)]}
    first, *others = cards_of(findings_of([*made, again], curves=curves))
    (_, curve) = of_kind(first, Drawing)
    root = ElementTree.fromstring(curve.svg)
    kinds = [path.get("class") for path in root.iter() if path.tag.endswith("path")]
    assert kinds == ["other", "curve", "dot", "dot"]
    assert "from 2.000 by step 10 to 1.000 by step 20" in curve.reading
    assert "1 other seed" in curve.reading
    assert all(len(of_kind(card, Drawing)) == 1 for card in others)


@pytest.mark.parametrize("curve", [[(5, 1.0)], [(5, 1.0), (9, 1.0)], [(5, float("nan")), (9, 1.0)]])
def test_a_curve_of_few_or_odd_points_is_drawn(curve: list[tuple[int, float]]) -> None:
    findings = plain()
    trial = int(row_of(findings, cards_of(findings)[0])["trial"])
    drawn = of_kind(cards_of(replace(findings, curves={trial: curve}))[0], Drawing)
    assert len(drawn) == 2
    assert "nan" not in drawn[1].svg


def test_a_curve_without_a_finite_point_is_left_out() -> None:
    findings = plain()
    trial = int(row_of(findings, cards_of(findings)[0])["trial"])
    nothing = replace(findings, curves={trial: [(5, float("nan"))]})
    assert len(of_kind(cards_of(nothing)[0], Drawing)) == 1


def test_what_a_network_sees_is_shown_with_its_numbers_or_the_reason() -> None:
    findings = plain()
    first, second = (card.network for card in cards_of(findings)[:2])
    known = replace(findings, seen={first: some_seen()}, unseen={second: "it was too large"})
    one, other = cards_of(known)[:2]
    (_, heat) = of_kind(one, Drawing)
    ElementTree.fromstring(heat.svg)
    assert "data:image/png;base64," in heat.svg
    assert "12.5% of the pixels, sigma is 4.3 px (mean of 8 test images)" in heat.reading
    assert "What it sees was not measured: it was too large." in [
        block.text for block in of_kind(other, Text)
    ]


def test_a_field_that_the_image_cuts_has_a_lower_bound() -> None:
    findings = plain()
    network = cards_of(findings)[0].network
    seen = some_seen(saturated=True, size=(28, 56), map=np.ones((28, 56)))
    (_, heat) = of_kind(cards_of(replace(findings, seen={network: seen}))[0], Drawing)
    assert "sigma is at least 4.3 px, cut by the border" in heat.reading


@pytest.mark.parametrize("names", [("accuracy",), ("accuracy", "params"), ("val_loss", "macs")])
def test_runs_without_latency_or_with_one_objective_have_cards(names: tuple[str, ...]) -> None:
    nothing = {"latency_ms": None, "latency_low_ms": None, "latency_high_ms": None}
    findings = findings_of([row | nothing for row in rows(COUNT)], names)
    for card in cards_of(findings):
        assert "latency" not in pairs_of(card)
        assert [column.heading for column in of_kind(card, Table)[0].columns][-1] == "of all MACs"


def test_the_command_takes_any_directory() -> None:
    findings = findings_of(directory="/tmp/my runs/$(x)")
    card = cards_of(findings)[0]
    (code,) = of_kind(card, Code)
    assert code.text.splitlines()[0] == (
        f"replk-search export '/tmp/my runs/$(x)' {card.network} --to {card.network}"
    )


# Guidelines.


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unireplknet_s", ("SE", "dilated", "3|13|13|13", "3x3")),
        ("replknet_31b", ("none", "small", "31|29|27|13", "large")),
        ("convnext_t", ("none", "bare", "7|7|7|7", "shallow")),
        ("slak_t", ("none", "small", "51|49|27|13", "shallow")),
        ("unireplknet_ablation_bottleneck", ("bottleneck", "dilated", "3|13|13|13", "shallow")),
        ("unireplknet_ablation_reparam_kernels", ("SE", "undilated", "3|13|13|13", "shallow")),
        ("replknet_b_3", ("none", "no large", "3|3|3|3", "3x3")),
    ],
)
def test_compliance_has_a_word_for_each_score(name: str, words: tuple[str, ...]) -> None:
    architecture = load_architecture(name)
    assert compliance_words(architecture) == words
    assert [part.split(" ")[0] for part in compliance_text(architecture).split(", ")] == [
        "S1",
        "S2",
        "S3",
        "S4",
    ]


# As pages and files.


def document_of(findings: Findings) -> Document:
    section = cards.section(findings)
    assert section is not None
    return Document(title="t", subtitle="s", answer=[], sections=[section], data={})


def headings(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if line.startswith("#"))


def test_markdown_folds_cards_and_stays_short() -> None:
    findings = plain()
    text = markdown(document_of(findings))
    count = len(cards_of(findings))
    assert text.count("<details>") == text.count("</details>") == count
    assert list(headings(text)) == ["# t", "## Networks one by one"]
    assert len(text.splitlines()) < 40 * (count + 1)


def test_a_page_links_cards_to_their_neighbours_and_the_front() -> None:
    findings = plain()
    page = html(document_of(findings), {})
    ids = [card.network for card in cards_of(findings)]
    assert re.findall(r'<article class="card" id="card-(\w+)"', page) == ids
    assert re.findall(r'href="#card-(\w+)" rel="next"', page) == ids[1:]
    assert re.findall(r'href="#card-(\w+)" rel="prev"', page) == ids[:-1]
    assert page.count('href="#front"') == len(ids)


def test_names_of_a_run_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    findings = findings_of(
        directory=evil,
        device={"name": evil},
        anchors=[{"id": networks(1)[0].id, "names": [evil], "published": True}],
    )
    one = networks(1)[0].id
    known = replace(
        findings,
        facts={**findings.facts, "recommended": one},
        unseen={one: evil},
    )
    assert evil not in html(document_of(known), {})
    # Between fences Markdown reads nothing.
    assert evil not in re.sub(r"```.*?```", "", markdown(document_of(known)), flags=re.DOTALL)


def test_drawings_are_files_of_their_own(tmp_path: Any) -> None:
    document = document_of(plain())
    found = drawings(document)
    paths = write_report(tmp_path, document)
    for drawing in found:
        path = tmp_path / "figures" / f"{drawing.key}.svg"
        assert path in paths
        assert path.read_text(encoding="utf-8") == drawing.svg
        ElementTree.parse(path)
    assert [drawing.key for drawing in found] == [
        f"networks/{card.network}" for card in cards_of(plain())
    ]


@pytest.mark.parametrize("block", FAMILY)
def test_every_family_has_a_card(block: str) -> None:
    made = rows(3)
    architecture = small_architecture(block)
    counted: Cost = cost(architecture, 10)
    made[0] |= {"id": architecture.id, "architecture": architecture.to_json(), "accuracy": 0.99}
    made[0] |= {"macs": counted.macs_inference, "params": counted.params_inference}
    card = cards_of(findings_of(made))[0]
    assert card.network == architecture.id
    assert len(of_kind(card, Table)[0].rows) == 9


def test_only_cards_of_the_front_stand_open() -> None:
    section = cards.section(plain())
    assert section is not None
    opened = [c.network for b in section.blocks if isinstance(b, Cards) for c in b.cards]
    assert set(opened) <= {*plain().front["id"], plain().facts["recommended"]}
    folded = [block for block in section.blocks if isinstance(block, Details)]
    assert bool(folded) == (len(cards_of(plain())) > len(opened))
    assert not any(block.unfolded for block in folded)
