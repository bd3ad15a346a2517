"""Requests on their way to a worker and answers on their way back, as plain values.

Plain values, not our records: a worker with another version of this package then says so, instead of reading
the fields of one version as those of another.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from jupyter_llmops.errors import InferenceError, LLMOpsError
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.cost import Cost
from jupyter_llmops.records.model import Model, ModelFile
from jupyter_llmops.records.request import InferenceRequest

Outcome = Generation | LLMOpsError


def write_job(
    requests: Sequence[InferenceRequest], model: Model, folder: Path, *, offline: bool
) -> dict[str, Any]:
    """Return what a worker needs to answer some requests for one model.

    Parameters
    ----------
    requests : sequence of InferenceRequest
        At least one.
    model : Model
        The one that they name.
    folder : Path
        This process's models folder; a worker that does not have it uses its own.
    offline : bool
        Never ask the Hugging Face hub.
    """
    from jupyter_llmops._version import __version__

    return {
        "version": __version__,
        "model": _model_values(model),
        "folder": str(folder),
        "offline": offline,
        "requests": [request.canonical() for request in requests],
    }


def read_requests(job: dict[str, Any]) -> list[InferenceRequest]:
    """Return the requests of a job."""
    return [InferenceRequest.from_canonical(values) for values in job["requests"]]


def read_model(values: dict[str, Any]) -> Model:
    """Return the model of a job."""
    known = dict(values)
    known["files"] = tuple(ModelFile(**entry) for entry in known["files"])
    known["adapter"] = read_model(known["adapter"]) if known["adapter"] else None
    return Model(**known)


def write_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return an answer or a failure as plain values."""
    if isinstance(outcome, LLMOpsError):
        return write_error(outcome)
    return {"generation": asdict(outcome)}


def read_outcome(values: dict[str, Any]) -> Outcome:
    """Return what a worker made of one request."""
    if "error" in values:
        return read_error(values)
    known = dict(values["generation"])
    known["token_ids"] = tuple(known["token_ids"])
    known["cost"] = Cost(**known["cost"])
    return Generation(**known)


def write_error(error: LLMOpsError) -> dict[str, Any]:
    """Return an error as plain values; of its own attributes only the two sentences are kept."""
    # A type whose constructor takes something else comes back as its nearest base with two sentences.
    plain = next(kind for kind in type(error).__mro__ if _takes_sentences(kind))
    return {"error": plain.__name__, "message": error.message, "hint": error.hint}


def read_error(values: dict[str, Any]) -> LLMOpsError:
    """Return an error that a worker wrote; one of a type that is not known here is an `InferenceError`."""
    kind = vars(sys.modules[LLMOpsError.__module__]).get(str(values["error"]))
    if not (isinstance(kind, type) and issubclass(kind, LLMOpsError) and _takes_sentences(kind)):
        kind = InferenceError
    return kind(str(values["message"]), str(values["hint"]))


def _takes_sentences(kind: type) -> bool:
    return getattr(kind, "__init__") is LLMOpsError.__init__  # noqa: B009 - unsound in general, exact here


def _model_values(model: Model) -> dict[str, Any]:
    # Who registered it, where else it lies and how fast it is elsewhere is nothing that a worker needs.
    slim = replace(model, adapter=None, pool=(), moves=(), places=(), speeds=(), created_at=None)
    values = {field.name: getattr(slim, field.name) for field in fields(slim)}
    values["files"] = [asdict(entry) for entry in slim.files]
    values["adapter"] = _model_values(model.adapter) if model.adapter is not None else None
    return values
