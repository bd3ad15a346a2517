"""`%models grade`, and a prompt whose -m is an adapter; with the real engine on a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jupyter_llmops.errors import UsageError
from jupyter_llmops.inference.engines import Engines
from magic_shell import Notebook
from model_fixtures import tiny_folder, tiny_gguf  # noqa: F401 - fixtures


@pytest.fixture
def roomy(tiny_folder: Path, notebook: Notebook, tmp_path: Path) -> Path:  # noqa: F811
    """Return the tiny model with room for long questions; the notebook answers with the real engine."""
    folder = tmp_path / "roomy"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    workspace = notebook.workspace
    workspace.__dict__["engine"] = Engines(workspace.models_folder, offline=True)
    workspace.__dict__.pop("pipeline", None)
    return folder


def test_a_grade_is_shown_and_goes_into_every_later_record(notebook: Notebook, roomy: Path) -> None:
    before = notebook.run(f"%%prompt -m {roomy} --quant fp32 -n 4 --exact\nHi")
    assert before.determinism == ""
    measured = notebook.run(f"%models grade {roomy} --quant fp32 --exact")
    assert measured.grade in ("same tokens", "bitwise")
    text = notebook.shown(measured)
    assert "fp32, exact: " in text
    assert "16 of 16" in text
    assert "restart" in text
    page = notebook.shown(measured, "text/html")
    assert "<table" in page
    assert "no KV cache" in page
    after = notebook.run(f"%%prompt -m {roomy} --quant fp32 -n 4 --exact\nHo")
    assert after.determinism == measured.grade
    assert notebook.run(f"%%prompt -m {roomy} --quant fp32 -n 4\nHo").determinism == ""


def test_an_endpoint_has_no_grade(notebook: Notebook, roomy: Path) -> None:
    notebook.run("%models add far https://127.0.0.1:9/v1#m")
    error = notebook.fail("%models grade far")
    assert isinstance(error, UsageError)
    assert "endpoint" in str(error)


def test_an_adapter_answers_on_its_base_with_both_digests_in_the_record(
    notebook: Notebook, roomy: Path, tmp_path: Path
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(roomy)
    torch.manual_seed(1)
    settings = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(net, settings).save_pretrained(tmp_path / "lora")
    plain = notebook.run(f"%%prompt -m {roomy} --quant fp32 -n 60\nabc def ghi")
    tuned = notebook.run(f"%%prompt -m {tmp_path / 'lora'} --quant fp32 -n 60\nabc def ghi")
    assert tuned.text != plain.text
    notebook.run(f"%models add tuned {tmp_path / 'lora'} --base {roomy}")
    again = notebook.run("%%prompt -m tuned --quant fp32 -n 60\nabc def ghi")
    assert again.text == tuned.text
