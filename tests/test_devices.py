"""Which GPU a training gets."""

from __future__ import annotations

from collections import Counter

import pytest

from runs.devices import DeviceShares, sharing, sharing_text


def test_trainings_spread_over_the_gpus_and_take_the_place_of_those_that_ended() -> None:
    shares = DeviceShares("cuda", 2)
    given = [shares.take(number) for number in range(4)]
    assert Counter(given) == {"cuda:0": 2, "cuda:1": 2}

    ended = [number for number in range(4) if given[number] == "cuda:1"]
    for number in ended:
        shares.give_back(number)
    assert [shares.take(4), shares.take(5)] == ["cuda:1", "cuda:1"]


def test_a_training_that_is_tried_again_does_not_count_its_first_try() -> None:
    shares = DeviceShares("cuda", 2)
    first, again = shares.take(7), shares.take(7)
    assert first == again == "cuda:0"
    assert shares.take(8) == "cuda:1"


@pytest.mark.parametrize("device", ["cpu", "cuda:3"])
def test_one_device_is_for_all(device: str) -> None:
    shares = DeviceShares(device, 4)
    assert {shares.take(number) for number in range(5)} == {device}
    shares.give_back(99)


@pytest.mark.parametrize(
    ("part", "trainings"), [(1, 1), (0.6, 1), (0.5, 2), (1 / 3, 3), (0.3, 3), (0.1, 10), (0.07, 14)]
)
def test_so_many_trainings_share_a_gpu(part: float, trainings: int) -> None:
    assert sharing(part) == trainings
    assert trainings * part <= 1 + 1e-9


@pytest.mark.parametrize(
    ("device", "gpus", "workers", "part", "said"),
    [
        ("cpu", 0, 4, 1.0, ""),
        ("cpu", 0, 4, 0.5, "does nothing on a CPU"),
        ("cuda", 2, 2, 1.0, ""),
        ("cuda", 2, 4, 0.5, "2 trainings share a GPU, 50% of it each"),
        ("cuda", 2, 3, 1.0, "3 trainings at a time are more than 2 x 1"),
        ("cuda:1", 2, 2, 1.0, "2 trainings at a time are more than 1 x 1"),
    ],
)
def test_the_plan_says_what_is_shared(
    device: str, gpus: int, workers: int, part: float, said: str
) -> None:
    text = sharing_text(device, gpus, workers, part)
    assert said in text
    assert bool(said) == bool(text)
