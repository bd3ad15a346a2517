"""Finding one of 2,000 prompts: by words and meaning here, by name in an MLflow registry on SQLite.

Both hold the same prompts. This project's find reads the catalog afresh, as a colleague may have
published meanwhile, compares words of names, templates and descriptions, and the meaning of their
texts, which were embedded once. MLflow's client lists all prompts or a page of 50; its search knows
names and tags, not what a template says (a filter on the template is refused), so what it finds for
a paraphrase is nothing. The rounds are interleaved.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TASKS = {
    "summarise": "Summarise {{ text }} in three sentences for %s.",
    "translate-fr": "Traduis {{ text }} en français pour %s.",
    "sentiment": "Say whether {{ text }} pleases or angers %s.",
    "sql": "Write an SQL query that answers {{ question }} about %s.",
    "email": "Write a polite e-mail that declines {{ offer }}, to %s.",
    "review": "Review this Python function for %s and name what is wrong: {{ code }}",
    "extract": "List every person and company that {{ text }} names, for %s.",
    "quiz": "Ask five multiple-choice questions about {{ topic }} for %s.",
    "recipe": "Give a recipe with {{ ingredients }} that suits %s.",
    "poem": "Write a poem on {{ topic }} for %s.",
    "headline": "Write ten headlines about {{ product }} for %s.",
    "plan": "Plan a week of {{ activity }} for %s.",
    "explain": "Explain {{ concept }} step by step to %s.",
    "classify": "Choose one of {{ labels }} for the ticket {{ ticket }} of %s.",
    "rewrite": "Rewrite {{ text }} in simpler words for %s.",
    "regex": "Write a regular expression that matches {{ pattern }} in the logs of %s.",
    "minutes": "Turn the transcript {{ text }} into minutes with action items for %s.",
    "refund": "Answer the customer who wants the money back for {{ product }}, as %s.",
    "contract": "Point out risky clauses of {{ contract }} to %s.",
    "trip": "Propose sights of {{ city }} to %s.",
}
# Paraphrases, and the task that they mean; none has a word of its name.
QUERIES = {
    "shorten a long article": "summarise",
    "into French": "translate-fr",
    "is the opinion good or bad": "sentiment",
    "database question": "sql",
    "say no to a proposal in a letter": "email",
    "find bugs in code": "review",
    "named entities": "extract",
    "cooking dinner": "recipe",
    "tourism": "trip",
    "legal document dangers": "contract",
    "verses": "poem",
    "notes of a meeting": "minutes",
}
WHO = [
    f"{age} {who}"
    for age, who in itertools.product(
        ["young", "busy", "retired", "curious", "worried"],
        ["nurses", "pilots", "teachers", "farmers", "judges", "bakers", "sailors", "gardeners", "plumbers",
         "dentists", "firefighters", "accountants", "astronomers", "violinists", "carpenters", "zookeepers",
         "librarians", "beekeepers", "chemists", "goalkeepers"],
    )
]  # fmt: skip


def prompts() -> dict[str, str]:
    """Return 2,000 templates by name."""
    return {
        f"{task}-for-{who.replace(' ', '-')}": template % who
        for (task, template), who in itertools.product(TASKS.items(), WHO)
    }


def main() -> None:
    """Fill both registries, time the look-ups, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "LLMOPS_HOME": f"{folder}/home",
            "LLMOPS_CATALOG": f"{folder}/catalog",
            "HF_HUB_OFFLINE": "1",
        }
        texts = prompts()
        find, embedding = our_find(Path(folder), texts)
        looks: dict[str, Callable[[str], list[str]]] = {"jupyter_llmops: find by words and meaning": find}
        looks |= mlflow_looks(Path(folder), texts)
        taken: dict[str, list[float]] = {name: [] for name in looks}
        right: dict[str, int] = dict.fromkeys(looks, 0)
        for _ in range(options.rounds):
            for query, task in QUERIES.items():
                for name, look in looks.items():
                    begun = time.perf_counter()
                    found = look(query)
                    taken[name].append((time.perf_counter() - begun) * 1000)
                    right[name] += bool(found) and found[0].startswith(f"{task}-for-")
    rows = [row(name, times, statistics.median(next(iter(taken.values())))) for name, times in taken.items()]
    asked = options.rounds * len(QUERIES)
    note = (
        f"Embedding the {len(texts):,} texts took {embedding:.1f} s, once for the whole team. "
        f"Of {len(QUERIES)} paraphrases the first find is right for "
        f"{right[next(iter(looks))] * len(QUERIES) // asked}; MLflow's search can't be asked one."
    )
    print(note)
    claim = f"A find by meaning among {len(texts):,} prompts beside listing their names with MLflow on SQLite"
    print(json.dumps({"claim": claim, "unit": "ms", "rows": rows, "note": note}, ensure_ascii=False))


def our_find(folder: Path, texts: dict[str, str]) -> tuple[Callable[[str], list[str]], float]:
    """Return a find in this project's catalog, and the seconds that the first one took to embed all."""
    import jupyter_llmops

    workspace = jupyter_llmops.open_workspace(folder / "catalog")
    begun = time.perf_counter()
    for number, (name, template) in enumerate(texts.items()):
        workspace.catalog.prompts.publish(name, template)
        if number % 200 == 199:
            workspace.catalog.optimize()  # what the agent does
    print(
        f"jupyter_llmops: published {len(texts):,} prompts in {time.perf_counter() - begun:.0f} s", flush=True
    )
    workspace.encoder()
    begun = time.perf_counter()
    workspace.find_prompts("anything")
    embedding = time.perf_counter() - begun

    def find(query: str) -> list[str]:
        return [prompt.name for prompt in workspace.find_prompts(query)]

    find("warm")
    return find, embedding


def mlflow_looks(folder: Path, texts: dict[str, str]) -> dict[str, Callable[[str], list[str]]]:
    """Return look-ups in an MLflow registry, with its real client on SQLite."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    address = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=address, registry_uri=address)
    begun = time.perf_counter()
    for name, template in texts.items():
        client.register_prompt(name=name, template=template)
    print(f"MLflow: registered {len(texts):,} prompts in {time.perf_counter() - begun:.0f} s", flush=True)

    def listed(_: str) -> list[str]:
        names: list[str] = []
        token: Any = None
        while token is not None or not names:
            page = client.search_prompts(max_results=1000, page_token=token)
            names += [prompt.name for prompt in page]
            token = page.token
        if len(names) != len(texts):
            raise AssertionError(f"MLflow listed {len(names)} prompts")
        return []

    def a_page(_: str) -> list[str]:
        if len(client.search_prompts(max_results=50)) != 50:
            raise AssertionError("not a page of 50")
        return []

    return {"MLflow: names of all": listed, "MLflow: a page of 50 names": a_page}


def row(name: str, times: list[float], ours: float) -> dict[str, Any]:
    """Return a row of the table."""
    median = statistics.median(times)
    found = {"name": name, "median": round(median, 1), "p95": round(statistics.quantiles(times, n=20)[18], 1)}
    return found if name.startswith("jupyter_llmops") else found | {"ratio": round(median / ours, 2)}


if __name__ == "__main__":
    main()
