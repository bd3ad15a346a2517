"""The other process: reads a request on standard input, infers it, writes the answer as JSON.

Run as ``python -m jupyter_llmops.reproduce.worker``. It never opens a cache, so what it writes
was computed by the model, in this process, from the record alone.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_llmops.errors import LLMOpsError, ReproduceError
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest


def infer(order: dict[str, Any]) -> dict[str, Any]:
    """Infer one recorded request.

    Parameters
    ----------
    order : dict
        ``request`` (canonical), ``model_source``, ``adapter_source``, ``models_folder`` and ``offline``.

    Raises
    ------
    ReproduceError
        The files of the model or of its adapter are not those of the record.
    """
    from jupyter_llmops.inference.engines import Engines
    from jupyter_llmops.inference.sources import digest_of
    from jupyter_llmops.inference.unsafe import allow

    request = InferenceRequest.from_canonical(order["request"])
    folder = Path(order["models_folder"])
    engine = Engines(folder, offline=order["offline"])
    allow(order.get("unsafe_models", ()))

    def at_hand(recorded: Model, digest: str) -> Model:
        found = digest_of(recorded, folder, offline=order["offline"])
        if found.digest != digest:
            raise ReproduceError(
                f"The files of {found.name} have changed since: {found.digest[:19]}… now, "
                f"{digest[:19]}… in the record.",
                "Bring the recorded files back, or run the prompt again.",
            )
        return found

    model = at_hand(Model(name=request.model, kind="llm", source=order["model_source"]), request.model_digest)
    if request.adapter:
        adapter = Model(name=request.adapter, kind="adapter", source=order["adapter_source"])
        model = replace(model, adapter=at_hand(adapter, request.adapter_digest))
    engine.load(model, request.quantization, exact=request.exact)
    identity = engine.identify(model, request.quantization, exact=request.exact)
    generation = engine.generate(request, model)
    return {
        "text": generation.text,
        "token_ids": list(generation.token_ids),
        "seconds": generation.seconds,
        "finish_reason": generation.finish_reason,
        "engine_version": identity.engine_version,
        "device": identity.device,
        "pid": os.getpid(),
    }


def main() -> int:
    """Infer the request on standard input; errors are JSON too, never a traceback of ours."""
    order = json.load(sys.stdin)
    # The answer has a pipe of its own: libraries print to standard output as they like.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answer:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            json.dump(infer(order), answer)
        except LLMOpsError as error:
            json.dump({"error": error.message, "hint": error.hint}, answer)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
