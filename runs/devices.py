"""Which GPU a training gets, and what to say of a part of one."""

from __future__ import annotations

from collections import Counter


class DeviceShares:
    """Hands out devices: of several GPUs the one that the fewest running trainings have.

    The trainings of a run take equal parts, so the fewest are the least load.
    """

    def __init__(self, device: str, gpus: int) -> None:
        """Prepare.

        Args:
            device: cpu, cuda (all GPUs) or cuda:N.
            gpus: number of GPUs.
        """
        every = [f"cuda:{index}" for index in range(gpus)]
        self._devices = every if device == "cuda" and every else [device]
        self._taken: dict[int, str] = {}

    def take(self, number: int) -> str:
        """Give the device of a training, by its trial's number."""
        load = Counter(device for other, device in self._taken.items() if other != number)
        self._taken[number] = min(self._devices, key=lambda device: load[device])
        return self._taken[number]

    def give_back(self, number: int) -> None:
        """Free what a training had; one that had nothing changes nothing."""
        self._taken.pop(number, None)


def sharing(gpus_per_trial: float) -> int:
    """Give the number of trainings that share a GPU."""
    # 1 / 0.1 is 10 in floats too, but a quotient just below a whole number must not lose one.
    return max(1, int(1 / gpus_per_trial + 1e-9))


def sharing_text(device: str, gpus: int, workers: int, gpus_per_trial: float) -> str:
    """Say how trainings share GPUs where somebody asked for a part, or there are too many.

    Args:
        device: cpu, cuda (all GPUs) or cuda:N.
        gpus: number of GPUs that the driver sees; 0 on the head of a cluster.
        workers: trainings at a time.
        gpus_per_trial: part of a GPU that each gets.

    Returns:
        A phrase for the plan; empty where there is nothing to say.
    """
    if device == "cpu":
        return "" if gpus_per_trial == 1 else "--gpus-per-trial does nothing on a CPU"
    used = gpus if device == "cuda" else 1
    if used and workers > used * sharing(gpus_per_trial):
        return f"{workers} trainings at a time are more than {used} x {sharing(gpus_per_trial)}"
    if gpus_per_trial == 1:
        return ""
    return f"{sharing(gpus_per_trial)} trainings share a GPU, {gpus_per_trial:.0%} of it each"
