"""What runs/cluster offers for schedulers: the scripts run against stand-ins for ray and srun."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "runs" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))

# Each notes how it was called; what would run for long waits for a signal.
RAY = """#!/bin/bash
echo "ray $*" >> "$CALLS"
if [ "$1" = start ]; then exec sleep 600; fi
"""
SRUN = """#!/bin/bash
echo "srun $*" >> "$CALLS"
exec sleep 600
"""
PYTHON = """#!/bin/bash
if [ "$1" = -c ]; then echo secret; exit; fi
echo "python $* ${RAY_AUTH_MODE:-} ${RAY_AUTH_TOKEN:-}" >> "$CALLS"
trap 'kill $!; echo "python was told to end" >> "$CALLS"; exit 7' TERM
if [ -n "${LONG:-}" ]; then sleep 600 & wait; fi
"""


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """An environment where the scripts find stand-ins."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"ray": RAY, "srun": SRUN, "python": PYTHON}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NUM_NODES": "3",
    }


def calls(surroundings: dict[str, str]) -> list[str]:
    path = Path(surroundings["CALLS"])
    return path.read_text().splitlines() if path.exists() else []


def lives(group: int) -> bool:
    """Say whether anything of a process group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash_and_can_be_started(path: Path) -> None:
    assert subprocess.run(["bash", "-n", path], check=False, capture_output=True).stderr == b""
    assert os.access(path, os.X_OK)


def test_the_same_command_begins_a_run_and_goes_on_with_it(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = [CLUSTER / "search.sh", run, "--budget", "4"]
    subprocess.run(command, env=surroundings, check=True)
    run.mkdir()
    (run / "trials.jsonl").touch()
    more = {"RAY": "head:6379", "BUDGET": "9"}
    subprocess.run(command, env=surroundings, check=True)
    subprocess.run(command, env=surroundings | more, check=True)
    assert [call.strip() for call in calls(surroundings)] == [
        f"python -m runs --out {run} --ray auto --budget 4",
        f"python -m runs resume {run} --ray auto",
        f"python -m runs resume {run} --ray head:6379 --budget 9",
    ]


@pytest.mark.slow
def test_a_slurm_job_passes_the_signal_on_and_ends_its_ray(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    job = subprocess.Popen(
        [CLUSTER / "slurm.sh", tmp_path / "run", "--budget", "4"],
        env=surroundings | {"LONG": "yes"},
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 30
        while not any(call.startswith("python") for call in calls(surroundings)):
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.2)  # until it has set its trap
        job.send_signal(signal.SIGTERM)
        assert job.wait(30) == 7
        while lives(job.pid):
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    called = calls(surroundings)
    (head,) = [call for call in called if call.startswith("ray start")]
    (others,) = [call for call in called if call.startswith("srun")]
    (search,) = [call for call in called if "-m runs" in call]
    assert "--head" in head
    assert "--port=6379" in head
    assert "--temp-dir=/tmp/ray-17" in head
    assert "--nodes=2 --ntasks=2" in others
    found = re.search(r"--address=(\S+:6379)", others)
    assert found
    assert f"--out {tmp_path / 'run'} --ray {found[1]} --budget 4 token secret" in search
    assert called[-1] == "python was told to end"


def test_one_node_needs_no_other(surroundings: dict[str, str], tmp_path: Path) -> None:
    one = surroundings | {"SLURM_JOB_NUM_NODES": "1"}
    subprocess.run([CLUSTER / "slurm.sh", tmp_path / "run"], env=one, check=True, timeout=30)
    assert not [call for call in calls(one) if call.startswith("srun")]


@pytest.mark.slow
def test_a_slurm_job_without_ray_ends(surroundings: dict[str, str], tmp_path: Path) -> None:
    ray = Path(surroundings["PATH"].split(":")[0]) / "ray"
    ray.write_text('#!/bin/bash\necho "ray $*" >> "$CALLS"\nexit 1\n')
    job = subprocess.run(
        [CLUSTER / "slurm.sh", tmp_path / "run"],
        env=surroundings,
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert job.returncode == 1
    assert job.stderr == f"Ray did not start on {os.uname().nodename}\n"
    assert all(call.startswith("ray ") for call in calls(surroundings))


def test_slurm_signals_the_script_before_the_limit() -> None:
    assert "\n#SBATCH --signal=B:TERM@60\n" in (CLUSTER / "slurm.sh").read_text()


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all((CLUSTER / "rayjob.yaml").read_text())}


def test_the_manifest_fits_together(manifest: dict[str, Any]) -> None:
    claim, job = manifest["PersistentVolumeClaim"], manifest["RayJob"]
    assert (claim["apiVersion"], job["apiVersion"]) == ("v1", "ray.io/v1")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = set()
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        images.add(container["image"])
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }
        claims = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
        assert claims == {claim["metadata"]["name"]}
        assert all(type(value) is str for value in group["rayStartParams"].values())
    assert len(images) == 1
    script = job["spec"]["entrypoint"].split()[1].removeprefix("/opt/replk-search/")
    assert (ROOT / script).is_file()


def test_the_manifest_has_the_version_of_ray_that_is_asked_for(manifest: dict[str, Any]) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    (least,) = [one.split(">=")[1] for one in wanted if one.startswith("ray[")]
    assert manifest["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"].startswith(f"{least}.")
