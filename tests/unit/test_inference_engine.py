"""The engine on the real default model: loading, answering, stopping, failing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jupyter_llmops.errors import InferenceError, UnknownNameError, UsageError
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.engine import Engine
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest, Message
from model_fixtures import make_request

pytestmark = pytest.mark.model

RAINBOW = "What is the capital of France? Answer in one sentence."


def run(script: str, *arguments: str, send: signal.Signals | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own; with `send`, signal it when it says "now"."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert process.stdout is not None
    said = ""
    if send is not None:
        for line in process.stdout:
            said += line
            if line.strip() == "now":
                process.send_signal(send)
                break
    out, err = process.communicate(timeout=280)
    return subprocess.CompletedProcess(process.args, process.returncode, said + out, err)


def test_it_is_an_engine(engine: TransformersEngine) -> None:
    assert isinstance(engine, Engine)


def test_identity_says_what_decides(engine: TransformersEngine, default_model: Model) -> None:
    identity = engine.identify(default_model, "auto")
    assert (identity.engine, identity.quantization, identity.device) == ("transformers", "nf4", "cpu")
    for part in ("transformers 5", "torch 2", "bitsandbytes 0", "conversion 1"):
        assert part in identity.engine_version
    assert "bitsandbytes" not in engine.identify(default_model, "fp32").engine_version
    assert "nf4" in identity.reason


def test_identity_imports_nothing_heavy() -> None:
    script = """
        import sys
        from pathlib import Path
        from jupyter_llmops.inference import sources
        from jupyter_llmops.inference.transformers_engine import TransformersEngine
        engine = TransformersEngine(Path("unused"), offline=True)
        engine.identify(sources.resolve("smollm2-135m-instruct"), "auto")
        heavy = {"torch", "transformers", "bitsandbytes", "numpy", "huggingface_hub", "gguf"} & set(sys.modules)
        assert not heavy, heavy
    """
    done = run(script)
    assert done.returncode == 0, done.stderr


def test_an_unknown_quantization_names_the_nearest(engine: TransformersEngine, default_model: Model) -> None:
    with pytest.raises(UsageError, match=r"Did you mean bf16\?.*auto, nf4, int8, bf16, fp32"):
        engine.identify(default_model, "fb16")


def test_an_encoder_does_not_answer(engine: TransformersEngine) -> None:
    with pytest.raises(UsageError, match="can't answer prompts"):
        engine.identify(sources.resolve(sources.DEFAULT_ENCODER), "auto")


def test_greedy_is_the_same_over_two_loads(engine: TransformersEngine, default_model: Model) -> None:
    request = make_request(engine, default_model, RAINBOW, max_new_tokens=16)
    first = engine.generate(request, default_model)
    engine.unload(default_model.name)
    assert engine.loaded() == []
    second = engine.generate(request, default_model)
    assert first.token_ids == second.token_ids
    assert first.text == second.text != ""
    assert first.tokens_in == engine.count_tokens(default_model, request.messages)
    (entry,) = engine.loaded()
    assert (entry.name, entry.quantization) == (default_model.name, "nf4")
    assert 50 << 20 < entry.memory_bytes < 400 << 20


def test_the_saved_copy_answers_like_the_fresh_one(engine: TransformersEngine, default_model: Model) -> None:
    """Quantized here and now, and loaded from the copy that was saved: the same tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    from jupyter_llmops.inference.preparation import prepare
    from jupyter_llmops.inference.quantization import bitsandbytes_settings, weights_dtype

    request = make_request(engine, default_model, RAINBOW, max_new_tokens=12)
    saved = engine.generate(request, default_model)
    files = sources.locate(default_model)
    plain = prepare(default_model, files, engine.folder, "bf16", "cpu")
    fresh = AutoModelForCausalLM.from_pretrained(
        plain.weights,
        quantization_config=bitsandbytes_settings("cpu"),
        dtype=weights_dtype("nf4", "cpu"),
        device_map="cpu",
    )
    prompt = engine._chat(default_model, None).encode(request.messages)
    with torch.inference_mode():
        answer = fresh.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
    assert tuple(answer[0, len(prompt) :].tolist()) == saved.token_ids


