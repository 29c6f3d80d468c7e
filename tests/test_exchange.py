from __future__ import annotations

import threading
import time
from collections.abc import Callable

from runs.exchange import ENDED, Exchange


def in_a_thread(action: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(action()), daemon=True)
    thread.start()
    return thread, found


def test_no_more_jobs_are_out_than_may_be() -> None:
    exchange = Exchange(lambda: 2)
    for number in range(3):
        exchange.offer(number)
    assert [exchange.fetch() for _ in range(3)] == [0, 1, None]
    assert exchange.returned(0)
    assert not exchange.returned(0)
    assert exchange.fetch() == 2


def test_a_fetch_waits_while_no_job_is_out() -> None:
    exchange = Exchange(lambda: 1)
    thread, found = in_a_thread(exchange.fetch)
    thread.join(0.05)
    assert not found
    exchange.offer(7)
    thread.join(10)
    assert found == [7]


def test_a_fetch_waits_for_a_core_loop_that_is_busy_and_not_for_one_that_waits() -> None:
    exchange = Exchange(lambda: 2)
    exchange.offer(1)
    assert exchange.fetch() == 1
    thread, found = in_a_thread(exchange.fetch)
    thread.join(0.05)
    assert not found
    assert exchange.listen(0.05) == []
    thread.join(10)
    assert found == [None]


def test_messages_wake_the_core_loop() -> None:
    exchange = Exchange(lambda: 1)
    thread, found = in_a_thread(lambda: exchange.listen(None))
    exchange.tell("one")
    thread.join(10)
    assert found == [["one"]]
    exchange.tell("two")
    exchange.tell("three")
    assert exchange.listen(10) == ["two", "three"]


def test_its_end_wakes_whoever_waits_for_a_job() -> None:
    exchange = Exchange(lambda: 1)
    thread, found = in_a_thread(exchange.fetch)
    time.sleep(0.01)
    exchange.end()
    thread.join(10)
    assert found == [ENDED]
    exchange.offer(1)
    assert exchange.fetch() == ENDED


def test_workers_are_called_before_the_first_job_and_count_as_out() -> None:
    exchange = Exchange(lambda: 2, muster=2)
    exchange.offer(0)
    assert [exchange.fetch(), exchange.fetch(), exchange.fetch()] == [-2, -1, None]
    assert exchange.returned(-1)
    assert exchange.fetch() == 0
