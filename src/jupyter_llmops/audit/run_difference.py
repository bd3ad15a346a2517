"""What differs between two runs, and what of it can make the second answer differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jupyter_llmops.records.run import Run
from jupyter_llmops.records.run_search import Difference, RunDiff

# What every two runs differ in.
_OWN = frozenset(
    {"schema", "hash", "seq", "prev", "session", "id", "parent", "started_at", "microseconds", "digests",
     "computed_microseconds", "group", "environment", "pid", "first_token_microseconds"}
)  # fmt: skip
# Digests there are salted, each leaf by its own salt: of two leaves they differ for equal values.
_SALTED = ("values", "outputs", "read", "reads", "written", "writes", "names", "data")
_PARTS = (
    ("values", ("read", "reads", "written", "writes", "names", "values", "outputs", "random")),
    ("model", (
        "model", "adapter", "tokenizer", "engine", "engine_options", "engine_version", "quantization", "parameters",
        "device", "exact", "determinism", "served_by", "served_version", "batch_size", "prompt", "includes",
        "context", "truncated", "alias", "backend",
    )),
    ("answer", ("source", "finish_reason", "tokens_in", "tokens_out", "cost", "saved", "reused", "currency")),
    ("packages", ("packages",)),
    ("training", ("data", "seed", "hyperparameters", "weights", "loss", "rank", "world_size", "notes")),
)  # fmt: skip
# Texts that went in, and those that came out.
_ANSWERS = frozenset({"response", "answer", "text"})
_TEXT_PARTS = {"source": "source", "training": "training", "losses": "training"}
# Kinds whose other texts are parts of a prompt.
_ASKING = frozenset({"prompt", "map", "cascade", "reproduction"})
_NOT_SHOWN = frozenset({"token_ids", "salt", "kept_items"})
_REASONS = (
    ("source", "", "The source differs."),
    ("prompt", "", "The prompt differs."),
    ("model", "model_digest", "The model's files differ."),
    ("model", "model", "Another model was asked."),
    ("model", "adapter", "The adapter differs."),
    ("model", "tokenizer", "The tokenizer differs."),
    ("model", "parameters", "The parameters of the generation differ."),
    ("model", "quantization", "The quantization differs, and with it the arithmetic."),
    ("model", "engine", "Another engine or version of it computed."),
    ("model", "device", "Another device computed, whose sums round differently."),
    ("model", "batch_size", "The batches had other sizes, which can change how sums round."),
    ("model", "context", "Other passages stood in the prompt."),
    ("training", "data", "Data of other names were trained on."),
    ("training", "seed", "The seed differs."),
    ("training", "hyperparameters", "The hyperparameters differ."),
    ("training", "world_size", "Another number of processes trained."),
    ("training", "losses", "The recorded losses differ."),
    ("training", "weights", "The resulting weights differ."),
    ("values", "names", "Other names are read or written."),
    ("values", "random", "The random generators were in other states before."),
    ("packages", "", "Other packages, or other versions of them, were installed."),
    ("environment", "", "The environment differs."),
    ("answer", "source", "One answer is from the cache, the other from the model."),
)

_SAME_TRAINING = (
    ("seed", "The seed is the same."),
    ("random", "Both trainings began with the same states of the random generators."),
)


def compare(
    left: Run,
    right: Run,
    *,
    contents: tuple[Mapping[str, str] | None, Mapping[str, str] | None],
    environments: tuple[Run | None, Run | None] = (None, None),
) -> RunDiff:
    """Return what differs between two runs.

    Parameters
    ----------
    left, right : Run
        The runs.
    contents : pair of mappings
        Their redacted texts by name, None where there are none.
    environments : pair of Run
        The leaves that say what each ran on.
    """
    differences = list(_of_runs(left, right))
    differences += _of_mappings(left.leaf or {}, right.leaf or {})
    one, other = environments
    if one is not None and other is not None and one.id != other.id:
        differences += _of_mappings(one.leaf or {}, other.leaf or {}, part="environment")
    asked = {left.kind, right.kind} & _ASKING
    texts = list(_of_texts(*contents, "prompt" if asked else "run")) if None not in contents else []
    return RunDiff(
        left,
        right,
        tuple(differences),
        tuple(texts),
        tuple(_reasons(left, right, differences, texts)),
        tuple(_equal(left, right, contents)),
        tuple(_not_compared(left, right, contents, environments)),
    )


def _of_runs(left: Run, right: Run) -> Iterator[Difference]:
    for name in ("kind", "status", "error_type", "user", "host", "notebook"):
        one, other = str(getattr(left, name)), str(getattr(right, name))
        if one != other:
            yield Difference("run", name.replace("_", " "), one, other)


def _of_mappings(left: Mapping[str, Any], right: Mapping[str, Any], part: str = "") -> Iterator[Difference]:
    known = {
        "kind",
        "status",
        "error_type",
        "user",
        "host",
        "notebook",
        "redacted",
        "cell",
        "execution_count",
    }
    names = [name for name in dict.fromkeys((*left, *right)) if name not in _OWN | known]
    for name in names:
        one, other = _flat(name, left.get(name)), _flat(name, right.get(name))
        for key in dict.fromkeys((*one, *other)):
            a, b = one.get(key, ""), other.get(key, "")
            if a != b:
                yield Difference(part if part and part_of(name) != "packages" else part_of(name), key, a, b)


def part_of(name: str) -> str:
    """Return which part of a comparison a field of a leaf belongs to."""
    for part, beginnings in _PARTS:
        if any(name == one or name.startswith(f"{one}_") for one in beginnings):
            return part
    return "run"


def _flat(name: str, value: Any, depth: int = 0) -> dict[str, str]:
    """Return a field as dotted names and texts; of what is salted only its names."""
    if value is None:
        return {}
    salted = name.split(".", 1)[0] in _SALTED
    if isinstance(value, Mapping):
        if salted and depth == 0 and all(isinstance(one, str) for one in value.values()):
            return {name: ", ".join(sorted(value))}
        return {
            key: text
            for inner, one in value.items()
            for key, text in _flat(f"{name}.{inner}", one, depth + 1).items()
            if depth < 6
        }
    if salted and isinstance(value, str) and value.startswith("sha256:"):
        return {}
    if isinstance(value, str):
        return {name: value}
    return {name: json.dumps(value, ensure_ascii=False, sort_keys=True)}


def _of_texts(
    left: Mapping[str, str] | None, right: Mapping[str, str] | None, others: str
) -> Iterator[Difference]:
    one, other = left or {}, right or {}
    for name in dict.fromkeys((*one, *other)):
        if name in _NOT_SHOWN or one.get(name, "") == other.get(name, ""):
            continue
        part = "answer" if name in _ANSWERS else _TEXT_PARTS.get(name, others)
        yield Difference(part, name, one.get(name, ""), other.get(name, ""))


def _reasons(
    left: Run, right: Run, differences: Sequence[Difference], texts: Sequence[Difference]
) -> Iterator[str]:
    if left.id == right.id:
        yield "Both are the same run."
        return
    found = [*texts, *differences]
    for part, name, sentence in _REASONS:
        if any(one.part == part and _is_named(one.name, name) for one in found):
            yield sentence
    answered = any(one.part == "answer" and one.name in _ANSWERS for one in texts)
    inputs = any(one.part not in {"answer", "run"} for one in found)
    if answered and not inputs:
        grade = (right.leaf or {}).get("determinism") or "unknown"
        yield f"Nothing that was recorded of the input differs; the repeatability of this engine is: {grade}."


def _equal(
    left: Run, right: Run, contents: tuple[Mapping[str, str] | None, Mapping[str, str] | None]
) -> Iterator[str]:
    """Yield what came out the same of two trainings or two prompts, where both say it."""
    if left.id == right.id:
        return
    one, other = left.leaf or {}, right.leaf or {}
    texts, others = (content or {} for content in contents)
    if (left.kind, right.kind) == ("training", "training"):
        for name, sentence in _SAME_TRAINING:
            if one.get(name) not in (None, {}) and one.get(name) == other.get(name):
                yield sentence
        if texts.get("losses") and texts["losses"] == others.get("losses"):
            yield "The recorded losses are the same."
        weights = _flat("weights", one.get("weights")) if one.get("weights") == other.get("weights") else {}
        if weights and all(digest.startswith("sha256:") for digest in weights.values()):
            yield "The resulting weights are the same."
    elif texts.get("response") and texts["response"] == others.get("response"):
        yield "The answers are the same."


def _is_named(field: str, name: str) -> bool:
    """Return whether a field is what a reason is about; a model's digest and source are not its name."""
    return field == name if name == "model" else field.startswith(name)


def _not_compared(
    left: Run,
    right: Run,
    contents: tuple[Mapping[str, str] | None, Mapping[str, str] | None],
    environments: tuple[Run | None, Run | None],
) -> Iterator[str]:
    for run, content, environment in zip((left, right), contents, environments, strict=True):
        if run.read_only:
            yield f"A newer version of this package wrote {run.id}: what it means by its fields is not known here."
        if content is None:
            yield f"The texts of {run.id} are not here: they were forgotten, never shared, or lie on another host."
        if environment is None:
            yield f"What {run.id} ran on is not recorded."
    if any(name in (run.leaf or {}) for run in (left, right) for name in _SALTED):
        yield "Values' digests are salted run by run, so equal values can't be told; their names were compared."