def test_a_seed_reproduces_and_another_differs(engine: TransformersEngine, default_model: Model) -> None:
    def ask(seed: int | None) -> tuple[int, ...]:
        request = make_request(
            engine, default_model, "Tell me a story.", max_new_tokens=12, temperature=1.0, seed=seed
        )
        return engine.generate(request, default_model).token_ids

    one = ask(1)
    assert ask(1) == one
    assert len({one, ask(2), ask(None), ask(None)}) == 4


def test_text_comes_in_pieces_in_the_calling_thread(engine: TransformersEngine, default_model: Model) -> None:
    import threading

    pieces: list[tuple[str, int]] = []
    request = make_request(engine, default_model, "Write one sentence with an emoji 🙂.", max_new_tokens=24)
    answer = engine.generate(
        request, default_model, lambda text: pieces.append((text, threading.get_ident()))
    )
    assert "".join(text for text, _ in pieces) == answer.text
    assert {thread for _, thread in pieces} == {threading.get_ident()}
    assert not any("\ufffd" in text for text, _ in pieces)
    assert len(pieces) > 2


def test_an_exception_of_the_listener_is_its_own(engine: TransformersEngine, default_model: Model) -> None:
    def broken(_: str) -> None:
        raise ZeroDivisionError("mine")

    request = make_request(engine, default_model, RAINBOW, max_new_tokens=8)
    with pytest.raises(ZeroDivisionError, match="mine"):
        engine.generate(request, default_model, broken)
    assert engine.generate(request, default_model).text


def test_beams_answer_too(engine: TransformersEngine, default_model: Model) -> None:
    pieces: list[str] = []
    request = make_request(engine, default_model, RAINBOW, max_new_tokens=8, extra=(("num_beams", 2),))
    answer = engine.generate(request, default_model, pieces.append)
    assert answer.text == "".join(pieces) != ""


def test_a_prompt_beyond_the_context_is_counted(engine: TransformersEngine, default_model: Model) -> None:
    long = "word " * 8200
    with pytest.raises(InferenceError, match=r"prompt has 8,\d\d\d tokens, more than .* 8,192"):
        engine.generate(make_request(engine, default_model, long), default_model)
    with pytest.raises(InferenceError, match=r"Type -n 1\d\d or less"):
        engine.generate(make_request(engine, default_model, "word " * 8000), default_model)


def test_a_request_for_other_files_is_refused(engine: TransformersEngine, default_model: Model) -> None:
    request = make_request(engine, default_model, RAINBOW, max_new_tokens=4)
    foreign = InferenceRequest.from_canonical({**request.canonical(), "model_digest": "sha256:" + "0" * 64})
    with pytest.raises(InferenceError, match="other files"):
        engine.generate(foreign, default_model)
    elsewhere = InferenceRequest.from_canonical({**request.canonical(), "device": "cuda"})
    with pytest.raises(InferenceError, match="is for cuda"):
        engine.generate(elsewhere, default_model)


def test_what_is_not_loaded_can_not_be_unloaded(engine: TransformersEngine) -> None:
    with pytest.raises(UnknownNameError, match="loaded"):
        engine.unload("nothing")


INTERRUPTED = """
    import sys
    from pathlib import Path
    from jupyter_llmops.inference import sources
    from jupyter_llmops.inference.transformers_engine import TransformersEngine
    from model_fixtures import make_request

    engine = TransformersEngine(Path(sys.argv[1]), offline=True)
    model = engine.with_digest(sources.resolve("smollm2-135m-instruct"))
    short = make_request(engine, model, "What is the capital of France?", max_new_tokens=8)
    before = engine.generate(short, model)
    pieces = []

    def on_text(text):
        pieces.append(text)
        if len(pieces) == 3:
            print("now", flush=True)

    long = make_request(engine, model, "Tell a long story.", max_new_tokens=4000)
    answer = engine.generate(long, model, on_text)
    assert answer.finish_reason == "interrupted", answer
    assert answer.text == "".join(pieces), (answer.text, pieces)
    assert 3 <= len(answer.token_ids) < 4000
    assert engine.generate(short, model).token_ids == before.token_ids
    print("fine")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_keeps_what_came_and_the_model(models_folder: Path) -> None:
    done = run(INTERRUPTED, str(models_folder), send=signal.SIGINT)
    assert done.stdout.endswith("fine\n"), done.stderr


WITHOUT_MEMORY = """
    import resource, sys
    from pathlib import Path
    from jupyter_llmops.errors import ModelMemoryError
    from jupyter_llmops.inference import sources
    from jupyter_llmops.inference.transformers_engine import TransformersEngine

    import bitsandbytes, torch, transformers
    from jupyter_llmops.records.request import Message
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    engine = TransformersEngine(Path(sys.argv[1]), offline=True)
    model = sources.resolve("smollm2-135m-instruct")
    engine.count_tokens(model, [Message("user", "x")])
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (150 << 20), -1))
    try:
        engine.load(model, "fp32")
    except ModelMemoryError as error:
        print(error)
    assert engine.loaded() == []
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    engine.load(model, "fp32")
    print("fine")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory")
