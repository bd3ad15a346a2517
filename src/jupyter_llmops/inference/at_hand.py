"""Which of a model's places this machine can read: its own folder, what was pulled, the hub."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from jupyter_llmops.errors import InferenceError, LLMOpsError, ModelNotAvailableError
from jupyter_llmops.inference.endpoints.address import is_endpoint
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.sources import digest_of
from jupyter_llmops.records.model import Model

PULLED_FOLDER = "pulled"
_STORAGE = "storage:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MLFLOW = "mlflow:"
_REMOTE = ("endpoint:", _MLFLOW)


def pulled_folder(model: Model, folder: Path) -> Path:
    """Return where a model's files lie once they were pulled; `folder` is the models folder.

    Raises
    ------
    InferenceError
        The digest is none, and might lead out of the folder.
    """
    if not _DIGEST.fullmatch(model.digest):
        raise InferenceError(
            f"The digest of the model {model.name!r} in the catalog is damaged.",
            "Add the model again under a new name.",
        )
    return folder / PULLED_FOLDER / model.digest.removeprefix("sha256:")


def pulled_source(model: Model, folder: Path) -> str:
    """Return the source of a model that was pulled: its folder, or the file that is all of it."""
    pulled = pulled_folder(model, folder)
    alone = model.files[0].path if len(model.files) == 1 else ""
    return f"folder:{pulled / alone if alone else pulled}"


def at_hand(
    model: Model, folder: Path, *, site: str, offline: bool = False, progress: Progress | None = None
) -> Model:
    """Return the model with a source that this machine can read, and the digest of its files; endpoints as they are.

    Parameters
    ----------
    model : Model
        From `sources.resolve`, with its places.
    folder : Path
        The models folder.
    site : str
        The name of this host or site in the catalog.
    offline : bool
        Never ask the hub.
    progress : callable, optional
        Told what takes long.

    Raises
    ------
    ModelNotAvailableError
        Its files are not on this machine; the hint says what to type.
    InferenceError
        It is in an MLflow registry, or the files here are not the ones that the catalog names.
    """
    if is_endpoint(model):
        return model  # whose files are the endpoint's own business
    if model.source.startswith(_MLFLOW):
        raise InferenceError(
            f"{model.name!r} is a model of an MLflow registry; this version answers with local models and endpoints.",
            "Choose another with -m; %models lists them.",
        )
    first: LLMOpsError | None = None
    for source in _sources(model, folder, site):
        try:
            return digest_of(replace(model, source=source), folder, offline=offline, progress=progress)
        except OSError as error:  # somebody else's folder, which may not even be looked at
            found: LLMOpsError = ModelNotAvailableError(
                f"The files of the model {model.name!r} can't be read: {error}", "Check their permissions."
            )
        except InferenceError as error:
            found = error
        # Files that were changed here are worse news than a folder that is elsewhere.
        if first is None or isinstance(first, ModelNotAvailableError):
            first = found
    assert first is not None
    raise _said(model, first)


def _sources(model: Model, folder: Path, site: str) -> list[str]:
    """Return where the files may be, what is surely here first; the hub before other hosts' folders."""
    here = [place.source for place in model.places if place.site == site]
    elsewhere = [place.source for place in model.places if place.site != site]
    pulled = pulled_folder(model, folder) if model.digest else None
    candidates = [
        *([model.source] if model.site in ("", site) else []),
        *here,
        *([pulled_source(model, folder)] if pulled is not None and pulled.is_dir() else []),
        model.source,
        *elsewhere,
    ]
    # A fetch from the hub comes after all that is on this machine already.
    candidates.sort(key=lambda source: source.startswith("hub:"))
    unique = dict.fromkeys(source for source in candidates if not source.startswith((_STORAGE, *_REMOTE)))
    return list(unique)


def _said(model: Model, error: LLMOpsError) -> LLMOpsError:
    if not isinstance(error, ModelNotAvailableError):
        return error
    if any(place.source.startswith(_STORAGE) for place in model.places):
        hint = f"Type %models pull {model.name} to fetch them from the team's storage."
    elif model.source.startswith("folder:"):
        hint = f"Type %models push {model.name} on a host that has them, then %models pull {model.name} here."
    else:
        return error  # it says how to get the package, or to reach the hub
    where = ", ".join(sorted({place.site for place in model.places if place.site})) or model.site
    return ModelNotAvailableError(
        f"The files of the model {model.name!r} are not on this machine{f', but on: {where}' if where else ''}.",
        hint,
    )
