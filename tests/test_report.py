"""What the page of a run says, read as a browser reads it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from runs.page.html import TEMPLATES, html
from runs.page.sections import report
from runs.ranking import front, objectives_named
from tests.made_evidence import champion, dense, noise, with_standing
from tests.made_runs import NAMES, facts_of, failed, frame_of, rows
from tests.pages import EVIL, Reader, findings_of, read


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    trials = [*rows(20, t4={"state": "diverged", "accuracy": None, "val_loss": None})]
    best = front(frame_of(trials), objectives_named(NAMES))["trial"].tolist()
    for number in best:
        trials[number] |= {"test_accuracy": trials[number]["accuracy"] - 0.01, "separable": True}
    trials[best[0]]["separable"] = False
    return frame_of([*trials, failed(20, "error: MemoryError: 9 GB\nat line 3")])


@pytest.fixture(scope="module")
def best(frame: pd.DataFrame) -> pd.DataFrame:
    return front(frame, objectives_named(NAMES))


@pytest.fixture(scope="module")
def reader(frame: pd.DataFrame) -> Reader:
    return read(frame)


def test_the_page_loads_nothing(reader: Reader) -> None:
    assert not {"iframe", "object", "embed", "base"} & {tag for tag, _ in reader.tags}
    for tag, attributes in reader.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, name)


def test_the_style_of_the_page_loads_nothing() -> None:
    style = (TEMPLATES / "page.css").read_text("utf-8")
    for word in ("url(", "@import", "http", "</"):
        assert word not in style


def test_the_table_of_the_front_equals_the_frame(reader: Reader, best: pd.DataFrame) -> None:
    table = reader.table("Networks of the front")
    assert len(best) >= 3
    assert [row["no."] for row in table] == [str(n) for n in range(1, len(best) + 1)]
    for shown, (_, row) in zip(table, best.iterrows(), strict=True):
        assert shown["network"].removesuffix("recommended") == row["id"]
        assert shown["val. accuracy"] == f"{100 * row['accuracy']:.1f}%"
        assert shown["val. loss"] == f"{row['val_loss']:.3f}"
        assert shown["test accuracy"] == f"{100 * row['test_accuracy']:.1f}%"
        low, high = row["latency_low_ms"], row["latency_high_ms"]
        interval = f"{row['latency_ms']:.3f} ({low:.3f}\u2013{high:.3f})"
        assert shown["latency, ms (95 % interval)"] == interval
        assert shown["MMACs"] == f"{row['macs'] / 1e6:.2f}"
        assert shown["k params"] == f"{row['params'] / 1e3:.1f}"
        assert shown["kernels"] == row["kernels"]
        assert shown["depths"] == row["depths"]
        assert shown["widths"] == row["widths"]
        assert shown["structure"] == row["structures"]
        for heading in ("S1", "S2", "S3", "S4"):
            value = row[heading.lower()]
            assert shown[heading] == ("\u2013" if pd.isna(value) else f"{value:.2f}")
    assert [row["separable"] for row in table] == ["no"] + ["yes"] * (len(best) - 1)


def test_one_network_is_marked_as_recommended(reader: Reader, frame: pd.DataFrame) -> None:
    marked = [row["network"] for row in reader.table("Networks of the front")]
    assert [text for text in marked if "recommended" in text] == [
        f"{frame.iloc[0]['id']}recommended"
    ]


def test_the_ranking_follows_the_frame_and_ends_with_the_diverged(
    reader: Reader, frame: pd.DataFrame
) -> None:
    table = reader.table("Trials by the first objective")
    assert [row["rank"] for row in table] == [str(n) for n in range(1, 21)]
    assert [row["network"].removesuffix("recommended") for row in table] == frame["id"].tolist()[
        :20
    ]
    assert table[-1]["state"] == "diverged"
    assert table[-1]["val. accuracy"] == "\u2013"
    assert "The first 20 of 21 trials" in reader.text


def test_the_answer_names_the_network_its_numbers_and_the_baseline(
    reader: Reader, frame: pd.DataFrame
) -> None:
    row = frame.iloc[0]
    answer = re.sub(r"\s+", " ", reader.text)
    assert f"Take network {row['id']} (kernels by stage {row['kernels']})" in answer
    assert f"{row['latency_ms']:.3f} ms for one image on this device" in answer
    assert f"{row['params']:,} parameters, {row['macs'] / 1e6:.2f} million multiply-adds" in answer
    assert f"multiply-adds, {row['accuracy']:.1%} of the validation images right after" in answer
    assert (
        "Whether it is the best of the 19 is not known, as the noise of a training was not "
        "measured; trained on for 12 epochs it gets 90.2% of the test images right, "
        "multinomial logistic regression on the same data gets 83.6%."
    ) in answer
    assert "The guidelines were not tested here" in answer
    assert (
        "It rests on 19 trainings of 19 distinct networks; "
        "the search took 22 min, 2 trainings at a time."
    ) in answer


def test_a_network_that_loses_to_the_linear_classifier_is_called_so(frame: pd.DataFrame) -> None:
    final = facts_of(frame)["final"] | {"test_accuracy": 0.8}
    text = read(frame, final=final).text
    assert "gets 83.6%, so on this data the network is not worth its cost." in text


def test_a_run_without_a_final_training_says_so(frame: pd.DataFrame) -> None:
    assert "it was not trained on after the search" in read(frame, final=None).text
    final = facts_of(frame)["final"] | {"test_accuracy": None, "state": "diverged"}
    assert "its longer training diverged and left nothing to test" in read(frame, final=final).text


def test_what_was_left_out_is_counted_with_its_reasons(frame: pd.DataFrame) -> None:
    counts = {"complete": 19, "diverged": 1, "failed": 1, "duplicate": 14, "rejected": 22}
    reader = read(frame, counts=counts)
    tally = reader.table("Proposals of the sampler")
    assert [row["proposals"] for row in tally] == ["19", "1", "1", "14", "22"]
    assert reader.table("Rejected proposals") == [
        {"proposals": "22", "constraint": "params <= 500000"}
    ]
    assert reader.table("Failed trials") == [{"trials": "1", "reason": "error: MemoryError: 9 GB"}]


def test_an_audit_stands_where_trust_is_spoken_of(frame: pd.DataFrame) -> None:
    assert "replk-search audit results/x" in read(frame).text
    sheet = {
        "title": "rankings against the scores after 4 times the length",
        "headings": ("ranking by", "tau-b [95 % CI]"),
        "rows": (("short training", "0.47 [0.14, 0.75]"),),
        "words": 1,
        "notes": ("A note.",),
    }
    told = {"headline": "Short ones rank well.", "remarks": ["One failed."], "sheets": [sheet]}
    found = read(frame, audit=told)
    assert found.table("Audit: rankings against") == [
        {"ranking by": "short training", "tau-b [95 % CI]": "0.47 [0.14, 0.75]"}
    ]
    for text in ("Short ones rank well.", "One failed.", "A note."):
        assert text in found.text
    assert "replk-search audit" not in found.text


def test_what_damage_took_is_listed(frame: pd.DataFrame) -> None:
    assert "3 lines of trials.jsonl" in read(frame, missing=["3 lines of trials.jsonl"]).text


def test_the_hypervolume_stands_beside_its_reference_point(frame: pd.DataFrame) -> None:
    point = {"accuracy": 0.45, "latency": 1.5}
    text = read(frame, hypervolume=0.41234, reference_point=point).text
    assert "Hypervolume 0.4123, by one training of each network:" in text
    assert "validation accuracy 45.0%, latency of the merged network 1.500 ms" in text


def test_the_method_says_data_recipe_device_versions_and_commit(reader: Reader) -> None:
    for said in (
        "fashion_mnist_12k: 8,000 to train, 2,000 to validate, 2,000 to test images",
        "sha256 bac7e2bf",
        "2 epochs; batches of",
        "through the merged network on 1 thread, float32",
        "CPU, AMD EPYC, 2 cores",
        "sampler tpe; objectives accuracy, latency; budget 20; workers 2; seed 0",
        "828,360 distinct networks; every network meets the constraints",
        "Python 3.12.1, torch 2.13.0, Linux",
        "git commit 0123456789abcdef",
        "With 2,000 validation images the standard error of an accuracy of",
    ):
        assert said in reader.text


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("replk-search --budget 20", "replk-search --budget 20 --seed 0"),
        ("replk-search --seed 0", "replk-search --seed 0"),
        ("replk-search --seed=0 --quiet", "replk-search --seed=0 --quiet"),
        ("replk-search --out 'my --seed run'", "replk-search --seed 0"),
        ("replk-search --out=x --data 'my data'", "replk-search --data 'my data' --seed 0"),
    ],
)
def test_the_command_that_repeats_the_run_has_its_seed(
    frame: pd.DataFrame, command: str, shown: str
) -> None:
    assert f"\n{shown}\n" in read(frame, command=command).text


def test_latencies_that_were_disturbed_are_told_and_marked() -> None:
    calm = read(frame_of(rows(12)))
    assert "disturbed" not in calm.text
    told = {f"t{number}": {"latency_disturbed": number < 3} for number in range(12)}
    page = read(frame_of(rows(12, **told)))
    assert "3 latencies were measured while something else kept the machine busy" in page.text
    assert "disturbed" in page.table("Networks of the front")[0]


def test_the_method_names_what_ran_the_networks(frame: pd.DataFrame) -> None:
    assert "float32, by torch, channels last, while every training waits" in read(frame).text
    settings = facts_of(frame)["settings"] | {"latency_backend": "onnxruntime"}
    assert "float32, by ONNX Runtime, while every" in read(frame, settings=settings).text


def test_uncommitted_code_and_code_without_a_clone_are_named(frame: pd.DataFrame) -> None:
    assert "git commit 0123, with changes that were not" in read(frame, git_commit="0123+").text
    assert "not run from a git clone" in read(frame, git_commit=None).text


def test_a_resumed_run_lists_its_sessions_and_does_not_claim_the_last_ones_time(
    frame: pd.DataFrame,
) -> None:
    sessions = [{"started": "2026-01-02", "budget": n, "command": "a"} for n in (10, 20)]
    reader = read(frame, sessions=sessions)
    assert [row["budget"] for row in reader.table("Sessions")] == ["10", "20"]
    assert [row["workers"] for row in reader.table("Sessions")] == ["\u2013", "\u2013"]
    assert "the search took" not in reader.text
    assert "one after the other they would take 3 min" in reader.text


def test_names_from_outside_are_shown_as_text_everywhere(frame: pd.DataFrame) -> None:
    data = facts_of(frame)["data"] | {"name": EVIL, "classes": [EVIL, "b"], "source": EVIL}
    changed = frame.assign(
        id=frame["id"].where(frame["rank"] != 1, EVIL),
        error=frame["error"].where(frame["state"] != "failed", EVIL),
    )
    reader = read(
        changed,
        name=EVIL,
        data=data,
        command=EVIL,
        platform=EVIL,
        git_commit=EVIL,
        rejected={EVIL: 1},
        device={"name": EVIL},
        versions={EVIL: EVIL},
        sessions=[{"started": EVIL, "command": EVIL}] * 2,
    )
    # Ours are data, plotly and the page's own.
    assert [tag for tag, _ in reader.tags].count("script") == [
        tag for tag, _ in read(frame).tags
    ].count("script")
    assert reader.text.count(EVIL) >= 15
    for name in ("Failed trials", "Rejected proposals", "Sessions", "Networks of the front"):
        assert EVIL in str(reader.table(name)), name


def test_tables_have_captions_scopes_and_a_box_to_scroll_in(reader: Reader) -> None:
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("caption") == tags.count("table") == len(reader.tables)
    assert all("scope" in attributes for tag, attributes in reader.tags if tag == "th")
    boxes = [attributes for _, attributes in reader.tags if attributes.get("class") == "scroll"]
    assert len(boxes) == tags.count("table")
    identifiers = {attributes.get("id") for _, attributes in reader.tags}
    assert {box["aria-labelledby"] for box in boxes} <= identifiers


def test_identifiers_of_the_page_are_unique(reader: Reader) -> None:
    identifiers = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize(
    "names", [("accuracy",), ("val_loss", "params"), ("accuracy", "latency", "macs")]
)
def test_other_objectives_make_a_page(names: tuple[str, ...]) -> None:
    frame = frame_of(rows(8), names)
    reader = read(frame, names)
    ids = front(frame, objectives_named(names))["id"].tolist()
    shown = reader.table("Networks of the front")
    assert [row["network"].removesuffix("recommended") for row in shown] == ids


def test_a_run_without_trials_makes_a_page() -> None:
    reader = read(frame_of([]))
    assert "No training was complete, so there is no network to recommend." in reader.text
    assert "It rests on 0 trainings of 0 distinct networks" in reader.text
    assert "No trial has a place in the ranking." in reader.text
    assert "Hypervolume" not in reader.text


def test_a_run_in_which_everything_failed_says_why() -> None:
    trials = [failed(0, "killed: no memory"), failed(1, None), failed(2, "killed: no memory")]
    reader = read(frame_of(trials))
    assert "there is no front" in reader.text
    assert reader.table("Failed trials") == [
        {"trials": "2", "reason": "killed: no memory"},
        {"trials": "1", "reason": "no reason was recorded"},
    ]


def test_a_run_of_one_trial_makes_a_page() -> None:
    reader = read(frame_of(rows(1)))
    assert "It rests on 1 training of 1 distinct network;" in reader.text
    assert "The first 1 of 1 trial" in reader.text


def test_a_diverged_network_is_never_the_answer() -> None:
    frame = frame_of(rows(1, t0={"state": "diverged", "accuracy": None, "val_loss": None}))
    reader = read(frame, recommended=frame.iloc[0]["id"])
    assert "there is no network to recommend" in reader.text
    assert reader.table("Trials by the first")[0]["state"] == "diverged"


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_missing_values_are_dashes(nothing: float | None) -> None:
    hidden = ("val_loss", "latency_low_ms", "s1", "s2", "s3", "s4", "macs_train", "seconds")
    (row,) = read(frame_of(rows(1, t0=dict.fromkeys(hidden, nothing)))).table("Networks of")
    for heading in ("val. loss", "test accuracy", "separable", "S1", "S2", "S3", "S4"):
        assert row[heading] == "\u2013"
    assert re.fullmatch(r"0\.\d{3}", row["latency, ms (95 % interval)"])


def test_facts_that_nobody_knows_are_left_out(frame: pd.DataFrame) -> None:
    known = findings_of(frame)
    bare = Reader(html(report(replace(known, facts={})), drawn={}))
    assert "None" not in bare.text
    assert "nan" not in bare.text
    assert len(bare.table("Networks of the front")) >= 3
    nothing = dict.fromkeys(facts_of(frame))
    assert "None" not in Reader(html(report(replace(known, facts=nothing)), drawn={})).text


def test_numpy_values_are_written_as_plain_ones(frame: pd.DataFrame) -> None:
    text = read(frame, hypervolume=np.float64(0.5), spent=np.int64(1200)).text
    assert "Hypervolume 0.5000" in text
    assert "It rests on 1,200 trainings" in text


def test_zeros_are_told_where_a_network_has_some(frame: pd.DataFrame) -> None:
    sparse = frame.copy()
    sparse.loc[0, ["weights_sparsity", "macs_nonzero", "params_nonzero"]] = [0.4, 2_500_000, 7_100]
    recipe = {"sparsity_init": "erk", "prune_rate": 0.3, "mask_updates": 50}

    told = read(sparse, recipe=recipe, sparse=True)
    dense = read(frame, recipe=recipe, sparse=False)

    row = next(
        row for row in told.table("Trials by the first objective") if row["sparsity"] == "40.0%"
    )
    assert (row["MMACs not zero"], row["k params not zero"]) == ("2.50", "7.1")
    assert "zeros of sparse networks shared out by erk" in told.text
    assert "masks moved 50 times" in told.text
    assert "zero" not in dense.text
    assert "sparsity" not in dense.table("Trials by the first objective")[0]


DENSE_NAMES = ("miou", "latency")


@pytest.fixture(scope="module")
def studied() -> Reader:
    """Read the page of a segmentation run with a study."""
    frame = frame_of(with_standing(rows(20), dense=True), DENSE_NAMES)
    made = facts_of(frame, DENSE_NAMES)
    final = made["final"] | {"test_miou": 0.412, "baseline_test_miou": 0.112}
    return read(
        frame,
        DENSE_NAMES,
        data=made["data"] | {"task": "segmentation"},
        final=final,
        guidelines=dense(),
        ranking_noise=noise(),
        champion=champion(made["recommended"], "miou"),
    )


def test_the_guidelines_are_a_table_with_a_picture_and_their_fidelity(studied: Reader) -> None:
    first = studied.table("What each guideline was worth")[0]
    assert first["guideline"] == "G1 structure"
    assert first["verdict"].startswith("contradicted at 2 epochs")
    assert first["effect [95 % CI]"].replace("\u00a0", " ") == "-1.36 [-2.05, -0.67]"
    assert first["published"].replace("\u00a0", " ") == "+1.40 (J 3a)"
    assert "figure-guidelines" in {attributes.get("id") for _, attributes in studied.tags}
    assert "This task rewards large kernels" in studied.text
    assert "not at this fidelity" in studied.text
    assert "0f0f" in studied.text


def test_compliance_stands_beside_what_it_was_worth(studied: Reader) -> None:
    assert "Measured here: -1.36 [-2.05, -0.67] points of mIoU, contradicted at" in studied.text


def test_noise_champion_and_fidelity_stand_at_the_ranking(studied: Reader) -> None:
    for text in (
        "Fresh seeds take off 1.27 points",
        "no short training exceeds: 0.69",
        "Rankings that cost nothing",
        "Every score is after 2 epochs: 16,000 images seen of 28x28 pixels. Maps by stage are",
        "taps that meet it",
    ):
        assert text in studied.text


def test_the_answer_says_how_sure_it_is_and_which_guidelines_hold(studied: Reader) -> None:
    answer = re.sub(r"\s+", " ", studied.text)
    assert re.search(
        r"The probability that it is the best of the 20 is (below |above )?\d+ %, and", answer
    )
    assert "Of the guidelines, at 2 epochs" in answer
    assert "G1 structure (-1.36 [-2.05, -0.67]): contradicted" in answer


def test_a_dense_run_is_told_in_miou_and_pixels(studied: Reader) -> None:
    row = studied.table("Networks of the front")[0]
    assert {"val. mIoU", "val. pixel accuracy", "test pixel accuracy"} <= row.keys()
    assert "an mIoU of 85.8% on the validation images right after" in studied.text
    assert "it gets an mIoU of 41.2% on the test images, with 90.2% of the pixels right" in (
        studied.text
    )
    assert "Search for mIoU and latency" in studied.text
    assert "standard error of an accuracy" not in studied.text
    assert "always naming the most frequent class gets 10.0% of the pixels right" in studied.text


def test_estimates_have_intervals_ranks_and_chances(studied: Reader) -> None:
    ranking = studied.table("Trials by the first objective")
    first = ranking[0]
    assert re.fullmatch(r"\d\d\.\d% \(\d\d\.\d%.\d\d\.\d%\)", first["estimate (95 % interval)"])
    assert re.fullmatch(r"\d+\W\d+", first["ranks (95 %)"])
    assert first["tied with rank 1"] in ("yes", "no")
    assert first["P(best)"].endswith("%")
    assert first["P(on the front)"].endswith("%")
    gains = [row["predicted gain, points (95 % interval)"] for row in ranking]
    assert "+0.40 (-0.30 to +1.10)" in gains
    assert {row["outside the space"] for row in ranking} == {"yes", "no"}


def test_a_run_of_before_shows_nothing_of_a_study(reader: Reader) -> None:
    assert "The guidelines on this task" not in reader.text
    assert "Noise floor" not in reader.text
    headings = reader.table("Trials by the first objective")[0].keys()
    assert not {"val. mIoU", "estimate (95 % interval)", "P(best)", "outside the space"} & headings
    assert "val. accuracy" in headings
