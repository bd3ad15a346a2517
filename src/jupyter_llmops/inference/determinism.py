"""Measures whether the same request gets the same answer in every company and after a restart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import jupyter_llmops
from jupyter_llmops.errors import InferenceError, UsageError
from jupyter_llmops.inference.engine import Engine, EngineIdentity, Progress
from jupyter_llmops.inference.grades import machine
from jupyter_llmops.inference.probing import FEW, QUESTIONS, TOKENS, Trace, Traces, asking, probe_for
from jupyter_llmops.records.determinism import Determinism, Grade, Variation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest

_SECONDS: Final = 600.0


def measure(
    engine: Engine,
    model: Model,
    quantization: str,
    *,
    exact: bool = False,
    restart: Callable[[InferenceRequest, int], list[Trace]] | None = None,
    progress: Progress | None = None,
) -> Determinism:
    """Measure the grade of an engine, model and quantization on this machine; takes about a minute.

    Parameters
    ----------
    engine : Engine
        The one that answers for the model.
    model : Model
        With its digest, and its adapter where it has one.
    quantization : str
        Precision of the weights; "auto" is resolved.
    exact : bool
        Whether to measure the exact mode.
    restart : callable, optional
        From a request and a number of questions to their traces in a fresh process.
    progress : callable, optional
        Told what is being asked and how far it is.

    Raises
    ------
    UsageError
        It is an endpoint, of which nobody knows what runs behind it.
    InferenceError
        The model can't answer.
    """
    if not model.digest:
        raise UsageError(
            f"{model.name!r} is an endpoint: what computes there can change with every request.",
            "Grades are of models on this machine; %models lists them.",
        )
    identity = engine.identify(model, quantization, exact=exact)
    request = _request(model, identity, exact=exact)
    asked = [asking(request, question) for question in QUESTIONS]
    probe = probe_for(engine, model)
    tell = progress or (lambda _doing, _fraction: None)
    steps = [*probe.steps(asked)]
    tell("Asking one by one", 0.0)
    alone = probe.alone(asked)
    variations = []
    for index, (name, ask) in enumerate(steps, start=1):
        tell(f"Asking with {name}", index / (len(steps) + 2))
        variations.append(_compare(name, alone, ask()))
    if restart is not None:
        tell("Asking in a fresh process", (len(steps) + 1) / (len(steps) + 2))
        again = dict(enumerate(restart(request, FEW)))
        variations.append(_compare("restart", alone, again))
    return Determinism(
        grade=grade_from(variations),
        engine=identity.engine,
        engine_version=identity.engine_version,
        model_digest=model.digest,
        adapter_digest=model.adapter.digest if model.adapter else "",
        quantization=identity.quantization,
        device=identity.device,
        machine=machine(identity.device),
        exact=exact,
        variations=tuple(variations),
        measured_at=datetime.now(UTC),
    )


def grade_from(variations: Sequence[Variation]) -> Grade:
    """Return the grade that variations give: the weakest of them decides; none, and nothing is known."""
    if not variations:
        return ""
    if any(one.same_tokens < one.asked for one in variations):
        return "none"
    return "bitwise" if all(one.same_logits for one in variations) else "same tokens"


def _compare(name: str, alone: Traces, varied: Traces) -> Variation:
    same = [alone[index].tokens == trace.tokens for index, trace in varied.items()]
    logits = [bool(trace.logits) and alone[index].logits == trace.logits for index, trace in varied.items()]
    return Variation(name, sum(same), len(same), all(logits))


def _request(model: Model, identity: EngineIdentity, *, exact: bool) -> InferenceRequest:
    return InferenceRequest(
        model=model.name,
        model_digest=model.digest,
        messages=(),
        parameters=GenerationParameters(max_new_tokens=TOKENS),
        engine=identity.engine,
        engine_version=identity.engine_version,
        quantization=identity.quantization,
        device=identity.device,
        adapter=model.adapter.name if model.adapter else "",
        adapter_digest=model.adapter.digest if model.adapter else "",
        exact=exact,
        engine_options=identity.options,
    )


# -- a fresh process ----------------------------------------------------------------------------


def in_fresh_process(
    folder: Path, model: Model, *, offline: bool
) -> Callable[[InferenceRequest, int], list[Trace]]:
    """Return what asks the first questions in a process of its own.

    Parameters
    ----------
    folder : Path
        The models folder.
    model : Model
        As measured.
    offline : bool
        Never ask the hub.
    """

    def ask(request: InferenceRequest, number: int) -> list[Trace]:
        adapter = model.adapter
        job = {
            "folder": str(folder),
            "offline": offline,
            "request": request.canonical(),
            "number": number,
            "source": model.source,
            "adapter": [adapter.name, adapter.source] if adapter else None,
        }
        done = subprocess.run(
            [sys.executable, "-P", "-m", "jupyter_llmops.inference.determinism"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=_environment(),
        )
        try:
            return [Trace(tuple(t), tuple(g)) for t, g in json.loads(done.stdout.splitlines()[-1])["traces"]]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise InferenceError(
                f"A fresh process could not answer: {last[0][:200]}", "Try it again."
            ) from error

    return ask


def _environment() -> dict[str, str]:
    root = str(Path(jupyter_llmops.__path__[0]).parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def main() -> None:
    """Read a job as JSON from stdin, and print the traces of its questions as one JSON line."""
    from jupyter_llmops.inference.engines import Engines

    job = json.load(sys.stdin)
    request = InferenceRequest.from_canonical(job["request"])
    engines = Engines(Path(job["folder"]), offline=job["offline"])
    model = Model(request.model, "llm", job["source"], request.model_digest)
    if job["adapter"]:
        name, source = job["adapter"]
        model = replace(model, adapter=Model(name, "adapter", source, request.adapter_digest))
    engine = engines.engine_of(request)
    asked = [asking(request, question) for question in QUESTIONS[: job["number"]]]
    traces = probe_for(engine, model).alone(asked)
    found = [(traces[index].tokens, traces[index].logits) for index in range(len(asked))]
    sys.stdout.write(json.dumps({"traces": found}) + "\n")


if __name__ == "__main__":
    main()
