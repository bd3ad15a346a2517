"""What a model is, from its files alone: nothing is run, loaded or unpickled."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.manifest import digest_of_files
from jupyter_llmops.inference.scan import describe
from jupyter_llmops.inference.scan.gguf_file import read_header
from jupyter_llmops.inference.sources import digest_of, known_models, locate

TINY_WEIGHTS = 98_880  # of the model of two layers that model_fixtures makes


@pytest.fixture(scope="session")
def adapter_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a real LoRA adapter of the tiny model, saved by PEFT."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(tiny_folder)
    adapted = get_peft_model(net, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    folder = tmp_path_factory.mktemp("adapters") / "tiny-polite"
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def classifier() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit([[0.0], [1.0]], [0, 1])


def test_the_packaged_gguf_is_described_as_its_reader_would(tmp_path: Path) -> None:
    path = locate(known_models()[0]).path
    model = describe(path)
    assert (model.kind, model.family, model.format) == ("llm", "llama", "gguf")
    assert model.parameters == known_models()[0].parameters
    assert model.quantizations == ("Q4_1",)
    assert (model.context_length, model.license) == (8192, "Apache-2.0")
    assert model.digest == digest_of(known_models()[0], tmp_path).digest


def test_the_packaged_encoder_is_described() -> None:
    known = known_models()[1]
    model = describe(locate(known).path)
    assert (model.kind, model.family, model.license) == ("encoder", "bert", "Apache-2.0")
    assert model.parameters == known.parameters
    assert model.context_length == 256  # what sentence-transformers cuts at, not the network's 512
    assert model.base == "nreimers/MiniLM-L6-H384-uncased"
    assert model.quantizations == ("fp32",)


def test_a_folder_has_the_digest_that_loading_it_will_check(tiny_folder: Path, tmp_path: Path) -> None:
    model = describe(tiny_folder)
    assert (model.kind, model.parameters, model.context_length) == ("llm", TINY_WEIGHTS, 128)
    assert model.digest == digest_of_files(model.files) == digest_of(model, tmp_path).digest
    assert model.size_bytes == sum(file.size_bytes for file in model.files)


def test_nf4_weights_are_counted_unpacked(tiny_folder: Path, tmp_path: Path) -> None:
    from jupyter_llmops.inference.conversion import Job, convert

    folder = tmp_path / "tiny-nf4"
    convert(Job("tiny", weights=str(tiny_folder), quantized=str(folder)), lambda *_: None)
    model = describe(folder)
    assert model.quantizations == ("nf4",)
    assert model.parameters == TINY_WEIGHTS


@pytest.mark.parametrize(
    ("settings", "tensors", "weights", "said"),
    [
        (
            {"quant_method": "gptq", "bits": 4},
            {"q.qweight": ("int32", 8, 16), "q.qzeros": ("int32", 1, 2), "q.scales": ("float16", 1, 16)},
            8 * 8 * 16,
            "gptq-4bit",
        ),
        (
            {"quant_method": "awq", "w_bit": 8},
            {"q.qweight": ("int32", 8, 16), "q.qzeros": ("int32", 1, 2), "q.scales": ("float16", 1, 16)},
            4 * 8 * 16,
            "awq-8bit",
        ),
        (
            {"quant_method": "mxfp4"},
            {"experts_blocks": ("uint8", 2, 16), "experts_scales": ("uint8", 2, 1)},
            2 * 2 * 16,
            "mxfp4",
        ),
        (
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            {"q.weight": ("int8", 8, 16), "q.SCB": ("float32", 8)},
            8 * 16,
            "int8",
        ),
        (None, {"q.weight": ("float16", 8, 16), "embeddings.position_ids": ("int64", 512)}, 8 * 16, "fp16"),
    ],
)
def test_packed_weights_are_counted(
    tmp_path: Path, settings: dict[str, Any] | None, tensors: dict[str, Any], weights: int, said: str
) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    arrays = {name: np.zeros(shape, dtype) for name, (dtype, *shape) in tensors.items()}
    save_file(arrays, tmp_path / "model.safetensors")
    config = {"model_type": "llama", "quantization_config": settings} if settings else {"model_type": "llama"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = describe(tmp_path)
    assert (model.parameters, model.quantizations) == (weights, (said,))


def test_a_card_names_licence_task_and_base(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "tuned")
    (folder / "README.md").write_text(
        "---\nlicense: bsd-3-clause\nbase_model:\n- team/base\npipeline_tag: text-generation\n---\n# Hello\n"
    )
    model = describe(folder)
    assert (model.license, model.base, model.tags) == ("BSD-3-Clause", "team/base", ("text-generation",))


@pytest.mark.parametrize(
    "card",
    [
        "---\nlicense: !!python/object/apply:os.system ['touch pwned']\n---\n",
        "---\na: &a [x,x]\nb: &b [*a,*a]\nlicense: mit\n---\n",
        "---\nlicense: [mit\n---\n",
        "---\n" + "[" * 100_000 + "\n---\n",
        "\xff",
    ],
)
def test_a_card_that_is_no_card_says_nothing(tiny_folder: Path, tmp_path: Path, card: str) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "tuned")
    (folder / "README.md").write_text(card, encoding="latin-1")
    assert describe(folder).license == ""
    assert not Path("pwned").exists()


def test_an_adapter_names_its_base(adapter_folder: Path, tiny_folder: Path) -> None:
    model = describe(adapter_folder)
    assert (model.kind, model.format, model.family) == ("adapter", "adapter", "lora")
    assert model.parameters == 2 * 2 * 4 * 64  # two layers, A and B, rank 4, width 64
    assert model.base == str(tiny_folder)
    assert "adapter_model.safetensors" in {file.path for file in model.files}


def test_a_pickled_adapter_is_refused(adapter_folder: Path, tmp_path: Path) -> None:
    shutil.copy(adapter_folder / "adapter_config.json", tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InferenceError, match=r"pickle.*refused.*safe_serialization"):
        describe(tmp_path)


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_a_joblib_file_is_named_without_being_loaded(classifier: Any, tmp_path: Path, compress: Any) -> None:
    import joblib

    path = tmp_path / "spam.joblib"
    joblib.dump(classifier, path, compress=compress)
    model = describe(path)
    assert (model.name, model.kind, model.format) == ("spam", "classic", "joblib")
    assert model.family == "sklearn.pipeline.Pipeline"
    assert "sklearn.preprocessing.StandardScaler" in model.description
    assert model.digest == digest_of_files(model.files)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle_is_read(classifier: Any, tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "spam.pkl"
    path.write_bytes(pickle.dumps(classifier, protocol))
    model = describe(path)
    assert model.family == "sklearn.pipeline.Pipeline"
    assert "sklearn.linear_model.LogisticRegression" in model.description


class _Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path, how: Any) -> None:
        self.marker, self.how = marker, how

    def __reduce__(self) -> Any:
        return self.how, (f"open({str(self.marker)!r}, 'w')",)


@pytest.mark.parametrize("how", [exec, eval, os.system])
@pytest.mark.parametrize("pack", [bytes, zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_a_planted_pickle_is_never_run(tmp_path: Path, how: Any, pack: Any) -> None:
    marker = tmp_path / "marker"
    data = pickle.dumps(_Planted(marker, how))
    if how is exec:
        pickle.loads(data)
        assert marker.exists(), "the plant does nothing, so the test would show nothing"
        marker.unlink()
    (tmp_path / "model.joblib").write_bytes(pack(data))
    with pytest.raises(InferenceError, match=r"calls .*(exec|eval|system).*left out"):
        describe(tmp_path / "model.joblib")
    assert not marker.exists()


def test_a_pickle_that_unpacks_to_gigabytes_is_looked_at_in_part(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    path.write_bytes(zlib.compress(b"\x80\x04" + b"N0" * (20 << 20), 1))
    assert "only the first 16 MiB" in describe(path).description


def test_a_pickle_of_data_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "rows.pkl").write_bytes(pickle.dumps([{"a": 1}]))
    with pytest.raises(InferenceError, match="data, not of a model"):
        describe(tmp_path / "rows.pkl")


def test_a_skops_file_lists_its_types(classifier: Any, tmp_path: Path) -> None:
    import skops.io

    path = tmp_path / "spam.skops"
    skops.io.dump(classifier, path)
    model = describe(path)
    assert (model.kind, model.format, model.family) == ("classic", "skops", "sklearn.pipeline.Pipeline")
    assert "sklearn.linear_model.LogisticRegression" in model.description


def test_an_onnx_file_tells_its_inputs(tmp_path: Path) -> None:
    path = _write_onnx(tmp_path / "score.onnx")
    model = describe(path)
    assert (model.kind, model.format, model.parameters) == ("classic", "onnx", 6)
    assert model.description == "ONNX opset ai.onnx 17; inputs x: float[batch, 3]"


def test_onnx_tensors_beside_the_graph_belong_to_the_model(tmp_path: Path) -> None:
    import onnx

    path = _write_onnx(tmp_path / "score.onnx")
    onnx.save_model(
        onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    model = describe(path)
    assert [file.path for file in model.files] == ["score.onnx", "weights.bin"]
    assert model.digest == digest_of(model, tmp_path / "models").digest
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InferenceError, match=r"missing: weights\.bin"):
        describe(path)


def test_onnx_tensors_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    import onnx

    (tmp_path / "inner").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    path = _write_onnx(tmp_path / "inner" / "score.onnx")
    graph = onnx.load(path)
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(InferenceError, match="outside of its folder"):
        describe(path)


def test_numbers_of_an_onnx_file_that_mean_nothing_do_not_matter(tmp_path: Path) -> None:
    import onnx

    path = _write_onnx(tmp_path / "score.onnx")
    graph = onnx.load(path)
    graph.graph.input[0].type.tensor_type.elem_type = 4711
    graph.graph.initializer[0].dims[:] = [1 << 60, 1 << 60]
    path.write_bytes(graph.SerializeToString())
    model = describe(path)
    assert "x: unknown[batch, 3]" in model.description
    assert model.parameters is None


def test_without_the_onnx_package_its_size_and_digest_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write_onnx(tmp_path / "score.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    model = describe(path)
    assert model.size_bytes == path.stat().st_size
    assert model.digest
    assert "jupyter-llmops[onnx]" in model.description


def test_a_gguf_cut_anywhere_in_its_header_is_said(tiny_gguf: Path, tmp_path: Path) -> None:
    data = tiny_gguf.read_bytes()
    path = tmp_path / "cut.gguf"
    header = data.index(b"blk.1.ffn_up.weight")
    for end in [0, 3, 4, 8, 16, 24, *range(32, header, 997)]:
        path.write_bytes(data[:end])
        with pytest.raises(InferenceError, match="not a GGUF file that can be read"):
            read_header(path)


@pytest.mark.parametrize(
    ("tensors", "fields", "text"), [(1 << 60, 0, 0), (0, 1 << 60, 0), (0, 1, 1 << 60), (0, 1, (1 << 64) - 1)]
)
def test_a_gguf_that_claims_too_much_is_said(tmp_path: Path, tensors: int, fields: int, text: int) -> None:
    path = tmp_path / "much.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, tensors, fields, text) + bytes(64))
    with pytest.raises(InferenceError, match="claims"):
        describe(path)


def test_a_split_gguf_is_one_model(tiny_gguf: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        shutil.copy(tiny_gguf, tmp_path / f"big-0000{number}-of-00002.gguf")
    model = describe(tmp_path / "big-00001-of-00002.gguf")
    assert model.name == "big"
    assert len(model.files) == 2
    assert model.parameters == 2 * (describe(tiny_gguf).parameters or 0)
    (tmp_path / "big-00002-of-00002.gguf").unlink()
    with pytest.raises(InferenceError, match=r"missing: big-00002-of-00002\.gguf"):
        describe(tmp_path / "big-00001-of-00002.gguf")


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def _claim_a_huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def _lose_a_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _point_a_shard_out(folder: Path) -> None:
    index = {"weight_map": {"a": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _write_no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{" * 10)


def _write_deep_json(folder: Path) -> None:
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


def _write_a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[1]")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut_weights, "can't be read"),
        (_claim_a_huge_header, "can't be read"),
        (_lose_a_shard, "is missing"),
        (_point_a_shard_out, "outside of its folder"),
        (_write_no_json, r"config\.json can't be read"),
        (_write_deep_json, r"config\.json can't be read"),
        (_write_a_list, "not a JSON object"),
    ],
)
def test_a_damaged_folder_is_said_in_one_line(
    tiny_folder: Path, tmp_path: Path, damage: Any, said: str
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(InferenceError, match=said) as caught:
        describe(folder)
    assert "\n" not in str(caught.value)


def test_values_of_other_types_in_a_config_say_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "odd")
    odd = {"model_type": ["x"], "architectures": {"a": 1}, "max_position_embeddings": True, "text_config": 3}
    (folder / "config.json").write_text(json.dumps({**odd, "quantization_config": "gptq"}))
    model = describe(folder)
    assert (model.family, model.context_length, model.parameters) == ("", None, TINY_WEIGHTS)


@pytest.mark.parametrize("name", ["x.skops", "x.onnx", "x.joblib", "x.pkl", "x.gguf"])
@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"not a model", b"\x80\x04\x8c\xff", b"PK\x03\x04junk"])
def test_anything_else_in_a_file_is_said_in_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InferenceError) as caught:
        describe(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_skops_archive_with_a_huge_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * (65 << 20))
    with pytest.raises(InferenceError, match="at most 64 MiB"):
        describe(path)


def _write_onnx(path: Path) -> Path:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "score", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path
