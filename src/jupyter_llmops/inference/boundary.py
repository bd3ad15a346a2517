"""The one place where exceptions of the model libraries become errors of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from jupyter_llmops.errors import InferenceError, LLMOpsError
from jupyter_llmops.inference.memory import is_out_of_memory, memory_error
from jupyter_llmops.inference.streaming import CallbackFailed
from jupyter_llmops.records.model import Model


@contextlib.contextmanager
def boundary(doing: str, model: Model, device: str) -> Iterator[None]:
    """Map what a library raises inside; our own errors and Ctrl-C pass as they are.

    Parameters
    ----------
    doing : str
        As the beginning of a sentence, e.g. "Loading".
    model : Model
        For the message.
    device : {"cpu", "cuda"}
        Whose memory can run out.

    Raises
    ------
    ModelMemoryError
        Memory ran out.
    InferenceError
        Anything else went wrong.
    """
    try:
        yield
    except LLMOpsError:
        raise
    except CallbackFailed as carrier:
        raise carrier.original from carrier.original.__cause__
    except Exception as error:
        if is_out_of_memory(error):
            raise memory_error(model, doing, device) from error
        raise InferenceError(
            f"{doing} {model.name!r} failed: {first_line(error)}", _hint(str(error))
        ) from error


def first_line(error: BaseException) -> str:
    """Return the kind of an exception and the first line of what it says, shortened."""
    said = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {said[:200]}" if said else type(error).__name__


def _hint(said: str) -> str:
    if "trust_remote_code" in said:
        return "The model brings code of its own, which is never run; choose one that transformers knows."
    if "does not recognize this architecture" in said or "Unrecognized model" in said:
        return "This version of transformers does not know it; type: %pip install -U transformers"
    return "The cause is in the exception's __cause__; another model can be chosen with -m."
