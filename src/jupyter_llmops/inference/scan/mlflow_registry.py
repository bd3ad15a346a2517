"""Models of an MLflow registry, asked through MLflow's own client; none is downloaded or loaded."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from jupyter_llmops.errors import InferenceError, LLMOpsError, MissingDependencyError, UsageError
from jupyter_llmops.inference.scan.pickled import estimators, read_names
from jupyter_llmops.inference.scan.reading import Reading, count, one_line, reason, slug, text
from jupyter_llmops.records.model import Model, ModelFile, ModelKind

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_PAGE = 200
_MOST_VERSIONS = 10_000
_MOST_YAML_BYTES = 1 << 20
_PROMPT_TAG = "mlflow.prompt.is_prompt"
_LLM_FLAVORS = {
    "anthropic",
    "dspy",
    "langchain",
    "litellm",
    "llama_index",
    "openai",
    "promptflow",
    "transformers",
}
# MLflow asks seven times with growing pauses, minutes in all, and reports its use to its makers.
_QUIETLY = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}


def models_of_registry(uri: str, reading: Reading, on_problem: Callable[[str], None]) -> Iterator[Model]:
    """Yield every version of every model that an MLflow registry holds.

    Parameters
    ----------
    uri : str
        ``sqlite:///path.db``, ``https://host``, a folder, or another database without a password in it.
    reading : Reading
        How files are read, where a version's files are on this machine.
    on_problem : callable
        Told in one line of a version that can't be described.

    Raises
    ------
    UsageError
        The address can't be used.
    InferenceError
        There is no registry, or it did not answer.
    MissingDependencyError
        MLflow is not installed.
    """
    uri = _checked(uri)
    with _quietly():
        yield from list(_registered(uri, reading, on_problem))


def _registered(uri: str, reading: Reading, on_problem: Callable[[str], None]) -> Iterator[Model]:
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise MissingDependencyError("A model registry of MLflow", "mlflow") from None
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        aliases, versions = _aliases(client), list(_versions(client))
    except Exception as error:  # MLflow, requests and SQLAlchemy each have their own
        raise InferenceError(
            f"The MLflow registry {uri} can't be read: {reason(error)}", "Check its address."
        ) from error
    for version in versions:
        called = aliases.get((version.name, str(version.version)), [])
        try:
            yield _model(client, uri, version, called, reading)
        except (LLMOpsError, OSError) as error:
            on_problem(f"Version {version.version} of {one_line(version.name)} in MLflow: {reason(error)}")


def _model(
    client: MlflowClient, uri: str, version: ModelVersion, aliases: list[str], reading: Reading
) -> Model:
    folder = _local_folder(client, version)
    described = _read_mlmodel(folder) if folder else {}
    flavors = described.get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    files: tuple[ModelFile, ...] = ()
    digest, size = "", 0
    if folder:
        inside = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        files, digest, size = reading.manifest(folder, inside)
    user, data = _lineage(client, version.run_id)
    tags = tuple(f"mlflow-alias:{one_line(alias)}" for alias in sorted(aliases))
    made = f"run {version.run_id}{f' by {user}' if user else ''}" if version.run_id else ""
    return Model(
        name=slug(f"{version.name}-v{version.version}"),
        kind=_kind(flavors),
        source=f"mlflow:{uri}#models:/{version.name}/{version.version}",
        digest=digest,
        family=_family(flavors, folder),
        license=text(version.tags.get("license")),
        size_bytes=size or count(described.get("model_size_bytes")),
        created_by=text(version.user_id) or user,
        created_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        format="mlflow",
        data_digest=data,
        files=files,
        description=one_line(". ".join(filter(None, [text(version.description), f"MLflow {made}".strip()]))),
        tags=tags,
    )


def _versions(client: MlflowClient) -> Iterator[ModelVersion]:
    token, seen = None, 0
    while seen < _MOST_VERSIONS:
        page = client.search_model_versions(max_results=_PAGE, page_token=token)
        seen += len(page)
        yield from (version for version in page if version.tags.get(_PROMPT_TAG) != "true")
        token = page.token
        if not token:
            return


def _aliases(client: MlflowClient) -> dict[tuple[str, str], list[str]]:
    """Return the aliases of each version; MLflow keeps them with the model's name."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    token = None
    for _ in range(_MOST_VERSIONS // _PAGE):
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        for model in page:
            for alias, version in model.aliases.items():
                found[(model.name, str(version))].append(alias)
        token = page.token
        if not token:
            break
    return found


def _local_folder(client: MlflowClient, version: ModelVersion) -> Path | None:
    """Return the folder of a version's files where that is on this machine."""
    try:
        place = client.get_model_version_download_uri(version.name, str(version.version))
    except Exception:  # noqa: BLE001 - what it points to may be gone; the version is still listed
        place = version.source
    parts = urlsplit(str(place or ""))
    if parts.scheme not in {"", "file"} or parts.netloc not in {"", "localhost"}:
        return None
    folder = Path(unquote(parts.path) if parts.scheme else str(place))
    return folder if (folder / "MLmodel").is_file() else None


def _read_mlmodel(folder: Path) -> dict[str, Any]:
    import yaml

    path = folder / "MLmodel"
    try:
        if path.stat().st_size > _MOST_YAML_BYTES:
            raise InferenceError(f"The file {path} is larger than 1 MiB.")
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InferenceError(f"The file {path} can't be read: {reason(error)}") from error
    return found if isinstance(found, dict) else {}


def _kind(flavors: dict[str, Any]) -> ModelKind:
    if "sentence_transformers" in flavors:
        return "encoder"
    return "llm" if _LLM_FLAVORS & flavors.keys() else "classic"


def _family(flavors: dict[str, Any], folder: Path | None) -> str:
    """Return the class that a scikit-learn pickle names, else the name of the flavor."""
    sklearn = flavors.get("sklearn")
    pickled = text(sklearn.get("pickled_model")) if isinstance(sklearn, dict) else ""
    if folder and pickled and (folder / pickled).resolve().is_relative_to(folder.resolve()):
        with contextlib.suppress(LLMOpsError, OSError):
            return next(iter(estimators(read_names(folder / pickled).names)), "sklearn")
    return next((text(name) for name in flavors if name != "python_function"), "")


def _lineage(client: MlflowClient, run_id: str | None) -> tuple[str, str]:
    """Return who made a run, and the digests of the data it was trained on."""
    if not run_id:
        return "", ""
    try:
        run = client.get_run(run_id)
    except Exception:  # noqa: BLE001 - the run may be deleted; the version is still listed
        return "", ""
    digests = {one.dataset.digest: [tag.value for tag in one.tags] for one in run.inputs.dataset_inputs}
    training = [digest for digest, uses in digests.items() if not uses or "training" in uses]
    return text(run.info.user_id), one_line(", ".join(training))


def _checked(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.password or parts.query:
        raise UsageError(
            f"The address of the MLflow registry at {parts.hostname or parts.scheme} holds a password or a query.",
            "MLflow takes them from MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN.",
        )
    if parts.scheme in {"http", "https"}:
        _reach(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), parts.scheme)
        return uri.rstrip("/")
    if parts.scheme == "sqlite":
        path = Path(uri.removeprefix("sqlite:///")).absolute()
        _check_sqlite(path)
        return f"sqlite:///{path}"
    if parts.scheme in {"", "file"}:
        folder = Path(unquote(parts.path)).expanduser().absolute()
        if not folder.is_dir():
            raise InferenceError(
                f"There is no MLflow registry in {folder}.", "Type mlflow:sqlite:///PATH.db or mlflow:FOLDER."
            )
        return folder.as_uri()
    return uri


def _check_sqlite(path: Path) -> None:
    # MLflow would make a database where there is none, and its tables in one that is somebody else's.
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            found = database.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'registered_models'"
            ).fetchone()
    except sqlite3.Error as error:
        raise InferenceError(f"The MLflow registry {path} can't be read: {reason(error)}") from None
    if not found:
        raise InferenceError(f"The database {path} is not an MLflow registry.")


def _reach(host: str, port: int, scheme: str) -> None:
    if scheme in getproxies():
        return
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        said = one_line(error.strerror or type(error).__name__)
        raise InferenceError(f"The MLflow registry at {host}:{port} can't be reached: {said}.") from None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Set MLflow's environment variables where the user did not, for as long as it is asked."""
    added = {name: value for name, value in _QUIETLY.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
