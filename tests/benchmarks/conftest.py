"""What the benchmarks share: the compiled backend, built once."""

from __future__ import annotations

import pytest

from builders.native import NoCompiler, compiled


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """File of the compiled backend."""
    try:
        return str(compiled(tmp_path_factory.mktemp("native")))
    except NoCompiler as error:
        pytest.skip(str(error))
