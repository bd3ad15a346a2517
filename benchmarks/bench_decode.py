"""Decoding one answer: this project's nf4 beside plain transformers in bf16 and fp32, on the default model.

All have the same weights, prompt and number of tokens, greedy, and take turns, so that what else the
machine does falls on all alike. This project's time is that of `TransformersEngine.generate` as the
magics call it: checking, tokenizing, streaming and decoding included. The peers only call `generate`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_llmops.inference import sources
from jupyter_llmops.inference.preparation import prepare
from jupyter_llmops.inference.threads import import_torch
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("LLMOPS_TEST_MODELS") or REPOSITORY / "build" / "test-models")
QUESTION = (Message("user", "Explain in a few sentences how a rainbow forms."),)
OURS = "jupyter_llmops nf4"
Decode = Callable[[int], None]


def main() -> None:
    """Load all, let them take turns, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=48, help="length of every answer")
    options = parser.parse_args()
    decoders, megabytes = load()
    for decode in decoders.values():
        decode(8)
    taken: dict[str, list[float]] = {name: [] for name in decoders}
    names = list(decoders)
    for _ in range(options.rounds):
        names = [*names[1:], names[0]]
        for name in names:
            begun = time.perf_counter()
            decoders[name](options.tokens)
            taken[name].append((time.perf_counter() - begun) * 1000 / options.tokens)
    rows = summary(taken)
    note = "; ".join(
        f"{row['name']}: {1000 / row['median']:.1f} tokens/s, {megabytes[row['name']]:.0f} MiB of weights"
        for row in rows
    )
    print(table(rows))
    print(note)
    claim = f"One answer of {options.tokens} tokens in nf4 takes less time and memory than in bf16"
    print(json.dumps({"claim": claim, "unit": "ms per token", "rows": rows, "note": note}))


def load() -> tuple[dict[str, Decode], dict[str, float]]:
    """Return what decodes so many tokens, and the MiB of its weights, by name."""
    import_torch()  # before transformers does, so that all have the same threads
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    engine = TransformersEngine(MODELS, offline=True)
    model = engine.with_digest(sources.resolve(sources.DEFAULT_LLM))
    identity = engine.identify(model, "nf4")
    engine.load(model, "nf4", lambda doing, _: print(doing))

    def ours(tokens: int) -> None:
        parameters = GenerationParameters(max_new_tokens=tokens, extra=(("min_new_tokens", tokens),))
        request = InferenceRequest(
            model=model.name,
            model_digest=model.digest,
            messages=QUESTION,
            parameters=parameters,
            engine=identity.engine,
            engine_version=identity.engine_version,
            quantization=identity.quantization,
            device=identity.device,
        )
        answer = engine.generate(request, model, lambda _: None)
        assert len(answer.token_ids) == tokens

    decoders: dict[str, Decode] = {OURS: ours}
    (entry,) = engine.loaded()
    megabytes = {OURS: entry.memory_bytes / 2**20}
    plain = prepare(model, sources.locate(model), MODELS, "bf16", identity.device)
    prompt = torch.tensor([tokens_of(engine, model)], device=identity.device)
    for name, dtype in (("transformers bf16", torch.bfloat16), ("transformers fp32", torch.float32)):
        net = AutoModelForCausalLM.from_pretrained(plain.weights, dtype=dtype, device_map=identity.device)
        decoders[name] = peer(net, prompt)
        megabytes[name] = net.get_memory_footprint() / 2**20
    return decoders, megabytes


def tokens_of(engine: TransformersEngine, model: Any) -> list[int]:
    """Return the prompt's tokens, for the peers."""
    from jupyter_llmops.inference.chat import ChatTokenizer
    from jupyter_llmops.inference.preparation import prepare_tokenizer

    return ChatTokenizer(prepare_tokenizer(model, sources.locate(model), engine.folder)).encode(QUESTION)


def peer(net: Any, prompt: Any) -> Decode:
    """Return what decodes with a plain transformers model."""
    import torch

    def decode(tokens: int) -> None:
        with torch.inference_mode():
            answer = net.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
            )
        assert answer.shape[1] - prompt.shape[1] == tokens

    return decode


def summary(taken: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return a row each: medians over the rounds, and the ratio to this project's time."""
    ours = statistics.median(taken[OURS])
    rows: list[dict[str, Any]] = []
    for name, values in taken.items():
        median = statistics.median(values)
        row: dict[str, Any] = {"name": name, "median": round(median, 1), "slowest": round(max(values), 1)}
        if name != OURS:
            row["ratio"] = round(median / ours, 2)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| one answer | ms per token | slowest round | time / ours |", "|---|---:|---:|---:|"]
    lines += [f"| {r['name']} | {r['median']} | {r['slowest']} | {r.get('ratio', '')} |" for r in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
