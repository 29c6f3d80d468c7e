"""What every test shares: one thread, one seed, examples that never change, and no GPU assumed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

# The same examples in every run, and no time limit an example: a busy machine must not fail a test.
settings.register_profile("replk", derandomize=True, deadline=None)
settings.load_profile("replk")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Sums of floats depend on the number of threads; small networks are no slower on one.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked gpu on a machine without a CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
