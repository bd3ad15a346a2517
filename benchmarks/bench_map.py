"""A map of 64 prompts: this project's batches beside one answer after another, its own and llama-cpp-python's.

All have the same prompts and token limit, greedy, on the default model: the peers of this project's nf4 are
itself one by one, llama-cpp-python on the GGUF file that the weights come from (Q4_1: 4 bits too), and plain
transformers' ``generate`` on the same nf4 weights in padded batches of 16 in the order given. They take turns, so that
what else the machine does falls on all alike. One by one, a spread sample of the prompts is asked: tokens
a second do not depend on how many follow. llama-cpp-python has a process of its own: beside PyTorch's
threads it takes twice as long.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_llmops.inference import sources
from jupyter_llmops.inference.threads import import_torch
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("LLMOPS_TEST_MODELS") or REPOSITORY / "build" / "test-models")
THINGS = ["rainbow", "volcano", "bicycle", "piano", "river", "glacier", "bridge", "telescope"]
THINGS += ["garden", "lighthouse", "desert", "market", "library", "harbour", "forest", "island"]
QUESTIONS = (
    "Explain in a few sentences what a {} is.",
    "Write a short review of a {}.",
    "List three facts about a {}, one per line.",
    "Is a {} useful? Answer and say why, for somebody who has never seen one and is in a hurry.",
)
PROMPTS = [question.format(thing) for thing in THINGS for question in QUESTIONS]
OURS = "jupyter_llmops map"
ALONE, LLAMA, PADDED = (
    "jupyter_llmops one by one",
    "llama-cpp-python one by one",
    "transformers, batches of 16",
)
# Prompts that each is asked in a round.
ASKED = {OURS: PROMPTS, ALONE: PROMPTS[::13], LLAMA: PROMPTS[::6], PADDED: PROMPTS}
Answer = Callable[[list[str], int], int]
# Tokens that came, seconds, and seconds of all processors together.
Timed = tuple[int, float, float]


def main() -> None:
    """Load all, let them take turns, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32, help="most tokens of an answer")
    parser.add_argument(
        "--peer", metavar="FILE", help="answer with llama-cpp-python what standard input asks"
    )
    options = parser.parse_args()
    if options.peer:
        answer_orders(llama(options.peer))
        return
    answerers = load()
    for name, answer in answerers.items():
        answer(ASKED[name][:2], 4)
    taken: dict[str, list[float]] = {name: [] for name in answerers}
    computed: dict[str, list[float]] = {name: [] for name in answerers}
    names = list(answerers)
    for _ in range(options.rounds):
        names = [*names[1:], names[0]]
        for name in names:
            tokens, seconds, computing = answerers[name](ASKED[name], options.tokens)
            taken[name].append(seconds * 1000 / tokens)
            computed[name].append(computing * 1000 / tokens)
    rows = summary(taken)
    # Of all processors together: what it is where other programs take their share of the time.
    note = "; ".join(
        f"{row['name']}: {1000 / row['median']:.0f} tokens/s, "
        f"{statistics.median(computed[row['name']]):.1f} ms of processor time per token"
        for row in rows
    )
    print(table(rows))
    print(note)
    claim = "A map of 64 prompts takes a fifth of the time of one by one, and half of llama.cpp's"
    print(json.dumps({"claim": claim, "unit": "ms per token", "rows": rows, "note": note}))


def load() -> dict[str, Callable[[list[str], int], Timed]]:
    """Return what answers prompts and says how many tokens came and how long it took, by name."""
    import_torch()
    engine = TransformersEngine(MODELS, offline=True)
    model = engine.with_digest(sources.resolve(sources.DEFAULT_LLM))
    engine.load(model, "nf4", lambda doing, _: print(doing))

    def together(prompts: list[str], limit: int) -> int:
        tokens: list[int] = []
        requests = [request_of(engine, model, prompt, limit) for prompt in prompts]
        engine.generate_many(requests, model, lambda _, answer: tokens.append(len(answer.token_ids)))  # type: ignore[union-attr]
        assert len(tokens) == len(prompts)
        return sum(tokens)

    def one_by_one(prompts: list[str], limit: int) -> int:
        requests = [request_of(engine, model, prompt, limit) for prompt in prompts]
        return sum(len(engine.generate(request, model).token_ids) for request in requests)

    return {
        OURS: timed(together),
        ALONE: timed(one_by_one),
        LLAMA: in_own_process(sources.locate(model).path),
        PADDED: timed(padded(engine, model)),
    }


