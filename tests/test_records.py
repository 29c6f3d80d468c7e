"""The record of a run: what is written stays, what is damaged is told, nothing is invented."""

import errno
import json
import logging
import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs.records import MARK_NAME, RECORD_NAME, Records, decode, encode, read_events, write_atomic
from search_space.errors import RunError, WorkFailed

ROOT = Path(__file__).resolve().parent.parent


def new_run(directory: Path, *, done: int = 3) -> Path:
    with Records.create(directory, {"space": "tiny", "seed": 7}) as records:
        for number in range(done):
            records.append("done", trial=number, accuracy=0.5 + number / 8)
    return directory


def test_a_line_is_json_whose_last_key_is_the_checksum_of_the_rest(tmp_path: Path) -> None:
    line = (new_run(tmp_path) / RECORD_NAME).read_bytes().splitlines()[1]
    assert line == b'{"seq":1,"event":"done","trial":0,"accuracy":0.5,"crc":"5ea1673c"}'
    assert zlib.crc32(b'{"seq":1,"event":"done","trial":0,"accuracy":0.5}') == 0x5EA1673C


def test_the_first_event_is_the_header_with_its_schema(tmp_path: Path) -> None:
    header = {"seq": 0, "event": "header", "schema": 1, "space": "tiny", "seed": 7}
    with Records.open(new_run(tmp_path)) as records:
        assert records.header == header
        assert records.events[0] == header


def test_a_reopened_record_goes_on_counting(tmp_path: Path) -> None:
    with Records.open(new_run(tmp_path)) as records:
        assert records.append("asked", trial=3) == {"seq": 4, "event": "asked", "trial": 3}
    assert [event["seq"] for event in read_events(tmp_path)] == [0, 1, 2, 3, 4]


def test_events_in_memory_are_those_on_disk(tmp_path: Path) -> None:
    with Records.create(tmp_path, {}) as records:
        records.append("done", pair=(1, 2), text="\udcff \u2028 ü", nothing=None)
        assert records.events == read_events(tmp_path)
        assert records.events[1]["pair"] == [1, 2]
        assert records.events[1]["text"] == "\udcff \u2028 ü"


def test_a_reader_needs_no_lock_and_sees_the_writer_progress(tmp_path: Path) -> None:
    with Records.create(tmp_path, {}) as records:
        assert len(read_events(tmp_path)) == 1
        records.append("asked")
        assert len(read_events(tmp_path)) == 2


def test_numbers_that_are_not_finite_are_refused_and_leave_no_trace(tmp_path: Path) -> None:
    with Records.create(tmp_path, {}) as records:
        with pytest.raises(ValueError, match="not JSON compliant"):
            records.append("done", loss=float("nan"))
        records.append("done", loss=None)
    assert [event["seq"] for event in read_events(tmp_path)] == [0, 1]


def test_fields_cannot_take_the_names_of_the_frame(tmp_path: Path) -> None:
    with Records.create(tmp_path, {}) as records, pytest.raises(ValueError, match="named seq"):
        records.append("done", seq=5)


# Damage


def test_a_torn_tail_is_cut_and_the_next_event_stands_on_its_own_line(tmp_path: Path) -> None:
    path = new_run(tmp_path) / RECORD_NAME
    path.write_bytes(path.read_bytes()[:-9])
    with Records.open(tmp_path) as records:
        assert [event["seq"] for event in records.events] == [0, 1, 2]
        records.append("done", trial=9)
    trials = [event.get("trial") for event in read_events(tmp_path)]
    assert trials == [None, 0, 1, 9]


def test_a_reader_ignores_a_torn_tail_and_leaves_it(tmp_path: Path) -> None:
    path = new_run(tmp_path) / RECORD_NAME
    torn = path.read_bytes() + b'{"seq":4,"event":"do'
    path.write_bytes(torn)
    assert len(read_events(tmp_path)) == 4
    assert path.read_bytes() == torn


