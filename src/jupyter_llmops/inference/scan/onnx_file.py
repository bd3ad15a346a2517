"""ONNX files: the graph's description, never its weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.scan.card import read_card
from jupyter_llmops.inference.scan.reading import Reading, count, name_of, one_line, reason, text
from jupyter_llmops.inference.sources import files_in
from jupyter_llmops.records.model import Model

if TYPE_CHECKING:
    from onnx import ModelProto

# A larger graph holds its weights inside; reading it would take that much memory.
_MOST_GRAPH_BYTES = 512 << 20
_HINT = "Its inputs and opset can be read with: %pip install 'jupyter-llmops[onnx]'"


def describe_onnx(path: Path, reading: Reading) -> Model:
    """Return what an ONNX file holds; without the onnx package, its size and digest.

    Parameters
    ----------
    path : Path
        The file; tensors that it keeps in other files beside it belong to its manifest.
    reading : Reading
        How files are read.

    Raises
    ------
    InferenceError
        It is damaged, or names tensors outside of its folder.
    OSError
        A file can't be read.
    """
    graph = read_graph(path)
    manifest, digest, size = reading.manifest(path.parent, files_in(path).files)
    return Model(
        name=name_of(path),
        kind="classic",
        source=f"folder:{path}",
        digest=digest,
        family=_family(graph) if graph is not None else "",
        license=read_card(path.parent).license,
        parameters=_parameters(graph) if graph is not None else None,
        size_bytes=size,
        format="onnx",
        files=manifest,
        description=_inputs(graph) if graph is not None else _HINT,
    )


def read_graph(path: Path) -> ModelProto | None:
    """Return the graph of an ONNX file without its external tensors; None where it can't be looked into.

    Raises
    ------
    InferenceError
        It is damaged.
    """
    if path.stat().st_size > _MOST_GRAPH_BYTES:
        return None
    try:
        import onnx
    except ImportError:
        return None
    try:
        graph = onnx.load(path, load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf has a class of its own for damage, and names change
        raise InferenceError(f"The file {path} is not ONNX: {reason(error)}", "Fetch it again.") from error
    if not graph.ir_version or not graph.graph.node:
        raise InferenceError(f"The file {path} is not ONNX: it holds no graph.", "Fetch it again.")
    return graph


def external_files(path: Path) -> list[Path]:
    """Return the files beside an ONNX file that hold its tensors.

    Raises
    ------
    InferenceError
        It names one outside of its folder, or one that is missing.
    """
    graph = read_graph(path)
    names = {
        entry.value
        for tensor in (graph.graph.initializer if graph is not None else ())
        for entry in tensor.external_data
        if entry.key == "location"
    }
    found = []
    for name in sorted(names):
        place = path.parent / name
        if not place.resolve().is_relative_to(path.parent.resolve()):
            raise InferenceError(
                f"The ONNX file {path} names tensors outside of its folder: {one_line(name)}."
            )
        if not place.is_file():
            raise InferenceError(f"The tensors of {path} are missing: {one_line(name)}.", "Fetch them again.")
        found.append(place)
    return found


def _family(graph: ModelProto) -> str:
    """Return the classic model that the graph computes, else who wrote it."""
    for node in graph.graph.node:
        if node.domain == "ai.onnx.ml" and node.op_type.endswith(("Classifier", "Regressor")):
            return text(node.op_type)
    return text(graph.producer_name)


def _parameters(graph: ModelProto) -> int | None:
    return count(sum(math.prod(tensor.dims) for tensor in graph.graph.initializer))


def _inputs(graph: ModelProto) -> str:
    import onnx

    opsets = ", ".join(f"{one.domain or 'ai.onnx'} {one.version}" for one in graph.opset_import)
    weights = {tensor.name for tensor in graph.graph.initializer}
    inputs = []
    for value in graph.graph.input:
        if value.name not in weights:
            tensor = value.type.tensor_type
            shape = [
                dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else "?")
                for dim in tensor.shape.dim
            ]
            known = tensor.elem_type in onnx.TensorProto.DataType.values()
            kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if known else "unknown"
            inputs.append(f"{value.name}: {kind}[{', '.join(str(size) for size in shape)}]")
    return one_line(f"ONNX opset {opsets}; inputs {', '.join(inputs) or 'none'}")
