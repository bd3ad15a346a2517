"""What every test of this project can ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soak import SoakScale

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the checkout."""
    return REPOSITORY


@pytest.fixture
def soak_scale(request: pytest.FixtureRequest) -> SoakScale:
    """Return how long a campaign is in this run: a seeded sample, or with LLMOPS_SOAK=1 all of it.

    ``soak_scale(5, 200)`` is 5, or 200 in a soak. ``for seed in soak_scale.cases(sample=5, full=200)``
    goes through seeds and remembers in benchmarks/results/soak/ which of them passed, so that an
    interrupted soak goes on where it stopped.
    """
    return SoakScale(
        name=request.node.nodeid,
        full=os.environ.get("LLMOPS_SOAK", "") == "1",
        folder=REPOSITORY / "benchmarks" / "results" / "soak",
        source=REPOSITORY / "src" / "jupyter_llmops",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if not needing:
        return
    problem = _gpu_problem()
    if problem:
        for item in needing:
            item.add_marker(pytest.mark.skip(reason=f"needs an NVIDIA GPU: {problem}"))


def _gpu_problem() -> str:
    """Return why no GPU can be used, or an empty string."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return str(error)
    try:
        return "" if pynvml.nvmlDeviceGetCount() else "the driver sees none"
    finally:
        pynvml.nvmlShutdown()
