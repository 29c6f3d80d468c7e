"""What stands beside the table of the guidelines: sanity, caveats, legend."""

from __future__ import annotations

import pytest

from evaluators.protocol import Protocol
from runs.guideline_notes import caveats, held_against, legend, rule_text, sanity_text
from tests.made_evidence import FIDELITY, dense, flat, sanity, untested, verdict


def test_a_run_without_evidence_says_nothing() -> None:
    for facts in ({}, {"guidelines": None}, {"guidelines": {"verdicts": []}}):
        assert caveats(facts) == held_against(facts) == legend(facts) == []
        assert sanity_text(facts) == ""


def test_what_cannot_be_tested_has_its_reason() -> None:
    said = caveats({"guidelines": flat()})
    assert "G3 kernels by stage, not testable here: needs a dense task." in said


def test_a_failed_replication_says_not_at_this_fidelity() -> None:
    said = " ".join(caveats({"guidelines": dense()}))
    assert f"G1: this says 'not at this fidelity' ({FIDELITY}), not that the guideline" in said


@pytest.mark.parametrize("word", ["rewarded", "punished", "not shown"])
def test_the_sanity_question_is_answered_for_the_pair_that_was_trained(word: str) -> None:
    text = sanity_text({"guidelines": dense(sanity=sanity(word))})
    assert "in one pair of networks, 5 and 5 trainings: large kernels in the later" in text
    assert "against small kernels everywhere, +3.10 points of mIoU" in text
    assert "95 % interval over seeds [+2.20, +4.00]; another pair may differ." in text


def test_what_was_held_against_what_is_told() -> None:
    assert held_against({"guidelines": dense()}) == [
        "G1 structure: se in every block, against no extra structure in the blocks."
    ]


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        (1, "1 block does not count: a training in it was lost for good."),
        (2, "2 blocks do not count: a training in each was lost for good."),
    ],
)
def test_lost_blocks_are_counted(lost: int, text: str) -> None:
    said = caveats({"guidelines": dense(incomplete=lost)})
    assert text in said


def test_divergence_is_told_with_the_effects_without_it() -> None:
    kept = [verdict("g1", "undecided", effect=0.3), untested("g2", "1 finished blocks")]
    diverged = {"trainings": 3, "blocks": 2, "verdicts": kept}
    assert (
        "3 trainings in 2 blocks diverged and count at chance level; without these blocks: "
        "G1 +0.30 [+0.11, +1.13]."
    ) in caveats({"guidelines": dense(diverged=diverged)})
    diverged = {"trainings": 1, "blocks": 1, "verdicts": kept[1:]}
    assert (
        "1 training in 1 block diverged and counts at chance level; without these blocks: "
        "too few are left."
    ) in caveats({"guidelines": dense(diverged=diverged)})


@pytest.mark.parametrize(("at", "early"), [(8, True), (12, False)])
def test_an_early_decision_is_told_with_its_lean(at: int, *, early: bool) -> None:
    found = [dense()["verdicts"][1] | {"decided_at": at}]
    protocol = dense()["protocol"] | {"rule": "obrien_fleming"}
    said = caveats({"guidelines": dense(verdicts=found, protocol=protocol)})
    assert said[-1].startswith("G2: estimates that were stopped early lean away from 0") is early
    assert ("about .17 points where the truth is .5 and by .04" in said[-1]) is early


@pytest.mark.parametrize(
    ("rule", "looks", "adjusted"),
    [
        ("fixed", "looked at once, after the last; alpha .05 over", "adjusted p: by Holm;"),
        (
            "obrien_fleming",
            "looked at after 8 and 12 of them by the bounds of O'Brien and Fleming; alpha .05",
            "adjusted p: over looks and guidelines;",
        ),
    ],
)
def test_the_legend_names_the_rule_and_its_hash(rule: str, looks: str, adjusted: str) -> None:
    protocol = dense()["protocol"] | {"rule": rule}
    reading, fixed, published = legend({"guidelines": dense(protocol=protocol)})
    assert adjusted in reading
    assert fixed.startswith(f"Fixed before the first training (sha256 {'0f' * 6}): hypotheses")
    assert f"12 planned blocks, {looks}" in fixed
    assert "G1 45.1 to 46.5 with SE (3a)" in published


def test_a_study_no_longer_than_its_first_look_is_looked_at_once() -> None:
    protocol = Protocol(task="segmentation", metric="miou", blocks=6, rule="obrien_fleming")
    assert rule_text(protocol).startswith("looked at after 6 of them")
