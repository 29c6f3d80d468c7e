"""A search as a Ray job: submitted from a clone, to a head of its own, with nothing installed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import yaml

from tests.micro import write_data, write_space

ROOT = Path(__file__).parents[1]
BROUGHT = ("aiohttp", "aiohttp_cors", "opencensus", "smart_open")
"""Packages of ray[default], which jobs need and ray[tune] does not bring."""
RAY = (sys.executable, "-m", "ray.scripts.scripts")
START_S, JOB_S, END_S = 300.0, 900.0, 60.0
UPLOAD_BYTES = 20 * 2**20
"""Most that a job may send; the limit of Ray 2.60 is 512 MiB."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("ray", *BROUGHT)),
        reason="needs ray[default]: pip install 'replk-search[cluster]'",
    ),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone of the repository"),
]


@dataclass(frozen=True)
class Head:
    """A running head node."""

    url: str
    temp: Path
    home: Path
    clone: Path
    environment: dict[str, str]

    def submit(self, name: str, *arguments: str) -> str:
        """Run a command in a job, from the clone; gives its output."""
        job = (*RAY, "job", "submit", "--address", self.url, "--submission-id", name)
        done = subprocess.run(
            [*job, "--working-dir", ".", "--", "python", "-m", "runs", *arguments],
            cwd=self.clone,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=JOB_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes], temp: Path) -> None:
    """End a head and what it started, and nothing else: `ray stop` ends every Ray there is."""
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for other in psutil.process_iter(["cmdline"]):
        if any(str(temp) in word for word in other.info["cmdline"] or ()):
            other.kill()
    shutil.rmtree(temp, ignore_errors=True)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("job")
    # The name of a socket may not be long.
    temp = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    clone, home = folder / "clone", folder / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    # What a clone that is worked in has beside the code.
    for name in ("results/old/weights.bin", ".venv/lib/torch.so", "data/images.bin"):
        (clone / name).parent.mkdir(parents=True)
        (clone / name).write_bytes(bytes(UPLOAD_BYTES))
    dropped = ("RAY_ADDRESS", "PYTHONPATH", "REPLK_SEARCH_RESULTS")
    environment = {key: value for key, value in os.environ.items() if key not in dropped} | {
        "RAY_AUTH_MODE": "disabled",
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    port = free_port()
    options = {
        "port": free_port(),
        "dashboard-port": port,
        "dashboard-agent-listen-port": free_port(),
        "ray-client-server-port": free_port(),
        "temp-dir": temp,
        "num-cpus": 2,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            [*RAY, "start", "--head", "--block", "--disable-usage-stats", *words],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + START_S
        while b"Ray runtime started" not in (folder / "head.log").read_bytes():
            assert process.poll() is None, (folder / "head.log").read_text()
            assert time.monotonic() < until, (folder / "head.log").read_text()
            time.sleep(0.5)
        yield Head(f"http://127.0.0.1:{port}", temp, home, clone, environment)
    finally:
        end(process, temp)


def trials(run: Path) -> list[dict[str, str]]:
    with (run / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_job_from_a_clone_leaves_its_run_where_the_readme_says(
    head: Head, tmp_path: Path
) -> None:
    space, data = write_space(tmp_path / "micro.yaml"), write_data(tmp_path / "shapes.npz")
    given = f"--space {space} --data {data} --epochs 1 --objectives accuracy,macs --backend torch"
    said = head.submit("search", *given.split(), "--budget", "4", "--ray", "auto")

    (run,) = (head.home / "replk-search" / "results").iterdir()
    lines = said.splitlines()
    assert f"results   {run}" in lines
    assert f"  {run / 'report.html'}" in lines
    assert len(trials(run)) == 4
    assert {path.name for path in run.iterdir()} == {
        *("run.yaml", "trials.jsonl", "trials.csv", "front.csv", "report.html"),
        *("architectures", "figures", "weights", ".lock", ".trials.count"),
    }
    facts = yaml.safe_load((run / "run.yaml").read_text())["facts"]
    assert facts["git_commit"] is None, "the code that ran was not the one that was submitted"

    (copy,) = head.temp.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
    files = [path for path in copy.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < UPLOAD_BYTES
    assert not {"results", ".venv", "data", ".git"} & {path.name for path in copy.iterdir()}

    # The path that was printed is what another job goes on with.
    said = head.submit("resume", "resume", str(run), "--budget", "5", "--ray", "auto")
    assert "resumed: 4 trainings are done, 0 were cut off" in said
    assert len(trials(run)) == 5
    events = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    numbers = [event["trial"] for event in events if event["event"] == "done"]
    assert sorted(numbers) == [0, 1, 2, 3, 4]
