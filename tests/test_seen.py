"""Effective receptive fields for a report: measured with what a run kept, never in its way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from builders import build_network, merge_network
from evaluators.receptive_field import Field, extent, receptive_fields
from runs.checkpoints import save_weights
from runs.fields import Settings, images_for
from runs.history import History
from runs.page import seen as seen_module
from runs.page.seen import NAME, SIDE, TOO_LONG, as_json, fields_of_front, page_map
from runs.plan import Plan
from search_space.architecture import Architecture
from search_space.census import Census
from tests.micro import Inputs, write_data, write_space

NETWORKS = 3


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("inputs")
    inputs = Inputs(space=write_space(folder / "micro.yaml"), data=write_data(folder / "data.npz"))
    planned, _ = inputs.planned(budget=NETWORKS)
    return planned


@pytest.fixture(scope="module")
def networks(plan: Plan) -> list[Architecture]:
    rng, census = np.random.default_rng(0), Census(plan.space)
    found: dict[str, Architecture] = {}
    while len(found) < NETWORKS:
        one = census.sample(rng)
        found[one.id] = one
    return list(found.values())


@pytest.fixture(scope="module")
def history(networks: list[Architecture]) -> History:
    found = History()
    for number, one in enumerate(networks):
        asked = {"event": "asked", "trial": number, "role": "search", "id": one.id, "seed": number}
        found.apply({**asked, "architecture": one.to_json()})
        done = {"event": "done", "trial": number, "seq": number, "state": "complete"}
        found.apply({**done, "accuracy": 0.5})
    return found


@pytest.fixture
def run(tmp_path: Path, plan: Plan, networks: list[Architecture]) -> Path:
    """A directory with the weights of all trials."""
    (tmp_path / "weights").mkdir()
    for number, one in enumerate(networks):
        torch.manual_seed(number)
        network = build_network(one, plan.num_classes)
        save_weights(network, tmp_path / "weights" / f"{number}.safetensors")
    return tmp_path


def ids(networks: list[Architecture]) -> list[str]:
    return [one.id for one in networks]


def test_fields_are_those_of_the_last_stage_on_the_images_of_the_run(
    run: Path, plan: Plan, history: History, networks: list[Architecture]
) -> None:
    found, reasons = fields_of_front(run, plan, history, ids(networks))
    assert list(found) == ids(networks)
    assert reasons == {}
    data = plan.data.load()
    for number, one in enumerate(networks):
        torch.manual_seed(number)
        network = merge_network(build_network(one, plan.num_classes).eval())
        settings = Settings(size=(12, 12), images=40)
        images = images_for(data, one.channels, settings, statistics=data.mean_std)
        field = receptive_fields(network.requires_grad_(requires_grad=False), images)[-1]
        expected, seen = extent(field.map, field.centre), found[one.id]
        assert seen.sigma_px == pytest.approx(expected.sigma_px, rel=1e-6)
        assert seen.area50 == expected.area50
        assert seen.saturated == expected.saturated
        assert (seen.images, seen.size, seen.map.shape) == (40, (12, 12), (12, 12))
        assert (seen.map.min() >= 0, seen.map.max()) == (True, 1)


def test_one_stage_alone_is_as_it_is_among_all(plan: Plan, networks: list[Architecture]) -> None:
    network = build_network(networks[0], plan.num_classes).eval().requires_grad_(False)
    images = torch.randn(4, networks[0].channels, 12, 12)
    (alone,), among = (
        receptive_fields(network, images, last=True),
        receptive_fields(network, images),
    )
    assert alone.stage == len(among) == 2
    assert np.array_equal(alone.map, among[-1].map)


def test_missing_weights_are_a_reason(
    run: Path, plan: Plan, history: History, networks: list[Architecture]
) -> None:
    (run / "weights" / "1.safetensors").unlink()
    found, reasons = fields_of_front(run, plan, history, ids(networks))
    assert set(found) == {networks[0].id, networks[2].id}
    assert reasons == {networks[1].id: "the run kept no weights of this network"}


def test_a_network_that_the_record_lost_is_a_reason(
    run: Path, plan: Plan, history: History
) -> None:
    found, reasons = fields_of_front(run, plan, history, ["0123456789ab"])
    assert found == {}
    assert "0123456789ab" in reasons["0123456789ab"]


@pytest.mark.parametrize("content", [b"", b"no weights at all, but bytes", b"{}"])
def test_broken_weights_are_a_reason(
    run: Path, plan: Plan, history: History, networks: list[Architecture], content: bytes
) -> None:
    (run / "weights" / "0.safetensors").write_bytes(content)
    found, reasons = fields_of_front(run, plan, history, ids(networks))
    assert set(reasons) == {networks[0].id}
    assert reasons[networks[0].id]
    assert len(found) == NETWORKS - 1


def test_weights_of_another_network_are_a_reason(
    run: Path, plan: Plan, history: History, networks: list[Architecture]
) -> None:
    save_file({"x": torch.zeros(2)}, run / "weights" / "0.safetensors")
    _, reasons = fields_of_front(run, plan, history, ids(networks))
    assert set(reasons) == {networks[0].id}


def test_weights_that_are_not_finite_are_a_reason(
    run: Path, plan: Plan, history: History, networks: list[Architecture]
) -> None:
    network = build_network(networks[0], plan.num_classes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(torch.nan)
    save_weights(network, run / "weights" / "0.safetensors")
    _, reasons = fields_of_front(run, plan, history, ids(networks))
    assert set(reasons) == {networks[0].id}


def test_moved_images_are_a_reason_and_no_traceback(
    run: Path, plan: Plan, history: History, networks: list[Architecture]
) -> None:
    moved = replace(plan, data=replace(plan.data, source="/nowhere/shapes.npz"))
    found, reasons = fields_of_front(run, moved, history, ids(networks))
    assert found == {}
    assert set(reasons) == set(ids(networks))
    assert all(reason.startswith("no images, ") for reason in reasons.values())


def test_what_was_measured_holds_after_the_images_have_moved(
    run: Path, plan: Plan, history: History, networks: list[Architecture]
) -> None:
    found, _ = fields_of_front(run, plan, history, ids(networks))
    (run / "figures").mkdir()
    (run / "figures" / NAME).write_text(as_json(found))
    moved = replace(plan, data=replace(plan.data, source="/nowhere/shapes.npz"))
    again, reasons = fields_of_front(run, moved, history, ids(networks))
    assert reasons == {}
    for network, seen in found.items():
        assert np.array_equal(again[network].map, seen.map)
        assert replace(again[network], map=seen.map) == seen


def test_new_weights_are_measured_anew(
    run: Path, plan: Plan, history: History, networks: list[Architecture]
) -> None:
    found, _ = fields_of_front(run, plan, history, ids(networks))
    (run / "figures").mkdir()
    (run / "figures" / NAME).write_text(as_json(found))
    torch.manual_seed(99)
    other = build_network(networks[0], plan.num_classes)
    save_weights(other, run / "weights" / "0.safetensors")
    again, _ = fields_of_front(run, plan, history, ids(networks))
    first, second = networks[0].id, networks[1].id
    assert again[first].weights != found[first].weights
    assert not np.array_equal(again[first].map, found[first].map)
    assert again[second].weights == found[second].weights


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "networks": {}}',
        '{"format": 1, "networks": 3}',
        '{"format": 1, "networks": {"a": {"size": [1, 1], "map": [1]}}}',
    ],
)
def test_a_damaged_file_of_fields_is_passed_over(
    run: Path, plan: Plan, history: History, networks: list[Architecture], text: str
) -> None:
    (run / "figures").mkdir()
    (run / "figures" / NAME).write_text(text)
    found, _ = fields_of_front(run, plan, history, ids(networks)[:1])
    assert list(found) == ids(networks)[:1]


def test_the_file_is_plain_json(
    run: Path, plan: Plan, history: History, networks: list[Architecture]
) -> None:
    found, _ = fields_of_front(run, plan, history, ids(networks)[:1])
    plain = json.loads(as_json(found))["networks"][networks[0].id]
    assert plain["size"] == [12, 12]
    assert max(map(max, plain["map"])) == 255


def test_work_is_capped_and_said(
    run: Path,
    plan: Plan,
    history: History,
    networks: list[Architecture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seen_module, "MACS", 1.0)
    found, reasons = fields_of_front(run, plan, history, ids(networks))
    assert found == {}
    assert set(reasons.values()) == {TOO_LONG}


def test_a_large_set_is_not_decoded_for_a_picture(
    run: Path, plan: Plan, history: History, networks: list[Architecture]
) -> None:
    data = {**plan.facts["data"], "train": 1_200_000, "size": [224, 224]}
    large = replace(plan, facts={**plan.facts, "data": data})
    _, reasons = fields_of_front(run, large, history, ids(networks)[:1])
    assert "would take long" in reasons[networks[0].id]


def test_a_large_map_becomes_small_and_keeps_its_place() -> None:
    map_HW = np.zeros((256, 128))
    map_HW[128:132, 64:68] = 5.0
    field = Field(stage=1, centre=(128, 64), map=map_HW, absolute=map_HW, images=1, skipped=0)
    small = page_map(field)
    assert small.shape == (SIDE, SIDE // 2)
    assert np.argwhere(small == 1).tolist() == [[32, 16]]
    assert small.sum() == 1
