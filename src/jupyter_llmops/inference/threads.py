"""The threads of PyTorch and llama.cpp, made to share a busy machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

# GNU's OpenMP looks a thousand times, some microseconds, before it sleeps: most waits inside a token are shorter
# than falling asleep. llama.cpp alone takes 13 ms a token so, 35 asleep at once, and on cores that others want no more.
SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


@contextlib.contextmanager
def sleeping_threads() -> Iterator[None]:
    """Import a library inside so that its idle threads soon sleep instead of spinning.

    OpenMP's threads spin while they wait for each other, thousands of times a token. On a machine
    whose cores are busy otherwise (a browser, a second notebook) each wait then costs a time
    slice: 2,000 ms a token against 60 ms asleep, on two cores that six processes wanted. Only
    read when the library loads, so it does nothing where that is imported already or the user has
    chosen a policy; the environment is as it was afterwards. Answers do not change.
    """
    chosen = {*SLEEPING, "KMP_BLOCKTIME"} & os.environ.keys()
    if not chosen:
        os.environ.update(SLEEPING)
    try:
        yield
    finally:
        if not chosen:
            for name in SLEEPING:
                os.environ.pop(name, None)


def import_torch() -> None:
    """Import PyTorch with threads that sleep while they wait; see `sleeping_threads`."""
    if "torch" in sys.modules:
        return
    with sleeping_threads():
        import torch  # noqa: F401