def test_a_tail_of_nul_bytes_is_cut(tmp_path: Path) -> None:
    path = new_run(tmp_path) / RECORD_NAME
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 4096)
    with Records.open(tmp_path) as records:
        assert len(records.events) == 4
    assert path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_costs_that_line_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = new_run(tmp_path) / RECORD_NAME
    path.write_bytes(path.read_bytes().replace(b'"trial":1', b'"trial":8'))
    with caplog.at_level(logging.WARNING), Records.open(tmp_path) as records:
        assert [event.get("trial") for event in records.events] == [None, 0, 2]
    assert caplog.messages == [f"{path}: 1 damaged line was skipped, 1 event is lost"]


def test_damage_is_told_without_what_there_is_none_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = new_run(tmp_path) / RECORD_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    for content, said in (
        ([*lines[:2], b"torn\n", b"torn\n", *lines[2:]], "2 damaged lines were skipped"),
        (lines[:2], "2 events are lost"),
    ):
        path.write_bytes(b"".join(content))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            read_events(tmp_path)
        assert caplog.messages == [f"{path}: {said}"]


def test_a_line_written_twice_counts_once(tmp_path: Path) -> None:
    path = new_run(tmp_path) / RECORD_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[2]]))
    assert [event["seq"] for event in read_events(tmp_path)] == [0, 1, 2, 3]


def test_a_lost_header_leaves_the_events_readable(tmp_path: Path) -> None:
    path = new_run(tmp_path) / RECORD_NAME
    path.write_bytes(path.read_bytes().replace(b'"header"', b'"HEADER"'))
    with Records.open(tmp_path) as records:
        assert records.header is None
        assert len(records.events) == 3


def test_a_sequence_number_is_not_given_twice_after_a_loss(tmp_path: Path) -> None:
    path = new_run(tmp_path) / RECORD_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    with Records.open(tmp_path) as records:
        assert records.append("asked")["seq"] == 4


@pytest.mark.parametrize("content", [b"", b"\0" * 500, b"not a record\n" * 9])
def test_an_emptied_record_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = new_run(tmp_path) / RECORD_NAME
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"trials\.jsonl: was emptied .* held 4 events"):
        Records.open(tmp_path)
    with pytest.raises(RunError, match="was emptied"):
        read_events(tmp_path)
    assert path.read_bytes() == content


def test_a_deleted_record_is_refused_and_not_started_anew(tmp_path: Path) -> None:
    (new_run(tmp_path) / RECORD_NAME).unlink()
    with pytest.raises(RunError, match="was emptied"):
        Records.open(tmp_path)
    with pytest.raises(RunError, match="must not hold a run"):
        Records.create(tmp_path, {})


def test_an_emptied_record_without_its_mark_is_refused_too(tmp_path: Path) -> None:
    (new_run(tmp_path) / RECORD_NAME).write_bytes(b"")
    (tmp_path / MARK_NAME).unlink()
    with pytest.raises(RunError, match="was emptied"):
        Records.open(tmp_path)


CLEAN = [encode({"seq": 0, "event": "header", "schema": 1})] + [
    encode({"seq": number, "event": "done", "trial": number, "note": "x" * number})
    for number in range(1, 12)
]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "delete", "repeat", "nul", "newline", "line"]),
        st.integers(0, 10_000),
        st.integers(1, 300),
        st.binary(min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=5,
)


def damaged(content: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, position, length, noise in changes:
        at = position % (len(content) + 1)
        part = content[at : at + length]
        lines = content.splitlines(keepends=True)
        content = {
            "flip": content[:at] + bytes(byte ^ noise[0] for byte in part) + content[at + length :],
            "cut": content[:at],
            "insert": content[:at] + noise + content[at:],
            "delete": content[:at] + content[at + length :],
            "repeat": content[:at] + part + content[at:],
            "nul": content[:at] + b"\0" * len(part) + content[at + length :],
            "newline": content[:at] + b"\n" + content[at:],
            "line": content + b"".join(lines[position % 12 : position % 12 + 1]),
        }[kind]
    return content


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=CHANGES)
def test_no_damage_raises_invents_an_event_or_hinders_appending(
    tmp_path: Path, changes: list[tuple[str, int, int, bytes]]
) -> None:
    content = damaged(b"".join(CLEAN), changes)
    (tmp_path / RECORD_NAME).write_bytes(content)
    (tmp_path / MARK_NAME).write_text("12\n")
    written = [json.loads(line) for line in CLEAN]
    for event in written:
        del event["crc"]
    whole = content.split(b"\n")[:-1]
    kept = [event for event, line in zip(written, CLEAN, strict=True) if line[:-1] in whole]
    if not kept:
        with pytest.raises(RunError, match="was emptied"):
            read_events(tmp_path)
        return
    before = read_events(tmp_path)
    assert before == kept
    with Records.open(tmp_path) as records:
        assert records.events == before
        added = records.append("asked", trial=99)
    assert added["seq"] == 12
    assert read_events(tmp_path) == [*before, added]


