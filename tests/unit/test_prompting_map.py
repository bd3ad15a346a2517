"""A map on a real model: the same answers as one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_llmops.workspace import Workspace, open_workspace

TEXTS = ["ab", "ba ab", "a much longer row than the others", "ab", "b"]


@pytest.fixture
def workspace(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with the tiny model, answering for real."""
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    workspace = open_workspace(tmp_path / "catalog")
    workspace.settings.agent = "off"
    workspace.add_model("tiny", str(tiny_folder))
    return workspace


def test_a_map_answers_as_one_prompt_after_the_other(workspace: Workspace) -> None:
    result = workspace.map("{{ row }}", TEXTS, model="tiny", quantization="fp32", max_new_tokens=6)
    alone = [
        workspace.prompt(text, model="tiny", quantization="fp32", max_new_tokens=6, use_cache=False)
        for text in TEXTS
    ]
    assert result.values == [completion.text for completion in alone]
    assert (result.computed, result.repeated, result.failed) == (4, 1, 0)
    assert [row.completion.tokens_out for row in result] == [completion.tokens_out for completion in alone]
    hit = workspace.prompt(TEXTS[2], model="tiny", quantization="fp32", max_new_tokens=6)
    assert hit.source == "cache", "a single prompt reuses what a map has computed"


def test_a_row_that_is_too_long_fails_alone(workspace: Workspace) -> None:
    texts = ["ab", "a long row " * 40, "b"]
    result = workspace.map("{{ row }}", texts, model="tiny", quantization="fp32", max_new_tokens=4)
    assert [row.failure.error_type if row.failure else "" for row in result] == ["", "ContextError", ""]
