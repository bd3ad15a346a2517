"""From what a user types to a run."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jupyter_llmops.audit.references import resolve_reference
from jupyter_llmops.errors import AmbiguousNameError, UnknownNameError, UsageError
from jupyter_llmops.records.completion import Completion
from jupyter_llmops.records.run import Run, RunKind


def run(id_: str, kind: RunKind, *, count: int | None = None, parent: str = "") -> Run:
    return Run(
        id=id_,
        session="s",
        seq=0,
        kind=kind,
        status="ok",
        started_at=datetime.now(UTC),
        seconds=0,
        user="u",
        host="h",
        execution_count=count,
        parent=parent,
    )


RUNS = [
    run("0000000000000000", "session"),
    run("bbb1000000000000", "prompt", parent="aaa1000000000000"),
    run("aaa1000000000000", "cell", count=1),
    run("bbb2000000000000", "prompt", parent="aaa2000000000000"),
    run("bbb3000000000000", "prompt", parent="aaa2000000000000"),
    run("aaa2000000000000", "cell", count=2),
    run("aaa3000000000000", "cell", count=3),
]


@pytest.mark.parametrize(
    ("reference", "kind", "expected"),
    [
        ("", "prompt", "bbb3000000000000"),
        ("-1", None, "aaa3000000000000"),
        (-2, "prompt", "bbb2000000000000"),
        ("In[2]", "prompt", "bbb3000000000000"),
        ("In[1]", None, "aaa1000000000000"),
        ("In1", "prompt", "bbb1000000000000"),
        ("bbb2", None, "bbb2000000000000"),
    ],
)
def test_forms(reference: object, kind: str | None, expected: str) -> None:
    found = resolve_reference(reference, RUNS, kind=kind)
    assert found is not None
    assert found.id == expected


def test_a_completion_means_its_run() -> None:
    completion = Completion("t", 1, 1, 0.1, "model", "m", "bbb1000000000000")
    found = resolve_reference(completion, RUNS)
    assert found is not None
    assert found.id == "bbb1000000000000"


def test_an_id_of_another_session_is_left_to_the_catalog() -> None:
    assert resolve_reference("ffff", RUNS) is None


def test_a_prefix_of_several_is_ambiguous_and_names_them() -> None:
    with pytest.raises(AmbiguousNameError, match="3 runs") as caught:
        resolve_reference("bbb", RUNS)
    assert "bbb2000000000000" in caught.value.hint


@pytest.mark.parametrize("reference", ["-9", "In[9]", "-0"])
def test_what_is_not_there_is_unknown(reference: str) -> None:
    with pytest.raises(UnknownNameError):
        resolve_reference(reference, RUNS)


def test_a_cell_without_a_prompt_says_so() -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve_reference("In[3]", RUNS, kind="prompt")
    assert "ran no prompt" in caught.value.hint


def test_another_form_says_what_is_valid() -> None:
    with pytest.raises(UsageError, match="not the name of a run") as caught:
        resolve_reference("../../etc", RUNS)
    assert "In[7]" in caught.value.hint