@given(line=st.binary(max_size=200))
def test_random_bytes_are_no_event(line: bytes) -> None:
    assert decode(line) is None


@pytest.mark.parametrize(
    "content", [b"[1]", b'{"seq":-1,"event":"x"}', b'{"seq":1}', b'{"seq":true,"event":"x"}']
)
def test_json_that_is_no_event_is_damage_even_with_a_right_checksum(content: bytes) -> None:
    line = content[:-1] + b',"crc":"%08x"}' % zlib.crc32(content)
    assert decode(line) is None


# Refusals


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = new_run(tmp_path) / RECORD_NAME
    path.write_bytes(encode({"seq": 0, "event": "header", "schema": 2}))
    with pytest.raises(RunError, match=r"schema must be at most 1, got 2; .* update"):
        Records.open(tmp_path)


def test_a_directory_without_a_record_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must hold trials\.jsonl"):
        Records.open(tmp_path)
    with pytest.raises(RunError, match="there is none"):
        Records.open(tmp_path / "nowhere")


def test_a_record_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / RECORD_NAME).mkdir()
    with pytest.raises(RunError, match="must be a readable file, Is a directory"):
        Records.open(tmp_path)


def test_creating_over_a_run_is_refused_with_the_way_to_continue(tmp_path: Path) -> None:
    new_run(tmp_path)
    with pytest.raises(RunError, match="continue it with `replk-search resume"):
        Records.create(tmp_path, {})
    assert len(read_events(tmp_path)) == 4


def test_creating_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="must be a directory that can be written"):
        Records.create(tmp_path / "file" / "run", {})


def test_a_second_opener_in_this_process_is_refused(tmp_path: Path) -> None:
    with Records.create(tmp_path, {}), pytest.raises(RunError, match=f"process {os.getpid()} on "):
        Records.open(tmp_path)
    Records.open(tmp_path).close()


HOLD = """
import sys
from runs.records import Records
records = Records.open(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_with_the_owner_and_free_once_he_is_killed(
    tmp_path: Path,
) -> None:
    new_run(tmp_path)
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    with owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        with pytest.raises(RunError, match=rf"must not be in use, it is by process {owner.pid} on"):
            Records.open(tmp_path)
        assert len(read_events(tmp_path)) == 4
        owner.kill()
    Records.open(tmp_path).close()


# Full disk

FILL = """
import resource, signal, sys
from runs.records import Records
from search_space.errors import WorkFailed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
records = Records.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    while True:
        records.append("done", note="x" * 100)
except WorkFailed as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
records.append("session", after="room was made")
"""


def test_a_write_that_does_not_fit_is_undone_told_and_can_be_repeated(tmp_path: Path) -> None:
    new_run(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert "event 'done' could not be written" in done.stdout
    assert f"replk-search resume {tmp_path}" in done.stdout
    events = read_events(tmp_path)
    assert events[-1]["after"] == "room was made"
    assert [event["seq"] for event in events] == list(range(len(events)))


def test_a_failing_sync_is_an_error_and_leaves_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Records.create(tmp_path, {}) as records:
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", fail)
            with pytest.raises(WorkFailed, match="Input/output error"):
                records.append("done")
        assert len(records.events) == len(read_events(tmp_path)) == 1


# Whole files


def test_write_atomic_replaces_a_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_atomic(tmp_path / "front.csv", "old")
    write_atomic(tmp_path / "front.csv", "kernel,ü\n")
    assert (tmp_path / "front.csv").read_bytes() == "kernel,ü\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["front.csv"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_atomic(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(RunError, match="could not be written, File too large"):
            write_atomic(path, b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
