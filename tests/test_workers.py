"""Jobs in real child processes: whatever a job does, the driver learns it and goes on."""

import contextlib
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from runs.workers import Finished, Job, Pool, Progress, Started

ROOT = Path(__file__).resolve().parent.parent
MB = 1 << 20
Report = Callable[..., None]

# Jobs


def double(payload: int, progress: Report) -> int:
    progress(epoch=1, loss=0.5)
    progress(epoch=2, loss=0.25)
    return 2 * payload


def one_training_step(payload: int, _: Report) -> tuple[int, float]:
    torch.manual_seed(payload)
    network = torch.nn.Linear(8, 8)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    return torch.get_num_threads(), float(network.weight.sum())


def fail(payload: str, _: Report) -> None:
    sys.stdout.write("before the end\n")
    raise ValueError(payload)


def send_signal(number: int, _: Report) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(code: int, _: Report) -> None:
    os._exit(code)


def exit_politely(code: int, _: Report) -> None:
    sys.exit(code)


def interrupt(_: None, __: Report) -> None:
    raise KeyboardInterrupt


def survive_ctrl_c(_: None, __: Report) -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "alive"


def sleep(seconds: float, _: Report) -> str:
    time.sleep(seconds)
    return "awake"


def hold_the_interpreter(_: None, progress: Report) -> None:
    # One call that never lets another thread run: backtracking without end.
    progress(pid=os.getpid())
    re.match(r"(a+)+b", "a" * 64)


def give_lambda(_: None, __: Report) -> Any:
    return lambda: 1


def give_much(size: int, _: Report) -> bytes:
    return bytes(size)


