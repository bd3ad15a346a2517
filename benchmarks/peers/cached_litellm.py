"""Runs in build/peers: for each line of standard input, a count and prompts, times LiteLLM's cached completion."""

from __future__ import annotations

import json
import os
import sys
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its own copy instead of one from the network
os.environ["LITELLM_LOG"] = "ERROR"

import litellm
from litellm.caching.caching import Cache

ANSWER = " ".join(f"token{number}" for number in range(80))


def ask(text: str) -> litellm.ModelResponse:
    """Ask once; the cache in this process's memory answers from the second time on."""
    messages = [{"role": "user", "content": text}]
    return litellm.completion(
        model="gpt-4o-mini",
        messages=messages,
        mock_response=ANSWER,
        caching=True,
        max_tokens=128,
        temperature=0,
    )


def main() -> None:
    """Answer each order with the microseconds of its calls."""
    litellm.cache = Cache()
    litellm.suppress_debug_info = True
    for line in sys.stdin:
        texts = json.loads(line)
        taken, hits = [], 0
        for text in texts:
            begun = time.perf_counter_ns()
            answer = ask(text)
            taken.append((time.perf_counter_ns() - begun) / 1000)
            hits += bool(answer._hidden_params.get("cache_hit"))
        print(json.dumps({"taken": taken, "hits": hits}), flush=True)


if __name__ == "__main__":
    main()
