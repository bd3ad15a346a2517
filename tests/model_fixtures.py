"""The real default model, converted once and kept between runs; and models small enough to make on the spot.

A folder of tests gets them with ``from model_fixtures import …`` in its conftest.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.inference import sources
from jupyter_llmops.inference.engine import Engine
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

# Tests share the machine with browsers and servers; see inference/threads.py.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

REPOSITORY = Path(__file__).resolve().parent.parent

Ask = Callable[..., InferenceRequest]


@pytest.fixture(scope="session")
def models_folder() -> Path:
    """Return a models folder that stays between runs: converting the real model takes tens of seconds."""
    chosen = os.environ.get("LLMOPS_TEST_MODELS")
    folder = Path(chosen) if chosen else REPOSITORY / "build" / "test-models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def engine(models_folder: Path) -> TransformersEngine:
    """Return an engine that keeps the default model loaded for the whole session."""
    return TransformersEngine(models_folder, offline=True)


@pytest.fixture(scope="session")
def default_model(engine: TransformersEngine) -> Model:
    """Return the default model with its digest."""
    return engine.with_digest(sources.resolve(sources.DEFAULT_LLM))


def make_request(
    engine: Engine, model: Model, text: str, quantization: str = "auto", **parameters: Any
) -> InferenceRequest:
    """Return the request that asks a model one thing."""
    identity = engine.identify(model, quantization)
    return InferenceRequest(
        model=model.name,
        model_digest=model.digest,
        messages=(Message("user", text),),
        parameters=GenerationParameters(**parameters),
        engine=identity.engine,
        engine_version=identity.engine_version,
        quantization=identity.quantization,
        device=identity.device,
        engine_options=identity.options,
    )


def write_tiny_gguf(path: Path, tensor_type: str = "F32") -> Path:
    """Write a llama of two layers with random weights and byte tokens as a GGUF file."""
    import gguf
    import numpy as np

    width, layers, heads, feed = 64, 2, 2, 128
    letters = bytes_as_letters()
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ab"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(feed)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_rope_dimension_count(width // heads)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges([f"{letters[ord('a')]} {letters[ord('b')]}"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    random = np.random.default_rng(7)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.2, shape).astype(np.float32))

    add("token_embd.weight", len(tokens), width)
    add("output_norm.weight", width)
    for layer in range(layers):
        for part in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{part}.weight", width)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{part}.weight", width, width)
        add(f"blk.{layer}.ffn_gate.weight", feed, width)
        add(f"blk.{layer}.ffn_up.weight", feed, width)
        add(f"blk.{layer}.ffn_down.weight", width, feed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def bytes_as_letters() -> list[str]:
    """Return the letter that stands for each byte in a byte-level tokenizer (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) if b in plain else chr(256 + sum(x not in plain for x in range(b))) for b in range(256)]


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a GGUF file that converts in seconds."""
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_folder(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny model as a folder in the layout of transformers, context 128, vocabulary 260."""
    from jupyter_llmops.inference.conversion import Job, convert

    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    tokenizer = folder.with_name("tokenizer")
    convert(Job("tiny", gguf=str(tiny_gguf), tokenizer=str(tokenizer), weights=str(folder)), lambda *_: None)
    for path in tokenizer.iterdir():
        path.rename(folder / path.name)
    return folder
