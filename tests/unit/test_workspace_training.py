"""Trainings on record: what went in, how, what came out, and one leaf a rank."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from jupyter_llmops.audit.values import digest_value
from jupyter_llmops.errors import UsageError
from jupyter_llmops.workspace import Workspace, facade, open_workspace

RANK = Path(__file__).parents[1] / "training_rank.py"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLMOPS_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setenv("LLMOPS_AGENT", "off")
    facade._open.clear()
    opened = open_workspace()
    yield opened
    opened.close()
    facade._open.clear()


def test_a_training_is_a_leaf_with_data_settings_losses_and_weights(
    workspace: Workspace, tmp_path: Path
) -> None:
    table, file = np.arange(12.0).reshape(3, 4), tmp_path / "rows.csv"
    file.write_text("a,b\n")
    model = torch.nn.Linear(4, 1)
    with workspace.training(
        "lines", data={"table": table, "file": file}, seed=7, hyperparameters={"lr": 0.1, "epochs": 2}
    ) as run:
        first = (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002 - seeded, too
        for value in (0.9, 0.5, 0.7):
            run.loss(value)
        run.weights(model)
    leaf = workspace.run(run.record.run_id).leaf
    assert leaf["kind"] == "training"
    assert leaf["hyperparameters"] == ["lr", "epochs"], "forgetting takes their values with the content"
    assert "lr = 0.1" in (workspace.content(workspace.run(run.record.run_id)) or {})["training"]
    assert leaf["seed"] == 7
    assert leaf["weights"] == {"weights": digest_value(model)}
    assert leaf["loss"]["lowest"] == {"step": 1, "value": "0.5"}
    assert (leaf["rank"], leaf["world_size"]) == (0, 1)
    assert set(leaf["random"]) == {"python", "numpy", "torch"}
    with workspace.training(data=table, seed=7) as again:
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == first  # noqa: NPY002
        again.weights(model)
    assert again.record.random_states == run.record.random_states
    # Salted, each leaf with its own: equal data are not seen to be equal by who has only the leaves.
    assert again.record.data["data"] != run.record.data["table"]
    assert again.record.weights == run.record.weights


def test_the_salt_in_the_sidecar_opens_the_digests_of_data(workspace: Workspace, tmp_path: Path) -> None:
    from jupyter_llmops.audit.files import content_path

    table, file = np.arange(3), tmp_path / "rows.csv"
    file.write_text("a,b\n")
    with workspace.training(data={"table": table, "file": file}) as run:
        run.weights(file)
    found = workspace.run(run.record.run_id)
    salt = json.loads(content_path(workspace.audit_folder, found.session, found.seq).read_bytes())["salt"]
    assert found.leaf["data"] == {
        "table": digest_value(table, salt),
        "file": "sha256:" + hashlib.sha256(bytes.fromhex(salt) + b"a,b\n").hexdigest(),
    }
    assert found.leaf["weights"] == {"weights": "sha256:" + hashlib.sha256(b"a,b\n").hexdigest()}
    assert workspace.verify().ok


def test_a_training_that_fails_is_on_record(workspace: Workspace) -> None:
    run = workspace.training("broken")
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError
    found = workspace.run(run.record.run_id)
    assert (found.status, found.error_type) == ("error", "ZeroDivisionError")


def test_a_secret_among_the_hyperparameters_is_cut_out(workspace: Workspace) -> None:
    secret = "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNm12345678"
    with workspace.training(hyperparameters={"api_key": secret, "lr": 0.1}) as run:
        run.weights(np.zeros(1))
    workspace.journal.flush()
    written = b"".join(path.read_bytes() for path in workspace.audit_folder.rglob("*") if path.is_file())
    assert secret.encode() not in written
    assert b"lr" in written
    assert secret not in str(run.record)


def test_many_losses_are_thinned(workspace: Workspace) -> None:
    with workspace.training() as run:
        for step in range(10_001):
            run.loss(1 / (step + 1))
        run.weights(np.zeros(1))
    losses = run.record.losses
    assert len(losses) <= 1_001
    assert losses[0] == (0, 1.0)
    assert losses[-1] == (10_000, 1 / 10_001)
    assert len(run.record.df) == len(losses)


def test_what_is_no_seed_file_or_loss_is_said(workspace: Workspace, tmp_path: Path) -> None:
    for seed in (-1, 2**40, "7", True):
        with pytest.raises(UsageError, match="is not a seed"):
            workspace.training(seed=seed)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no mapping"):
        workspace.training(hyperparameters=[1])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="can't be read"), workspace.training(data=tmp_path / "gone"):
        pass
    with pytest.raises(UsageError, match="A loss is a number"), workspace.training() as run:
        run.loss("low")
    with pytest.raises(UsageError, match="A loss is a number"), workspace.training() as run:
        run.loss(torch.zeros(2))
    for step in ("first", float("nan")):
        with pytest.raises(UsageError, match="is not a step"), workspace.training() as run:
            run.loss(1.0, step=step)  # type: ignore[arg-type]
    with workspace.training() as run:
        run.loss(torch.tensor(1.5), step=torch.tensor(3))  # type: ignore[arg-type]
    assert run.record.losses == ((3, 1.5),)


def test_what_has_no_digest_is_said_and_missing_weights_are_noted(workspace: Workspace) -> None:
    with workspace.training(data={"live": (n for n in range(3))}) as run:
        pass
    assert run.record.data == {"live": "skipped: type generator"}
    assert run.record.notes == (
        "no weights were recorded: name them, with -w or by weights(model) in the block",
    )


@pytest.mark.slow
def test_two_processes_under_gloo_leave_one_leaf_each_joined(workspace: Workspace, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = tmp_path / "told"
    ranks = [
        subprocess.Popen(
            [sys.executable, str(RANK), str(told)],
            env=dict(
                os.environ, RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
                OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo",
            ),
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        assert [process.wait(120) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    first, second = (json.loads(told.with_suffix(f".{rank}").read_text()) for rank in range(2))
    assert first[1] == second[1] == first[0] != second[0]
    assert first[2:] == [0, 2, "gloo", []]
    assert second[2:] == [1, 2, "gloo", []]
    leaves = [workspace.run(run_id).leaf for run_id in (first[0], second[0])]
    assert leaves[1]["parent"] == first[0] == leaves[1]["group"] == leaves[0]["group"]
    assert leaves[0]["weights"] == leaves[1]["weights"]  # DDP keeps the ranks' weights alike
    assert leaves[0]["data"] != leaves[1]["data"]
    assert leaves[0]["session"] != leaves[1]["session"]
    assert workspace.verify().ok


def test_a_training_outside_of_a_notebook_says_on_what_it_ran(workspace: Workspace) -> None:
    for _ in range(2):
        with workspace.training() as run:
            run.weights(torch.ones(2))
    kinds = [found.kind for found in reversed(workspace.runs(kind="all"))]
    assert kinds.count("environment") == 1
    (environment,) = workspace.runs(kind="environment")
    assert {"packages", "threads", "devices", "cpu"} <= environment.leaf.keys()
    assert workspace.show_run(run.record.run_id).environment is not None


@pytest.mark.filterwarnings("error:Converting a tensor")
def test_a_loss_may_still_have_its_gradient(workspace: Workspace) -> None:
    with workspace.training() as run:
        run.loss(torch.ones(1, requires_grad=True).sum())
        run.weights(torch.ones(2))
    assert run.record.losses == ((0, 1.0),)
