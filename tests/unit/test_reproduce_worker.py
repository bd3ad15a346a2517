"""The other process, as it is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_llmops.errors import ReproduceError
from jupyter_llmops.reproduce.inference import _ask_worker


def test_a_file_of_the_notebooks_folder_is_not_taken_for_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenize.py").write_text("raise SystemExit('the notebook folder was imported')")
    (tmp_path / "jupyter_llmops.py").write_text("raise SystemExit('the notebook folder was imported')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReproduceError) as raised:
        _ask_worker({"request": {"schema": "none"}, "models_folder": str(tmp_path)})
    assert "notebook folder" not in str(raised.value)
    assert "KeyError" in str(raised.value)
