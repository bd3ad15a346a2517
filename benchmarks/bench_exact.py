"""The exact mode beside the default one: the same nf4 model, questions and numbers of tokens.

One by one, and as a map of 16 questions. Both take turns, so that what else the machine does falls on
both alike; what is reported is the median over the rounds, and the median of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_llmops.inference import sources
from jupyter_llmops.inference.probing import QUESTIONS
from jupyter_llmops.inference.threads import import_torch
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("LLMOPS_TEST_MODELS") or REPOSITORY / "build" / "test-models")
MODES = {"default": False, "--exact": True}


def main() -> None:
    """Let the modes take turns; print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=24, help="length of every answer")
    parser.add_argument("--quant", default="nf4")
    options = parser.parse_args()
    import_torch()
    engine = TransformersEngine(MODELS, offline=True)
    model = engine.with_digest(sources.resolve(sources.DEFAULT_LLM))
    identity = engine.identify(model, options.quant)
    parameters = GenerationParameters(
        max_new_tokens=options.tokens, extra=(("min_new_tokens", options.tokens),)
    )
    base = InferenceRequest(
        model.name, model.digest, (), parameters, identity.engine, identity.engine_version,
        identity.quantization, identity.device,
    )  # fmt: skip

    def requests(*, exact: bool) -> list[InferenceRequest]:
        return [replace(base, messages=(Message("user", text),), exact=exact) for text in QUESTIONS]

    def one_by_one(*, exact: bool) -> int:
        answers = [engine.generate(request, model) for request in requests(exact=exact)[:4]]
        return sum(len(answer.token_ids) for answer in answers)

    def mapped(*, exact: bool) -> int:
        answers: dict[int, Any] = {}
        engine.generate_many(requests(exact=exact), model, answers.__setitem__)
        return sum(len(answer.token_ids) for answer in answers.values())

    rows: list[dict[str, Any]] = []
    ways: dict[str, Callable[..., int]] = {"one by one": one_by_one, "map of 16": mapped}
    for way, ask in ways.items():
        taken: dict[str, list[float]] = {mode: [] for mode in MODES}
        for turn in range(options.rounds + 1):
            for mode in list(MODES)[:: 1 if turn % 2 else -1]:
                begun = time.perf_counter()
                tokens = ask(exact=MODES[mode])
                if turn:  # the first round warms up
                    taken[mode].append((time.perf_counter() - begun) * 1000 / tokens)
        ratios = [exact / plain for plain, exact in zip(*taken.values(), strict=True)]
        for mode, values in taken.items():
            row = {"name": f"{way}, {mode}", "median": round(statistics.median(values), 1)}
            if MODES[mode]:
                row["times as long"] = round(statistics.median(ratios), 2)
            rows.append(row)
            print(row)
    claim = f"--exact ({options.quant}) takes at most 1.5 times as long"
    print(json.dumps({"claim": claim, "unit": "ms per token", "rows": rows}))


if __name__ == "__main__":
    main()
