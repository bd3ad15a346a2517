"""One stream of a GGUF file: this project through llama.cpp beside llama-cpp-python alone.

Both read the same file, chat and number of answer tokens, greedy and streamed, with as many threads, each
in a process of its own (llama-cpp-python with its own defaults), and take turns. The answers have to be the
same text. Beside them: sixteen answers side by side, as a map asks for them, per token.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("LLMOPS_TEST_MODELS") or REPOSITORY / "build" / "test-models")
QUESTION = "Write a long story about a cat and a dog who travel."
TOGETHER = 16
THREADS = os.cpu_count() or 1
OURS = "jupyter_llmops, llama.cpp"
PEER = "llama-cpp-python"
MANY = f"jupyter_llmops, {TOGETHER} side by side"


def main() -> None:
    """Let them take turns, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96, help="length of every answer")
    parser.add_argument("--role", choices=("ours", "peer"))
    options = parser.parse_args()
    if options.role:
        answer_orders(ours() if options.role == "ours" else peer())
        return
    processes = {role: start(role) for role in ("ours", "peer")}
    tasks = [(OURS, "ours", "one"), (PEER, "peer", "one"), (MANY, "ours", "many")]
    taken: dict[str, list[float]] = {name: [] for name, _, _ in tasks}
    texts: dict[str, str] = {}
    for turn in range(options.rounds + 1):
        tasks = [*tasks[1:], tasks[0]]
        for name, role, task in tasks:
            told = ask(processes[role], {"task": task, "tokens": options.tokens})
            if turn:  # the first warms up
                taken[name].append(told["seconds"] * 1000 / told["tokens"])
            texts[name] = told["text"]
    for process in processes.values():
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
    assert texts[OURS] == texts[PEER], "the answers differ"
    rows = [
        {"name": name, "median": round(statistics.median(values), 2), "slowest": round(max(values), 2)}
        for name, values in taken.items()
    ]
    for row in rows[1:]:
        row["ratio"] = round(float(row["median"]) / float(rows[0]["median"]), 3)
    for row in rows:
        print(f"{row['name']:40} {row['median']:8} ms per token   {row.get('ratio', '')}")
    speeds = ", ".join(f"{row['name']}: {1000 / float(row['median']):.0f} tokens/s" for row in rows)
    claim = f"One stream of {options.tokens} tokens is as fast as llama-cpp-python alone"
    print(json.dumps({"claim": claim, "unit": "ms per token", "rows": rows, "note": speeds}))


def start(role: str) -> subprocess.Popen[str]:
    """Start this script as one of the two."""
    return subprocess.Popen(
        [sys.executable, __file__, "--role", role],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
    )


def ask(process: subprocess.Popen[str], order: dict[str, Any]) -> dict[str, Any]:
    """Send an order and return what the process says."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


def answer_orders(answer: Any) -> None:
    """Time each order that comes on standard input."""
    for line in sys.stdin:
        order = json.loads(line)
        begun = time.perf_counter()
        tokens, text = answer(order["task"], order["tokens"])
        told = {"seconds": time.perf_counter() - begun, "tokens": tokens, "text": text}
        print(json.dumps(told), flush=True)


def ours() -> Any:
    """Return this project's way: checking, tokenizing, streaming and decoding included."""
    from jupyter_llmops.inference import sources
    from jupyter_llmops.inference.llama_engine import LlamaEngine
    from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

    engine = LlamaEngine(MODELS, offline=True)
    model = sources.digest_of(sources.resolve(sources.DEFAULT_LLM), MODELS, offline=True)
    identity = engine.identify(model, "gguf")
    engine.load(model, "gguf")

    def request(text: str, tokens: int) -> InferenceRequest:
        return InferenceRequest(
            model=model.name,
            model_digest=model.digest,
            messages=(Message("user", text),),
            parameters=GenerationParameters(max_new_tokens=tokens),
            engine=identity.engine,
            engine_version=identity.engine_version,
            quantization=identity.quantization,
            device=identity.device,
            engine_options=identity.options,
        )

    def answer(task: str, tokens: int) -> tuple[int, str]:
        if task == "one":
            generation = engine.generate(request(QUESTION, tokens), model, lambda _: None)
            return generation.tokens_out, generation.text
        done: dict[int, Any] = {}
        asked = [request(f"{QUESTION} It is story {n}.", tokens) for n in range(TOGETHER)]
        engine.generate_many(asked, model, done.__setitem__)
        return sum(generation.tokens_out for generation in done.values()), ""

    return answer


def peer() -> Any:
    """Return llama-cpp-python's own chat completion, streamed."""
    from llama_cpp import Llama

    from jupyter_llmops.inference import sources

    path = sources.locate(sources.resolve(sources.DEFAULT_LLM)).files[0]
    model = Llama(str(path), n_ctx=1024, n_threads=THREADS, n_threads_batch=THREADS, verbose=False)

    def answer(_: str, tokens: int) -> tuple[int, str]:
        model.reset()  # its memory of the last prompt would skip reading this one
        pieces = [
            chunk["choices"][0]["delta"].get("content", "")
            for chunk in model.create_chat_completion(
                [{"role": "user", "content": QUESTION}], max_tokens=tokens, temperature=0, stream=True
            )
        ]
        return tokens, "".join(pieces)

    return answer


if __name__ == "__main__":
    main()
