"""Re-inference: the recorded request, in a fresh process, compared token by token."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_llmops.errors import Interrupted, ReproduceError
from jupyter_llmops.inference.unsafe import allowed_models
from jupyter_llmops.records.reproduction import Difference, Reproduction
from jupyter_llmops.reproduce.record import RecordedPrompt

CONTEXT_CHARACTERS = 60


def reinfer(
    recorded: RecordedPrompt,
    *,
    models_folder: Path,
    offline: bool,
    progress: Callable[[str, float | None], None] | None = None,
) -> Reproduction:
    """Infer a recorded prompt again in another process and compare the answers.

    Parameters
    ----------
    recorded : RecordedPrompt
        The request and the answer, from the record.
    models_folder : Path
        Where converted models lie.
    offline : bool
        Whether the hub must not be asked.
    progress : callable, optional
        Gets a sentence while the process works.

    Raises
    ------
    ReproduceError
        The other process could not infer it; the message says why.
    """
    if progress:
        progress(f"Inferring run {recorded.run.id} again in another process", None)
    order = {
        "request": recorded.request.canonical(),
        "model_source": recorded.model_source,
        "adapter_source": recorded.adapter_source,
        "models_folder": str(models_folder),
        "offline": offline,
        "unsafe_models": allowed_models(),
    }
    answer = _ask_worker(order)
    return compare(recorded, answer)


def compare(recorded: RecordedPrompt, answer: dict[str, Any]) -> Reproduction:
    """Compare a worker's answer with the record.

    An interrupted record is compared as far as it goes.
    """
    expected, inferred = recorded.token_ids, tuple(answer["token_ids"])
    text = answer["text"]
    if recorded.finish_reason == "interrupted":
        inferred = inferred[: len(expected)]
        text = text[: len(recorded.text)]
    identical = inferred == expected and text == recorded.text
    return Reproduction(
        run_id=recorded.run.id,
        identical=identical,
        tokens=len(expected),
        seconds=answer["seconds"],
        pid=answer["pid"],
        model=recorded.request.model,
        difference=None if identical else _difference(recorded.text, text, expected, inferred),
        reasons=() if identical else _reasons(recorded, answer),
        record_was_hit=recorded.run.source == "cache",
    )


def _ask_worker(order: dict[str, Any]) -> dict[str, Any]:
    process = subprocess.Popen(
        # -P: the notebook's folder may hold a file that is named like a module.
        [sys.executable, "-P", "-m", "jupyter_llmops.reproduce.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, complaint = process.communicate(json.dumps(order))
    except KeyboardInterrupt:
        process.kill()
        process.wait()
        raise Interrupted(
            "Stopped the reproduction; nothing was compared.", "Type %reproduce to try again."
        ) from None
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        last = complaint.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise ReproduceError(
            f"The process that infers the run again ended without an answer: {last[0]}",
            "Free some memory and type %reproduce again.",
        ) from None
    if "error" in answer:
        raise ReproduceError(answer["error"], answer["hint"])
    return answer


def _difference(
    recorded_text: str, inferred_text: str, recorded_ids: tuple[int, ...], inferred_ids: tuple[int, ...]
) -> Difference:
    character = _first_difference(recorded_text, inferred_text)
    return Difference(
        character=character,
        token=_first_difference(recorded_ids, inferred_ids),
        recorded=recorded_text[character : character + CONTEXT_CHARACTERS],
        inferred=inferred_text[character : character + CONTEXT_CHARACTERS],
        before=recorded_text[max(0, character - CONTEXT_CHARACTERS) : character],
    )


def _first_difference(left: Any, right: Any) -> int:
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))


def _reasons(recorded: RecordedPrompt, answer: dict[str, Any]) -> tuple[str, ...]:
    request, reasons = recorded.request, []
    if request.parameters.sampled and request.parameters.seed is None:
        reasons.append("the run sampled without a seed, so its answer was never repeatable")
    if request.engine_version != answer["engine_version"]:
        reasons.append(f"the engine was {request.engine_version} and is {answer['engine_version']}")
    if request.device != answer["device"]:
        reasons.append(f"it ran on {request.device} and now on {answer['device']}")
    leaf = recorded.run.leaf or {}
    batch, grade = leaf.get("batch_size", 1), leaf.get("determinism")
    if batch > 1 and not request.exact and grade not in ("bitwise", "same tokens"):
        reasons.append(
            f"it was computed in a batch of {batch} and now alone, which can change a token in "
            f"{request.quantization or 'this precision'}; --exact rules that out"
        )
    return tuple(reasons)
