"""Which files and folders below a place are models, by their names alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from jupyter_llmops.errors import InferenceError, LLMOpsError
from jupyter_llmops.inference.scan.adapter import describe_adapter
from jupyter_llmops.inference.scan.folder import describe_folder
from jupyter_llmops.inference.scan.gguf_file import describe_gguf
from jupyter_llmops.inference.scan.onnx_file import describe_onnx
from jupyter_llmops.inference.scan.pickled import describe_pickle
from jupyter_llmops.inference.scan.reading import Reading, reason
from jupyter_llmops.inference.scan.skops_file import describe_skops
from jupyter_llmops.inference.sources import CLASSIC_SUFFIXES
from jupyter_llmops.records.model import Model

MOST_DEPTH = 12
MOST_FOLDERS = 50_000
MOST_MODELS = 5_000
_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")
# Folders that are never searched: what is in them belongs to programs, not to people.
_PROGRAMS = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages", "__MACOSX"})
_DESCRIBERS: dict[str, Callable[[Path, Reading], Model]] = {
    ".gguf": describe_gguf,
    ".onnx": describe_onnx,
    ".skops": describe_skops,
    ".joblib": describe_pickle,
    ".pkl": describe_pickle,
    ".pickle": describe_pickle,
}


def describe(path: Path, reading: Reading | None = None) -> Model:
    """Return what a file or folder holds, without running or unpickling anything.

    Parameters
    ----------
    path : Path
        A folder of transformers, sentence-transformers or PEFT, or a file: GGUF, ONNX, skops, joblib, pickle.
    reading : Reading, optional
        How files are read.

    Raises
    ------
    InferenceError
        It is no model, damaged, or only a pickle of weights.
    """
    try:
        return _describe(path, reading or Reading())
    except LLMOpsError:
        raise
    except OSError as error:
        raise InferenceError(f"The model in {path} can't be read: {reason(error)}") from error
    except Exception as error:  # files of strangers: damage that nobody thought of must not end a scan
        said = f"{type(error).__name__}, {reason(error)}"
        raise InferenceError(f"The model in {path} is damaged: {said}", "Fetch it again.") from error


def _describe(path: Path, reading: Reading) -> Model:
    if path.is_dir():
        adapter = (path / "adapter_config.json").is_file()
        return describe_adapter(path, reading) if adapter else describe_folder(path, reading)
    describer = _DESCRIBERS.get(path.suffix)
    if describer is None:
        valid = ", ".join(sorted(_DESCRIBERS))
        raise InferenceError(f"The file {path} is of no kind of model that is known.", f"Known are {valid}.")
    return describer(path, reading)


def find(place: Path, on_problem: Callable[[str], None], links_within: Path | None = None) -> Iterator[Path]:
    """Yield the models below a folder, nothing hidden, in the order of their paths.

    Parameters
    ----------
    place : Path
        Where to search, at most 12 folders deep; links that lead out of it are not followed.
    on_problem : callable
        Told in one line what can't be searched.
    links_within : Path, optional
        Where links to files may lead instead of `place` itself.
    """
    root = place.resolve()
    bound = (links_within or place).resolve()
    found = 0

    def failed(error: OSError) -> None:
        on_problem(f"The folder {error.filename} can't be searched: {error.strerror}.")

    for searched, (folder, inner, names) in enumerate(os.walk(root, onerror=failed), 1):
        here = Path(folder)
        models = list(_models_in(here, inner, names, bound))
        yield from models
        found += len(models)
        if searched >= MOST_FOLDERS or found >= MOST_MODELS:
            on_problem(
                f"The search of {place} stopped after {searched} folders and {found} models; scan a folder in it."
            )
            return
        if here in models or len(here.relative_to(root).parts) >= MOST_DEPTH:
            inner.clear()  # what lies in a model's folder is a part of it
        else:
            # os.walk follows no link to a folder; a hidden one may be anybody's cache.
            inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in _PROGRAMS)


def is_model_folder(names: set[str]) -> bool:
    """Return whether files of these names, side by side, are a model in the layout of transformers or PEFT."""
    if "adapter_config.json" in names:
        return True
    return "config.json" in names and any(name.endswith(".safetensors") for name in names)


def size_of(path: Path) -> int:
    """Return roughly how many bytes describing a model will read."""
    try:
        if path.is_dir():
            return sum(item.stat().st_size for item in path.rglob("*.safetensors") if item.is_file())
        return path.stat().st_size
    except OSError:
        return 0


def _models_in(here: Path, inner: list[str], names: list[str], bound: Path) -> Iterator[Path]:
    visible = sorted(name for name in names if not name.startswith("."))
    if "model_index.json" in visible:  # a pipeline of diffusers: its parts are no models of their own
        inner.clear()
        return
    if is_model_folder(set(visible)):
        yield here
        return
    for name in visible:
        path = here / name
        known = path.suffix == ".gguf" or path.suffix in CLASSIC_SUFFIXES
        if known and not _LATER_PART.search(name) and path.is_file() and path.resolve().is_relative_to(bound):
            yield path
