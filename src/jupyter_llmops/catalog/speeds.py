"""How fast models answered: medians over the prompts of the trail."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.schemas import RUNS, json_value, rows_of
from jupyter_llmops.records.model import Model, Speed

RECENT_RUNS = 500
# The time of a shorter answer is mostly that of reading the prompt.
FEWEST_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Speeds:
    """What was measured.

    Parameters
    ----------
    found : mapping
        From a model's name and digest to its speeds, the fastest first.
    """

    found: Mapping[tuple[str, str], tuple[Speed, ...]]

    def of(self, model: Model) -> tuple[Speed, ...]:
        """Return how fast a model answered: these very files, where its digest is known."""
        if model.digest:
            return self.found.get((model.name, model.digest), ())
        return next((speeds for (name, _), speeds in self.found.items() if name == model.name), ())


def read_speeds(connection: Connection, *, model: str = "", host: str = "") -> Speeds:
    """Return the median tokens a second by model, machine and precision, in one read of recent runs.

    Only answers that a model computed count, not those from the cache, and only those of at least
    `FEWEST_TOKENS` tokens.

    Parameters
    ----------
    model : str
        Only of the model of this name.
    host : str
        Only on this machine.
    """
    conditions = ["kind = 'prompt'", "source = 'model'", "status = 'ok'", f"tokens_out >= {FEWEST_TOKENS}"]
    conditions += [f"model = {sql_text(model)}"] if model else []
    conditions += [f"host = {sql_text(host)}"] if host else []
    # Sorted without the leaves first: they are most of a row's bytes.
    newest = connection.read(
        RUNS, ["id", "started_at", "seq"], " AND ".join(conditions),
        newest_by=("started_at", "seq"), limit=RECENT_RUNS,
    )  # fmt: skip
    if newest is None or not newest.num_rows:
        return Speeds({})
    chosen = ", ".join(sql_text(run_id) for run_id in newest["id"].to_pylist())
    rows = connection.read(RUNS, ["model", "host", "tokens_out", "leaf"], f"id IN ({chosen})")
    rates: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(rows):
        leaf = _leaf(row["leaf"])
        microseconds = leaf.get("computed_microseconds")
        if not isinstance(microseconds, int) or microseconds <= 0:
            continue
        key = (str(row["model"]), str(leaf.get("model_digest", "")))
        machine = (str(row["host"]), str(leaf.get("quantization", "")))
        rates[key][machine].append(row["tokens_out"] / microseconds * 1e6)
    return Speeds({key: _medians(machines) for key, machines in rates.items()})


def _medians(machines: Mapping[tuple[str, str], list[float]]) -> tuple[Speed, ...]:
    found = [
        Speed(host, quantization, statistics.median(rates), len(rates))
        for (host, quantization), rates in machines.items()
    ]
    return tuple(sorted(found, key=lambda speed: -speed.tokens_per_second))


def _leaf(text: Any) -> dict[str, Any]:
    leaf = json_value(text)
    return leaf if isinstance(leaf, dict) else {}
