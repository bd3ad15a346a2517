"""A process that asks a shared cache, for the campaigns that run several and kill some.

``python cache_worker.py FOLDER SEED COUNT [clear]`` prints "asking" when it begins, and at the end
one JSON object with what it saw.
"""

from __future__ import annotations

import json
import random
import sys
import warnings
from dataclasses import replace
from pathlib import Path

from cache_answers import GENERATION, Engine, asking
from jupyter_llmops.cache.exact import ExactCache
from jupyter_llmops.cache.recall import Recall

QUESTIONS = 3


def answer_to(number: int) -> str:
    """Return the only right answer to a question; long, so that writing it takes a while."""
    return f"answer {number} " * 200_000


def main() -> None:
    """Ask at random, sometimes clear, and count."""
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    clears = "clear" in sys.argv
    chance, wrong = random.Random(seed), 0
    cache = ExactCache(folder, Recall(most=chance.choice([0, 1024])))
    cache.fetch(asking("first"), Engine())
    print("asking", flush=True)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for step in range(count):
            if clears and step % 4 == 3:
                cache.clear()
            number = chance.randrange(QUESTIONS)
            engine = Engine(replace(GENERATION, text=answer_to(number)))
            wrong += cache.fetch(asking(f"question {number}"), engine).generation.text != answer_to(number)
    stats = cache.stats()
    print(
        json.dumps(
            {
                "wrong": wrong,
                "hits": stats.hits,
                "misses": stats.misses,
                "warnings": [str(warning.message) for warning in seen],
            }
        )
    )


if __name__ == "__main__":
    main()