def timed(answer: Answer) -> Callable[[list[str], int], Timed]:
    """Return the same with how long it took."""

    def run(prompts: list[str], limit: int) -> Timed:
        begun, computing = time.perf_counter(), time.process_time()
        tokens = answer(prompts, limit)
        return tokens, time.perf_counter() - begun, time.process_time() - computing

    return run


def in_own_process(path: Path) -> Callable[[list[str], int], Timed]:
    """Start this script as the peer; it ends with this process."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--peer", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(prompts: list[str], limit: int) -> Timed:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([prompts, limit]) + "\n")
        process.stdin.flush()
        tokens, seconds, computing = json.loads(process.stdout.readline())
        return tokens, seconds, computing

    return run


def answer_orders(answer: Answer) -> None:
    """Answer and time each order that comes on standard input."""
    run = timed(answer)
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)


def request_of(engine: TransformersEngine, model: Model, prompt: str, limit: int) -> InferenceRequest:
    """Return the request of one prompt."""
    identity = engine.identify(model, "nf4")
    return InferenceRequest(
        model=model.name,
        model_digest=model.digest,
        messages=(Message("user", prompt),),
        parameters=GenerationParameters(max_new_tokens=limit),
        engine=identity.engine,
        engine_version=identity.engine_version,
        quantization=identity.quantization,
        device=identity.device,
    )


def llama(path: str) -> Answer:
    """Return what answers with llama-cpp-python, as its documentation does."""
    from llama_cpp import Llama

    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        net = Llama(path, n_ctx=2048, n_threads=os.cpu_count(), verbose=False)

    def answer(prompts: list[str], limit: int) -> int:
        tokens = 0
        for prompt in prompts:
            chat = [{"role": "user", "content": prompt}]
            made: Any = net.create_chat_completion(chat, max_tokens=limit, temperature=0.0)
            tokens += made["usage"]["completion_tokens"]
        return tokens

    return answer


def padded(engine: TransformersEngine, model: Model) -> Answer:
    """Return what answers with transformers' own batches."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from jupyter_llmops.inference.preparation import prepare

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    place = prepare(model, sources.locate(model), engine.folder, "nf4", "cpu")
    net = AutoModelForCausalLM.from_pretrained(place.weights, dtype=torch.float32, device_map="cpu")
    tokenizer = AutoTokenizer.from_pretrained(place.tokenizer, padding_side="left")

    def answer(prompts: list[str], limit: int) -> int:
        tokens = 0
        for start in range(0, len(prompts), 16):
            chats = [[{"role": "user", "content": prompt}] for prompt in prompts[start : start + 16]]
            batch = tokenizer.apply_chat_template(
                chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
            )
            with torch.inference_mode():
                made = net.generate(**batch, max_new_tokens=limit, do_sample=False)
            made = made[:, batch["input_ids"].shape[1] :]
            ends = torch.cumsum(made == tokenizer.eos_token_id, dim=1)
            tokens += int((ends == 0).sum()) + int((ends.amax(dim=1) > 0).sum())
        return tokens

    return answer


def summary(taken: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return a row each: medians over the rounds, and the ratio to this project's time."""
    ours = statistics.median(taken[OURS])
    rows: list[dict[str, Any]] = []
    for name, values in taken.items():
        median = statistics.median(values)
        row: dict[str, Any] = {"name": name, "median": round(median, 2), "slowest": round(max(values), 2)}
        if name != OURS:
            row["ratio"] = round(median / ours, 2)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| 64 prompts | ms per token | slowest round | time / ours |", "|---|---:|---:|---:|"]
    lines += [f"| {r['name']} | {r['median']} | {r['slowest']} | {r.get('ratio', '')} |" for r in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
