"""Prompts of an MLflow registry, read with MLflow's own client."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import CatalogError, MissingDependencyError, UsageError
from jupyter_llmops.prompting.roles import escape_roles
from jupyter_llmops.records.request import Scalar

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow's own rule of what is a variable; the rest of a text is literal.
_VARIABLE = re.compile(r"(\{\{\s*[a-zA-Z_][a-zA-Z0-9_]*(?:\.[a-zA-Z_][a-zA-Z0-9_]*)*\s*\}\})")
# At the end of a piece stands a variable, so that a brace before it would be a third.
_JINJA = re.compile(r"\{\{|\{%|\{#|\{\Z")
_ROLES = ("system", "user", "assistant")
# MLflow's word → transformers' word.
_PARAMETERS = {
    "temperature": "temperature",
    "max_tokens": "max_new_tokens",
    "top_p": "top_p",
    "top_k": "top_k",
}
_PAGE = 100


@dataclass(frozen=True, slots=True)
class MlflowVersion:
    """One version of a prompt as MLflow has it, its template as ours are written.

    Parameters
    ----------
    problem : str
        Why it can't be taken over; empty where it can.
    note : str
        What is not taken over.
    """

    version: int
    template: str
    parameters: tuple[tuple[str, Scalar], ...] = ()
    aliases: tuple[str, ...] = ()
    problem: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class MlflowPrompt:
    """A prompt of an MLflow registry, its versions oldest first."""

    name: str
    description: str
    tags: tuple[str, ...]
    versions: tuple[MlflowVersion, ...]


def read_prompts(uri: str) -> Iterator[MlflowPrompt]:
    """Yield every prompt of a registry, sorted by name.

    Parameters
    ----------
    uri : str
        As MLflow's ``set_registry_uri`` takes it, e.g. ``sqlite:///mlflow.db``; empty for MLflow's
        own default.

    Raises
    ------
    MissingDependencyError
        MLflow is not installed.
    CatalogError
        The registry can't be read.
    """
    client = _open(uri)
    try:
        for prompt in sorted(_pages(client.search_prompts), key=lambda found: str(found.name)):
            versions = _pages(lambda **page: client.search_prompt_versions(prompt.name, **page))  # noqa: B023
            numbers = sorted(int(found.version) for found in versions)
            # Only one read alone has its aliases.
            read = [client.get_prompt_version(prompt.name, number) for number in numbers]
            yield MlflowPrompt(
                name=prompt.name,
                description=prompt.description or "",
                tags=_tags(prompt.tags),
                versions=tuple(_version(found) for found in read if found is not None),
            )
    except Exception as error:
        if type(error).__module__.startswith("jupyter_llmops"):
            raise
        raise _unreadable(uri, error) from error


def _open(uri: str) -> MlflowClient:
    _check_there(uri)
    # A reader has nothing to tell MLflow's makers.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient, get_registry_uri
    except ImportError as error:
        raise MissingDependencyError("Importing from MLflow", "mlflow") from error
    if not uri:
        _check_there(get_registry_uri())
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        return MlflowClient(tracking_uri=uri or None, registry_uri=uri or None)
    except Exception as error:
        raise _unreadable(uri, error) from error


def _check_there(uri: str) -> None:
    """Refuse a database that is not there: MLflow would make a new, empty one."""
    path = uri.removeprefix("sqlite:///")
    if path != uri and not Path(path).exists():
        raise UsageError(
            f"There is no MLflow database {path!r}.", "Type %prompts import mlflow:sqlite:///PATH.db"
        )


def _unreadable(uri: str, error: Exception) -> CatalogError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return CatalogError(
        f"The MLflow registry {uri or 'by default'} can't be read: {first.rstrip('.')}.",
        "Type for example %prompts import mlflow:sqlite:///mlflow.db or mlflow:http://localhost:5000.",
    )


def _pages(search: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _version(found: Any) -> MlflowVersion:
    number, aliases = int(found.version), tuple(found.aliases or ())
    try:
        template = convert(found.template)
    except UsageError as error:
        return MlflowVersion(number, "", aliases=aliases, problem=str(error))
    parameters, note = _parameters(found.model_config)
    if found.response_format:
        note = ", ".join(filter(None, [note, "its response format"]))
    return MlflowVersion(number, template, parameters, aliases, note=note and f"without {note}")


def convert(template: str | Iterable[Mapping[str, Any]]) -> str:
    """Return an MLflow template, a text or a list of messages, as a template of ours.

    MLflow fills in ``{{ name }}`` alone and takes all else as it stands, unless a text holds
    ``{% … %}``: then it is Jinja2 already.

    Raises
    ------
    UsageError
        A message has a role or content that ours can't have.
    """
    if isinstance(template, str):
        return escape_roles(_escaped(template, is_jinja=_is_jinja([template])))
    messages = list(template)
    for message in messages:
        if message.get("role") not in _ROLES or not isinstance(message.get("content"), str):
            raise UsageError(
                f"A message of the role {str(message.get('role'))[:40]!r} is none of text by {', '.join(_ROLES)}."
            )
    is_jinja = _is_jinja(message["content"] for message in messages)
    return "\n".join(
        f"{message['role']}:\n{escape_roles(_escaped(message['content'], is_jinja=is_jinja))}"
        for message in messages
    )


def _is_jinja(texts: Iterable[str]) -> bool:
    return any("{%" in text and "%}" in text for text in texts)


def _escaped(text: str, *, is_jinja: bool) -> str:
    if is_jinja:
        return text
    pieces = _VARIABLE.split(text)
    literal = [_JINJA.sub(lambda found: f"{{{{ '{found[0]}' }}}}", piece) for piece in pieces[::2]]
    variables = [*pieces[1::2], ""]
    return "".join(part for pair in zip(literal, variables, strict=True) for part in pair)


def _parameters(configuration: Mapping[str, Any] | None) -> tuple[tuple[tuple[str, Scalar], ...], str]:
    """Return the generation parameters of a version, and what of its configuration is none."""
    given = {key: value for key, value in (configuration or {}).items() if value is not None}
    kept = {_PARAMETERS[key]: given.pop(key) for key in list(given) if key in _PARAMETERS}
    if given.pop("model_name", None):
        given["its model"] = ""
    return tuple(sorted(kept.items())), ", ".join(sorted(given))


def _tags(tags: Mapping[str, str] | None) -> tuple[str, ...]:
    own = {key: value for key, value in (tags or {}).items() if not key.startswith(("mlflow.", "_mlflow"))}
    return tuple(sorted(f"{key}={value}" if value else key for key, value in own.items()))
