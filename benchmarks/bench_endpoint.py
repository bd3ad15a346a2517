"""A map over an endpoint with 50 ms of latency, against the ideal for its concurrency and the openai package's own client.

The server runs in a process of its own and answers after 50 ms, however many ask. Ideal is
rows / concurrency × 50 ms; "bare sockets" is what of it a machine allows at that moment. Each program sends the same rows; the median of four runs counts.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

LATENCY = 0.05
ROWS = 320
CONCURRENCY = (8, 16)
RUNS = 4
WARM_ROWS = 32  # connections, imports


def serve(pipe: Any) -> None:
    """Serve until the parent says so."""
    from openai_server import OpenAIServer

    server = OpenAIServer()
    server.delay = LATENCY
    pipe.send(server.start().address)
    pipe.recv()


def ours(address: str, concurrency: int) -> Callable[[int], float]:
    from jupyter_llmops.inference.endpoints.engine import EndpointEngine
    from jupyter_llmops.inference.endpoints.policy import EndpointOptions
    from jupyter_llmops.records.model import Model
    from openai_server import endpoint_request

    engine = EndpointEngine(lambda: EndpointOptions({"gpt": {"concurrency": concurrency}}))
    model = Model(name="gpt", kind="llm", source=f"endpoint:{address}#big", format="endpoint")
    requests = [
        endpoint_request(engine, model, f"Row {index}: is this review positive?") for index in range(ROWS)
    ]

    def once(rows: int) -> float:
        found: dict[int, Any] = {}
        began = time.perf_counter()
        engine.generate_many(requests[:rows], model, found.__setitem__)
        seconds = time.perf_counter() - began
        assert len(found) == rows
        assert all(one.text.startswith("echo: Row") for one in found.values())
        return seconds

    return once


def peer(address: str, concurrency: int) -> Callable[[int], float]:
    from openai import AsyncOpenAI

    async def ask(rows: int) -> float:
        gate = asyncio.Semaphore(concurrency)
        async with AsyncOpenAI(base_url=address, api_key="none") as client:

            async def one(index: int) -> str:
                async with gate:
                    answer = await client.chat.completions.create(
                        model="big",
                        messages=[{"role": "user", "content": f"Row {index}: is this review positive?"}],
                        max_tokens=256,
                        temperature=0,
                    )
                return answer.choices[0].message.content or ""

            began = time.perf_counter()
            texts = await asyncio.gather(*map(one, range(rows)))
            assert all(text.startswith("echo: Row") for text in texts)
            return time.perf_counter() - began

    return lambda rows: asyncio.run(ask(rows))


def bare(address: str, concurrency: int) -> Callable[[int], float]:
    """Return what this machine allows: HTTP written by hand on open sockets, nothing parsed, nothing retried."""
    parts = urlsplit(address)

    async def ask(count: int) -> float:
        rows = iter(range(count))
        sockets = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(concurrency)]

        async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for index in rows:
                messages = [{"role": "user", "content": f"Row {index}: is this review positive?"}]
                body = json.dumps({"model": "big", "messages": messages, "max_tokens": 256}).encode()
                head = f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                answer = b""
                while b"0\r\n\r\n" not in answer:
                    answer += await reader.read(65536)
                assert b"echo: Row" in answer

        began = time.perf_counter()
        await asyncio.gather(*(work(*pair) for pair in sockets))
        seconds = time.perf_counter() - began
        for _, writer in sockets:
            writer.close()
        return seconds

    return lambda rows: asyncio.run(ask(rows))


def main() -> None:
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    address = here.recv()
    rows = []
    for concurrency in CONCURRENCY:
        ideal = ROWS / concurrency * LATENCY
        programs = {
            "jupyter_llmops": ours(address, concurrency),
            "openai": peer(address, concurrency),
            "bare sockets": bare(address, concurrency),
        }
        taken: dict[str, list[float]] = {name: [] for name in programs}
        for once in programs.values():
            once(WARM_ROWS)
        for _ in range(RUNS):
            for name, once in programs.items():
                taken[name].append(once(ROWS))
        medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
        for name, median in medians.items():
            row = {
                "name": f"{name}, {concurrency} at once",
                "median": round(median, 3),
                "of ideal": round(ideal / median, 3),
            }
            if name != "jupyter_llmops":
                row["ratio"] = round(median / medians["jupyter_llmops"], 2)
            rows.append(row)
            print(row, flush=True)
    here.send(None)
    claim = f"A map of {ROWS} rows over an endpoint with 50 ms latency: at least 0.9 of the ideal for its concurrency"
    print(json.dumps({"claim": claim, "unit": "s", "rows": rows}))


if __name__ == "__main__":
    main()
