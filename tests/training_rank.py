"""One process of a distributed training on CPUs, started by torchrun's variables or by hand: python training_rank.py FILE."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist


def main() -> None:
    from jupyter_llmops import open_workspace

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    workspace = open_workspace()
    model = torch.nn.Linear(4, 1)
    shard = torch.arange(8.0).reshape(2, 4) + rank
    with workspace.training("ddp", data={"shard": shard}, seed=3, hyperparameters={"lr": 0.1}) as run:
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(parallel.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            loss = parallel(shard).pow(2).mean()
            loss.backward()
            optimizer.step()
            run.loss(loss)
        run.weights(model)
    record = run.record
    assert record is not None
    Path(f"{sys.argv[1]}.{rank}").write_text(
        json.dumps(
            [record.run_id, record.group, record.rank, record.world_size, record.backend, list(record.notes)]
        )
    )
    dist.barrier()
    workspace.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
