"""Files from the Hugging Face hub: safetensors only, nothing that runs."""

from __future__ import annotations

from pathlib import Path

from jupyter_llmops.errors import ModelNotAvailableError, UnknownNameError
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.quiet import quiet
from jupyter_llmops.records.model import Model


def fetch(
    model: Model, place: str, patterns: list[str], install: str, offline: bool, progress: Progress | None
) -> Path:
    """Return the folder of a hub snapshot, fetched where it is not in the hub's own cache yet.

    Parameters
    ----------
    model : Model
        Whose files they are.
    place : str
        ``OWNER/NAME`` or ``OWNER/NAME@REVISION``.
    patterns : list of str
        Names of files that may be fetched.
    install : str
        A command that brings the same model without the hub; may be empty.
    offline : bool
        Look only into the hub's cache.
    progress : callable, optional
        Told that it fetches.

    Raises
    ------
    ModelNotAvailableError
        Not in the cache and the hub may not be asked or did not answer.
    UnknownNameError
        The hub has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    repository, _, revision = place.partition("@")
    instead = f", or type: {install}" if install else ""

    def snapshot(local: bool) -> Path:
        with quiet():
            return Path(
                snapshot_download(
                    repository, revision=revision or None, allow_patterns=patterns, local_files_only=local
                )
            )

    try:
        cached = snapshot(local=True)
        if any(cached.rglob("*.safetensors")):
            return cached
    except (LocalEntryNotFoundError, OSError, ValueError):
        pass
    if offline or _hub_is_off():
        raise ModelNotAvailableError(
            f"The model {model.name!r} is not on this machine and the hub may not be asked (offline).",
            f"Unset HF_HUB_OFFLINE and the setting LLMOps.offline{instead}.",
        )
    if progress is not None:
        progress(f"Fetching {repository} from the hub", None)
    try:
        return snapshot(local=False)
    except GatedRepoError as error:
        raise ModelNotAvailableError(
            f"The hub gives {repository} only to people who accepted its terms.",
            "Accept them on its page, then log in with: huggingface_hub.login().",
        ) from error
    except RepositoryNotFoundError as error:
        raise UnknownNameError(
            "model", repository, hint=f"The hub does not have it, or it is private{instead}."
        ) from error
    except Exception as error:  # any kind of network trouble, each with a class of its own
        raise ModelNotAvailableError(
            f"The hub could not be reached for {repository} ({type(error).__name__}).",
            f"Check the connection{instead}.",
        ) from error


def _hub_is_off() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