def hoard_numpy(size: int, _: Report) -> float:
    return float(np.ones(size // 8).sum())


def hoard_torch(size: int, _: Report) -> float:
    return float(torch.ones(size // 4).sum())


def raise_out_of_memory(_: None, __: Report) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def convolve(side: int, _: Report) -> float:
    weight = torch.ones(64, 64, 3, 3).contiguous(memory_format=torch.channels_last)
    x = torch.ones(1, 64, side, side).contiguous(memory_format=torch.channels_last)
    return float(torch.conv2d(x, weight).sum())


def hoard_shared(size: int, _: Report) -> None:
    # Shared pages are no private data: only their presence in memory gives them away.
    block = mmap.mmap(-1, size)
    for start in range(0, size, MB):
        block[start : start + MB] = b"x" * MB
    time.sleep(60)


def print_much(lines: int, _: Report) -> None:
    for number in range(lines):
        sys.stdout.write(f"line {number}\n")
    raise RuntimeError("enough")


def leave_grandchildren(folder: str, _: Report) -> None:
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    Path(folder, "pids").write_text(" ".join(str(child.pid) for child in children))


def fork_and_return(_: None, __: Report) -> str:
    return "child" if os.fork() == 0 else "parent"


def litter(_: None, __: Report) -> str:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"x" * 1000)
    return file.name


def leave_a_thread(_: None, __: Report) -> str:
    threading.Thread(target=time.sleep, args=(60,), daemon=False).start()
    return "done"


def look_at_server(_: None, __: Report) -> tuple[int, bool]:
    touched = bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
    return psutil.Process(os.getppid()).num_threads(), touched


def give_thing(_: None, __: Report) -> Any:
    return Thing()


def report_thing(_: None, progress: Report) -> None:
    progress(thing=Thing())
    time.sleep(60)


class Thing:
    """Can be pickled, and breaks whoever unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


# The pool of all tests: its server imports torch once.


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


def finish(pool: Pool, job: Job, *, seconds: float = 60.0) -> Finished:
    pool.submit(job)
    return wait_for(pool, job.key, seconds=seconds)


def wait_for(pool: Pool, key: object, *, seconds: float = 60.0) -> Finished:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for event in pool.events(1.0):
            if isinstance(event, Finished) and event.key == key:
                return event
    raise AssertionError(f"{key!r} did not finish")


def run(pool: Pool, function: Any, payload: Any = None, **limits: Any) -> Finished:
    return finish(pool, Job(key="job", function=function, payload=payload, **limits))


def test_a_job_starts_reports_and_finishes_in_that_order(pool: Pool) -> None:
    pool.submit(Job(key=("trial", 7), function=double, payload=21))
    found: list[Any] = []
    while pool.free < 2:
        found += pool.events(10)
    assert isinstance(found[0], Started)
    assert found[1:3] == [
        Progress(key=("trial", 7), metrics={"epoch": 1, "loss": 0.5}),
        Progress(key=("trial", 7), metrics={"epoch": 2, "loss": 0.25}),
    ]
    assert isinstance(found[3], Finished)
    assert (found[3].key, found[3].outcome, found[3].value) == (("trial", 7), "ok", 42)
    assert len(found) == 4


def test_a_warm_child_begins_within_a_fifth_of_a_second(pool: Pool) -> None:
    delays = []
    for _ in range(5):
        pool.submit(Job(key=1, function=one_training_step, payload=1))
        while pool.free < 2:
            delays += [e.delay_s for e in pool.events(10) if isinstance(e, Started)]
    assert min(delays) < 0.2


def test_the_server_has_one_thread_and_never_touched_a_gpu(pool: Pool) -> None:
    assert run(pool, look_at_server).value == (1, False)


def test_each_child_computes_with_one_thread_and_what_its_seed_says(pool: Pool) -> None:
    first = run(pool, one_training_step, 5).value
    assert first[0] == 1
    assert run(pool, one_training_step, 5).value == first
    assert run(pool, one_training_step, 6).value != first


def test_two_jobs_run_at_once_and_a_third_must_wait(pool: Pool) -> None:
    assert pool.free == 2
    pool.submit(Job(key="a", function=sleep, payload=0.5))
    pool.submit(Job(key="b", function=sleep, payload=0.5))
    with pytest.raises(ValueError, match="no slot is free"):
        pool.submit(Job(key="c", function=sleep, payload=0))
    kinds: list[type] = []
    while pool.free < 2:
        kinds += [type(event) for event in pool.events(10)]
    assert kinds == [Started, Started, Finished, Finished]


def test_an_idle_pool_answers_at_once(pool: Pool) -> None:
    assert pool.events(timeout=60) == []


def test_waiting_ends_after_the_timeout(pool: Pool) -> None:
    pool.submit(Job(key="s", function=sleep, payload=60, time_limit_s=1.0))
    assert isinstance(pool.events(30)[0], Started)
    begin = time.monotonic()
    assert pool.events(0.05) == []
    assert time.monotonic() - begin >= 0.05
    assert wait_for(pool, "s").outcome == "timeout"


def test_an_exception_is_an_error_with_its_line_and_the_output(pool: Pool) -> None:
    end = run(pool, fail, "3 is no\nkernel")
    assert end.outcome == "error"
    lines = end.error.splitlines()
    assert lines[0] == "ValueError: 3 is no kernel"
    assert "in fail" in lines[1]
    assert "child.py" not in end.error
    assert lines[-2:] == ["end of its output:", "before the end"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGSEGV, "killed by signal 11 (SIGSEGV)\n"),
        (signal.SIGKILL, "killed by signal 9 (SIGKILL); perhaps by the system, for lack of memory"),
        (signal.SIGABRT, "killed by signal 6 (SIGABRT)\n"),
    ],
)
def test_a_signal_is_a_crash_that_names_it(pool: Pool, number: int, said: str) -> None:
    end = run(pool, send_signal, int(number))
    assert (end.outcome, end.value) == ("crash", None)
    assert end.error.startswith(said)


def test_a_segmentation_fault_shows_where_python_was(pool: Pool) -> None:
    assert "in send_signal" in run(pool, send_signal, int(signal.SIGSEGV)).error


@pytest.mark.parametrize("code", [0, 3])
def test_a_hard_exit_is_a_crash_even_with_code_zero(pool: Pool, code: int) -> None:
    end = run(pool, leave, code)
    assert end.outcome == "crash"
    assert end.error == f"ended with exit code {code} before the job was done"


def test_a_polite_exit_is_an_error(pool: Pool) -> None:
    end = run(pool, exit_politely, 3)
    assert end.outcome == "error"
    assert end.error.startswith("the job ended itself with SystemExit: 3\n")


def test_a_keyboard_interrupt_inside_a_job_is_an_error(pool: Pool) -> None:
    assert run(pool, interrupt).error.startswith("the job ended itself with KeyboardInterrupt\n")


def test_ctrl_c_does_not_reach_a_job(pool: Pool) -> None:
    assert run(pool, survive_ctrl_c).value == "alive"


@pytest.mark.parametrize("function", [sleep, hold_the_interpreter])
def test_a_hang_is_a_timeout_counted_from_its_beginning(pool: Pool, function: Any) -> None:
    end = run(pool, function, 60, time_limit_s=0.3)
    assert end.outcome == "timeout"
    assert end.error.startswith("took longer than 0.3 s")
    assert 0.3 <= end.seconds < 3


@pytest.mark.parametrize("function", [hoard_numpy, hoard_torch])
def test_too_large_an_allocation_is_refused_and_told_as_memory(pool: Pool, function: Any) -> None:
    end = run(pool, function, 600 * MB, memory_limit_bytes=300 * MB)
    assert end.outcome == "memory"
    assert "allocate" in end.error.splitlines()[0]


@pytest.mark.parametrize("function", [hoard_numpy, hoard_torch])
def test_an_allocation_within_the_limit_passes(pool: Pool, function: Any) -> None:
    assert run(pool, function, 100 * MB, memory_limit_bytes=300 * MB).outcome == "ok"


def test_memory_that_the_kernel_does_not_refuse_is_seen_by_the_watchdog(pool: Pool) -> None:
    end = run(pool, hoard_shared, 400 * MB, memory_limit_bytes=200 * MB, time_limit_s=30)
    assert end.outcome == "memory"
    assert end.error.endswith("the limit is 209,715,200")


def test_memory_of_the_device_that_ran_out_is_told_as_memory(pool: Pool) -> None:
    end = run(pool, raise_out_of_memory)
    assert end.outcome == "memory"
    assert end.error.startswith("torch.OutOfMemoryError: CUDA out of memory.")


@pytest.mark.parametrize("limit", [300_000, 1_000_000, 3_000_000])
def test_memory_that_runs_out_inside_a_convolution_is_told_as_memory(
    pool: Pool, limit: int
) -> None:
    # oneDNN says "could not create a primitive", C++ "std::bad_alloc", the watchdog its own.
    assert run(pool, convolve, 200, memory_limit_bytes=limit).outcome == "memory"


def test_a_result_that_cannot_be_pickled_is_an_error(pool: Pool) -> None:
    end = run(pool, give_lambda)
    assert end.outcome == "error"
    assert end.error.startswith("the result cannot be sent: ")


@pytest.mark.parametrize("function", [give_thing, report_thing])
def test_what_cannot_be_unpickled_is_an_error(pool: Pool, function: Any) -> None:
    end = run(pool, function)
    assert end.outcome == "error"
    assert end.error.startswith("what the job sent cannot be read: ValueError")


def test_a_result_of_50_megabytes_arrives(pool: Pool) -> None:
    assert len(run(pool, give_much, 50 * MB).value) == 50 * MB


def test_a_million_printed_lines_keep_their_end(pool: Pool) -> None:
    end = run(pool, print_much, 1_000_000)
    assert end.error.startswith("RuntimeError: enough\n")
    assert end.error.endswith("line 999998\nline 999999")
    assert len(end.error) < 10_000


def test_what_a_job_started_dies_with_it(pool: Pool, tmp_path: Path) -> None:
    assert run(pool, leave_grandchildren, str(tmp_path)).outcome == "ok"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert gone_within(pids, seconds=2)


def test_a_copy_that_a_job_forked_has_no_say(pool: Pool) -> None:
    assert run(pool, fork_and_return).value == "parent"


def test_a_thread_left_behind_does_not_hold_up_the_end(pool: Pool) -> None:
    end = run(pool, leave_a_thread, time_limit_s=30)
    assert (end.outcome, end.value) == ("ok", "done")


def test_temporary_files_are_removed_with_the_job(pool: Pool) -> None:
    path = Path(run(pool, litter).value)
    assert path.parent.name.isdigit()
    assert path.parent.parent.name.startswith("replk-search-")
    assert not path.parent.exists()


def test_a_slot_is_good_again_after_every_kind_of_end(pool: Pool) -> None:
    for function, payload in ((leave, 1), (fail, "x"), (send_signal, 11), (sleep, 60)):
        run(pool, function, payload, time_limit_s=0.2)
    assert pool.free == 2
    assert run(pool, double, 4).value == 8


def test_a_killed_server_costs_its_running_jobs_and_is_replaced() -> None:
    with Pool(1) as pool:
        pool.submit(Job(key="s", function=sleep, payload=60))
        started = pool.events(30)[0]
        assert isinstance(started, Started)
        parent = psutil.Process(started.pid).parent()
        assert parent is not None
        assert "forkserver" in " ".join(parent.cmdline())
        parent.kill()
        assert wait_for(pool, "s").outcome == "crash"
        assert gone_within([started.pid], seconds=2)
        assert run(pool, double, 4).value == 8


def test_closing_ends_running_jobs() -> None:
    with Pool(1) as pool:
        pool.submit(Job(key="s", function=sleep, payload=60))
        started = pool.events(30)[0]
    assert isinstance(started, Started)
    assert not psutil.pid_exists(started.pid)


def test_a_function_of_the_main_module_is_refused(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(double, "__module__", "__main__")
    with pytest.raises(ValueError, match="must be in an importable module"):
        pool.submit(Job(key=1, function=double, payload=1))


# A driver of its own

DRIVER = """
import sys, time
print("main runs", flush=True)
from tests.test_workers import hold_the_interpreter, sleep
from runs.workers import Finished, Job, Pool, Started

if True:  # deliberately without the usual guard
    pool = Pool(2)
    pool.submit(Job(key=0, function=sleep, payload=0))
    while pool.free < 2:
        pool.events(30)
    if sys.argv[1:] == ["exit"]:
        pool.submit(Job(key=1, function=sleep, payload=60))
        print("leaves", flush=True)
        sys.exit(0)
    pool.submit(Job(key=1, function=sleep, payload=60))
    pool.submit(Job(key=2, function=hold_the_interpreter, payload=None))
    pids = []
    while len(pids) < 2:
        pids += [event.pid for event in pool.events(30) if isinstance(event, Started)]
    print(*pids, pool._folder, flush=True)
    while True:
        pool.events(30)
"""


def gone_within(pids: list[int], *, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        alive = 0
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                alive += psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        if not alive:
            return True
        time.sleep(0.02)
    return False


def start_driver(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    script = folder / "driver.py"
    script.write_text(DRIVER)
    # Started elsewhere: the server must find the packages without the working directory.
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
def test_children_of_a_killed_driver_are_gone_within_two_seconds(tmp_path: Path) -> None:
    with start_driver(tmp_path) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "main runs\n"
        first, second, folder = driver.stdout.readline().split()
        family = psutil.Process(driver.pid).children(recursive=True)
        time.sleep(0.2)
        driver.kill()
        assert gone_within([int(first), int(second)], seconds=2)
    # The server and the tracker follow their last client.
    assert gone_within([process.pid for process in family], seconds=5)
    assert Path(folder).is_dir()
    with Pool(1):
        assert not Path(folder).exists()


@pytest.mark.slow
def test_a_script_runs_once_and_leaves_without_waiting_for_its_jobs(tmp_path: Path) -> None:
    begin = time.monotonic()
    with start_driver(tmp_path, "exit") as driver:
        output, _ = driver.communicate(timeout=60)
    assert output == "main runs\nleaves\n"
    assert driver.returncode == 0
    assert time.monotonic() - begin < 50
