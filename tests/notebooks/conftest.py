"""Real kernels on a catalog of their own, with the real default model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_fixtures import models_folder
from real_kernels import Desk, Kernel, make_desk

__all__ = ["models_folder"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, models_folder: Path) -> Iterator[Desk]:
    """Give a module its own folders; end its kernels afterwards."""
    made = make_desk(tmp_path_factory.mktemp("desk"), models_folder)
    yield made
    for kernel in made.kernels:
        kernel.stop()


@pytest.fixture(scope="module")
def kernel(desk: Desk) -> Kernel:
    """Give a module one kernel with the extension loaded."""
    return desk.kernel()
