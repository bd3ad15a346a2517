"""An MLflow registry, through MLflow's real client on SQLite."""

from __future__ import annotations

import os
import pickle
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jupyter_llmops.errors import InferenceError, MissingDependencyError, UsageError
from jupyter_llmops.inference.scan import Reading, scan
from jupyter_llmops.inference.scan.mlflow_registry import models_of_registry
from jupyter_llmops.records.model import Model


@dataclass(frozen=True)
class Registry:
    """A registry with two versions of a classic model, a language model and a prompt."""

    database: Path
    run: str

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.database}"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield _fill(tmp_path_factory.mktemp("mlflow"))


def _fill(folder: Path) -> Registry:
    from sklearn.linear_model import LogisticRegression

    database = folder / "registry.db"
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag

    client = MlflowClient(f"sqlite:///{database}", f"sqlite:///{database}")
    experiment = client.create_experiment("churn", artifact_location=(folder / "runs").as_uri())
    run = client.create_run(experiment).info.run_id
    for name, digest, use in (("train", "d1", "training"), ("held-out", "d2", "evaluation")):
        tag = InputTag("mlflow.data.context", use)
        client.log_inputs(run, [DatasetInput(Dataset(name, digest, "local", "{}"), [tag])])
    classic = folder / "classic"
    classic.mkdir()
    (classic / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n"
        "  sklearn:\n    pickled_model: model.pkl\n    sklearn_version: 1.9.1\n"
    )
    (classic / "model.pkl").write_bytes(pickle.dumps(LogisticRegression()))
    chat = folder / "chat"
    chat.mkdir()
    (chat / "MLmodel").write_text(
        "flavors:\n  transformers:\n    task: text-generation\nmodel_size_bytes: 812\n"
    )
    client.create_registered_model("Churn Risk", description="Who leaves")
    client.create_model_version("Churn Risk", str(classic), run)
    client.create_model_version("Churn Risk", "s3://bucket/that/is/elsewhere", run)
    client.set_registered_model_alias("Churn Risk", "prod", "1")
    client.create_registered_model("chat")
    client.create_model_version("chat", str(chat), tags={"license": "MIT"})
    client.register_prompt("greeting", "Hello {{name}}")
    return Registry(database, run)


def test_every_version_is_listed_with_its_lineage(registry: Registry, tmp_path: Path) -> None:
    problems: list[str] = []
    found = scan([f"mlflow:{registry.uri}"], site="here", models_folder=tmp_path, on_problem=problems.append)
    by_name = {model.name: model for model in found}
    assert problems == []
    assert set(by_name) == {"churn-risk-v1", "churn-risk-v2", "chat-v1"}
    first, elsewhere, chat = by_name["churn-risk-v1"], by_name["churn-risk-v2"], by_name["chat-v1"]
    assert first.source == f"mlflow:{registry.uri}#models:/Churn Risk/1"
    assert (first.kind, first.format, first.family) == (
        "classic",
        "mlflow",
        "sklearn.linear_model.LogisticRegression",
    )
    assert first.data_digest == "d1"  # what it was trained on, not what it was tried on
    assert first.created_by
    assert first.created_at is not None
    assert f"run {registry.run}" in first.description
    assert first.tags == ("mlflow-alias:prod",)
    assert {file.path for file in first.files} == {"MLmodel", "model.pkl"}
    assert first.digest
    assert (elsewhere.digest, elsewhere.files, elsewhere.tags) == ("", (), ())
    assert (chat.kind, chat.license, chat.family) == ("llm", "MIT", "transformers")


def test_asking_writes_nothing_and_leaves_the_environment(registry: Registry, tmp_path: Path) -> None:
    before, environment = registry.database.read_bytes(), dict(os.environ)
    assert len(_read(registry.uri)) == 3
    assert registry.database.read_bytes() == before
    assert dict(os.environ) == environment


def test_no_database_is_made_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="unable to open database file"):
        _read(f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (a)")
    before = path.read_bytes()
    with pytest.raises(InferenceError, match="is not an MLflow registry"):
        _read(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InferenceError, match=r"can't be reached: Connection refused"):
        _read(address)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        _read("https://ann:pw4f6a@mlflow.example.org")
    assert "pw4f6a" not in str(caught.value)


def test_without_mlflow_the_extra_is_named(registry: Registry) -> None:
    program = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from jupyter_llmops.inference.scan import Reading\n"
        "from jupyter_llmops.inference.scan.mlflow_registry import models_of_registry\n"
        f"list(models_of_registry({registry.uri!r}, Reading(), print))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert MissingDependencyError.__name__ in done.stderr
    assert "jupyter-llmops[mlflow]" in done.stderr


def _read(uri: str) -> list[Model]:
    problems: list[str] = []
    found = list(models_of_registry(uri, Reading(), problems.append))
    assert problems == []
    return found