def test_out_of_memory_says_what_to_type(
    engine: TransformersEngine, default_model: Model, models_folder: Path
) -> None:
    engine.load(default_model, "nf4")  # so that everything is converted
    done = run(WITHOUT_MEMORY, str(models_folder))
    assert "more memory than is free" in done.stdout, done.stderr
    assert "--quant nf4" in done.stdout
    assert done.stdout.endswith("fine\n"), done.stderr


def test_a_model_that_can_not_fit_is_refused_before(
    engine: TransformersEngine, default_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_llmops.errors import ModelMemoryError
    from jupyter_llmops.inference import memory

    request = make_request(engine, default_model, RAINBOW, max_new_tokens=4000)
    engine.load(default_model, "auto")
    monkeypatch.setattr(memory, "free_bytes", lambda _device: 1 << 20)
    with pytest.raises(ModelMemoryError, match=r"about \d+ MiB needed, 1 MiB free"):
        engine.generate(request, default_model)


def test_a_model_with_code_of_its_own_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    import json

    folder = shutil.copytree(tiny_folder, tmp_path / "remote")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "my-own", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    engine = TransformersEngine(tmp_path / "models", offline=True)
    with pytest.raises(InferenceError, match="code of its own"):
        engine.load(sources.resolve(str(folder)), "fp32")
    assert not (tmp_path / "ran").exists()


def test_a_model_quantized_otherwise_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    import json

    folder = shutil.copytree(tiny_folder, tmp_path / "gptq")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq"}})
    )
    engine = TransformersEngine(tmp_path / "models", offline=True)
    with pytest.raises(InferenceError, match="already quantized"):
        engine.load(sources.resolve(str(folder)), "auto")


def test_a_folder_is_quantized_once_and_answers(tiny_folder: Path, tmp_path: Path) -> None:
    engine = TransformersEngine(tmp_path / "models", offline=True)
    model = engine.with_digest(sources.resolve(str(tiny_folder)))
    assert "conversion" not in engine.identify(model, "nf4").engine_version
    said: list[str] = []
    engine.load(model, "nf4", lambda doing, _: said.append(doing))
    assert any("Quantizing" in doing for doing in said)
    request = make_request(engine, model, "abc", "nf4", max_new_tokens=8)
    first = engine.generate(request, model)
    again = TransformersEngine(tmp_path / "models", offline=True)
    said.clear()
    again.load(model, "nf4", lambda doing, _: said.append(doing))
    assert not any("Quantizing" in doing for doing in said)
    assert again.generate(request, model).token_ids == first.token_ids
    assert again.rendered(model, [Message("user", "x")]).endswith("<|im_start|>assistant\n")


def test_pytorchs_threads_sleep_while_they_wait(tmp_path: Path) -> None:
    """Seen by PyTorch when it loads, and gone afterwards; a user's own choice stays."""
    seen = 'import os\nprint("policy", os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))\n'
    (tmp_path / "torch.py").write_text(seen)
    script = f"""
        import os, sys
        from jupyter_llmops.inference.threads import import_torch

        sys.path.insert(0, {str(tmp_path)!r})
        os.environ.pop("OMP_WAIT_POLICY", None)
        os.environ.pop("GOMP_SPINCOUNT", None)
        if sys.argv[1:]:
            os.environ["OMP_WAIT_POLICY"] = sys.argv[1]
        import_torch()
        assert "torch" in sys.modules
        print("then", os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
    """
    assert run(script).stdout.split() == ["policy", "PASSIVE", "1000", "then", "None", "None"]
    assert run(script, "ACTIVE").stdout.split() == ["policy", "ACTIVE", "None", "then", "ACTIVE", "None"]
