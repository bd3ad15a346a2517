"""The threads of PyTorch and llama.cpp, made to share a busy machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

WAIT_POLICY = "OMP_WAIT_POLICY"


@contextlib.contextmanager
def sleeping_threads() -> Iterator[None]:
    """Import a library inside so that its idle threads sleep instead of spinning.

    OpenMP's threads spin while they wait for each other, thousands of times a token. On a machine
    whose cores are busy otherwise (a browser, a second notebook) each wait then costs a time
    slice: 2,000 ms a token against 60 ms asleep, on two cores that six processes wanted. Only
    read when the library loads, so it does nothing where that is imported already or the user has
    chosen a policy; the environment is as it was afterwards. Answers do not change.
    """
    chosen = {WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys()
    if not chosen:
        os.environ[WAIT_POLICY] = "PASSIVE"
    try:
        yield
    finally:
        if not chosen:
            os.environ.pop(WAIT_POLICY, None)


def import_torch() -> None:
    """Import PyTorch with threads that sleep while they wait; see `sleeping_threads`."""
    if "torch" in sys.modules:
        return
    with sleeping_threads():
        import torch  # noqa: F401
