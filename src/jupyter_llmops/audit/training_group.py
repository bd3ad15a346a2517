"""Which process of a distributed training this is, and how its leaves are joined.

Rank 0 leaves the run id of its leaf in torch.distributed's own store, and the other ranks read it there. Unlike a
broadcast no rank waits for one that never comes: a training that only rank 0 records does not hang.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

# Rank 0 may still read its data when the others begin.
WAIT: Final = timedelta(seconds=60)
_counts: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """One process's place among those that train together.

    Parameters
    ----------
    rank, world_size : int
        Which of how many.
    backend : str
        "gloo", "nccl", …; empty where torch.distributed is not initialized.
    id : str
        The run id of rank 0's leaf; empty where it is not known.
    note : str
        Why it is not, one sentence.
    """

    rank: int = 0
    world_size: int = 1
    backend: str = ""
    id: str = ""
    note: str = ""


def join_group(run_id: str, name: str) -> TrainingGroup:
    """Return this process's place; `TrainingGroup()` where it trains alone.

    Parameters
    ----------
    run_id : str
        Of this process's leaf: the group's id, if this is rank 0.
    name : str
        Of the training; the n-th training of a name is the same one on each rank.
    """
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return _announced()
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    backend = str(distributed.get_backend())
    count = _counts[name] = _counts.get(name, 0) + 1
    try:
        store = distributed.distributed_c10d._get_default_store()
        key = f"jupyter_llmops/training/{name}/{count}"
        if rank == 0:
            store.set(key, run_id)
            return TrainingGroup(rank, world_size, backend, run_id)
        store.wait([key], WAIT)
        return TrainingGroup(rank, world_size, backend, store.get(key).decode("ascii"))
    except Exception as error:  # noqa: BLE001 - a record is not worth a training
        note = f"rank 0 did not say which group this is ({type(error).__name__}): is it recorded there, too?"
        return TrainingGroup(rank, world_size, backend, note=note)


def _announced() -> TrainingGroup:
    """Return what torchrun's variables say, where torch.distributed is not initialized."""
    try:
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return TrainingGroup()
    if world_size < 2:
        return TrainingGroup()
    note = "torch.distributed was not initialized, so the ranks' leaves are not joined"
    return TrainingGroup(rank, world_size, note=note)
