"""PEFT adapters on top of a loaded base; several can be over one base in memory."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import (
    InferenceError,
    LLMOpsError,
    MissingDependencyError,
    ModelNotAvailableError,
    UnsafeModelError,
)
from jupyter_llmops.inference.engine import LoadedModel
from jupyter_llmops.inference.quiet import quiet
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.inference.loading import LoadedWeights

WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # what PEFT's own class puts before the names of the base
# Of PEFT's methods those that are layers beside the base's; the others are prompts in front of the text.
_METHODS = ("LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT", "BOFT", "VERA", "HRA", "FOURIERFT")


def with_base(adapter: Model, named: Callable[[str], Model], listed: Callable[[], Iterable[Model]]) -> Model:
    """Return the base of an adapter, with the adapter set; a model that is no adapter as it is.

    Parameters
    ----------
    adapter : Model
        With the digest of its files.
    named : callable
        From a model's name to the model that is at hand, with its digest.
    listed : callable
        Returns the models of the catalog.

    Raises
    ------
    InferenceError
        The base that is here has other files than the one that the adapter was trained on.
    ModelNotAvailableError
        Its base is not known, or not here.
    """
    if adapter.kind != "adapter":
        return adapter
    wanted = adapter.base_digest
    names = [row.name for row in listed() if wanted and row.digest == wanted and row.kind == "llm"]
    base_name = adapter.base or _base_in(adapter)
    names += [base_name] if base_name and base_name not in names else []
    if not names:
        raise ModelNotAvailableError(
            f"The adapter {adapter.name!r} does not say which model it was trained on.",
            "Add it again with %models add NAME FOLDER --base MODEL.",
        )
    first: LLMOpsError | None = None
    for name in names:
        try:
            base = named(name)
        except LLMOpsError as error:
            first = first or error
            continue
        if base.kind == "llm" and (not wanted or base.digest == wanted):
            return replace(base, adapter=adapter)
        first = InferenceError(
            f"The adapter {adapter.name!r} was trained on other files of {name!r} than the ones that are here.",
            f"It needs the model with the digest {wanted[:19]}…; %models lists the digests.",
        )
    assert first is not None
    if isinstance(first, InferenceError) and not isinstance(first, ModelNotAvailableError):
        raise first
    raise ModelNotAvailableError(
        f"The base {names[0]!r} of the adapter {adapter.name!r} is not here: {first.message}", first.hint
    )


def _base_in(adapter: Model) -> str:
    """Return the base that a folder's own adapter_config.json names; an adapter by its path has no row."""
    try:
        folder = Path(adapter.source.removeprefix("folder:"))
        said = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return str(said.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def other_adapter(request: InferenceRequest) -> InferenceError:
    """Return the error of a request for another adapter than the one that is switched on."""
    what = (
        f"other files of the adapter {request.adapter!r} than are"
        if request.adapter_digest
        else "no adapter, but one is"
    )
    return InferenceError(
        f"The request is for {what} switched on.",
        "Ask again; to reproduce an old run, restore the files that it names.",
    )


def switch_to(weights: LoadedWeights, adapter: Model | None, folder: Callable[[Model], Path]) -> None:
    """Switch one adapter on, loading it the first time, or all off.

    Parameters
    ----------
    weights : LoadedWeights
        The base.
    adapter : Model or None
        None is the base alone.
    folder : callable
        From the adapter to the folder of its files.

    Raises
    ------
    MissingDependencyError
        PEFT is not installed.
    UnsafeModelError
        Its weights are only there as a pickle.
    InferenceError
        It does not fit this base, or is of a kind that is not a layer.
    """
    digest = adapter.digest if adapter is not None else ""
    if digest == weights.adapter_digest:
        return
    net = weights.net
    with quiet():
        if adapter is None:
            net.disable_adapters()
        else:
            if digest not in weights.adapters:
                weights.adapters[digest] = _load(weights, adapter, folder(adapter))
            net.enable_adapters()
            net.set_adapter(_inner_name(digest))
    weights.adapter_digest = digest


def forget(weights: LoadedWeights, digest: str) -> None:
    """Free the memory of one adapter."""
    if weights.adapter_digest == digest:
        with quiet():
            weights.net.disable_adapters()
        weights.adapter_digest = ""
    del weights.adapters[digest]
    weights.net.delete_adapter(_inner_name(digest))


def _load(weights: LoadedWeights, adapter: Model, folder: Path) -> LoadedModel:
    if importlib.util.find_spec("peft") is None:
        raise MissingDependencyError(f"The adapter {adapter.name!r}", "adapters")
    if not (folder / WEIGHTS_FILE).is_file():
        raise UnsafeModelError(
            f"The adapter {adapter.name!r} has no {WEIGHTS_FILE}; a pickle is not loaded.",
            "Save it again with safe_serialization=True.",
        )
    from peft import inject_adapter_in_model
    from safetensors.torch import load_file

    settings = _settings(adapter, folder)
    # The base was moved, renamed or converted since: which one it is, its digest says.
    settings.base_model_name_or_path = weights.entry.name
    name = _inner_name(adapter.digest)
    before = _bytes(weights.net)
    try:
        tensors = load_file(folder / WEIGHTS_FILE, device=weights.entry.device)
        inject_adapter_in_model(settings, weights.net, name)
        weights.net._hf_peft_config_loaded = True
        odd = _fill(weights.net, name, {key.removeprefix(_PREFIX): value for key, value in tensors.items()})
    except Exception as error:
        _take_back(weights.net, name)
        raise _misfit(adapter, weights, str(error).strip().partition("\n")[0][:200]) from error
    if odd:
        _take_back(weights.net, name)
        raise _misfit(adapter, weights, f"{len(odd)} tensors do not match, e.g. {odd[0]}")
    weights.net.eval().requires_grad_(False)
    return LoadedModel(
        adapter.name, weights.entry.quantization, weights.entry.device, max(0, _bytes(weights.net) - before)
    )


def _fill(net: Any, name: str, tensors: dict[str, Any]) -> list[str]:
    """Copy an adapter's tensors to their places and return the names that do not match.

    Not by PEFT's or transformers' own loaders: they would fall back to a pickle, and both look at
    the base's weights through `state_dict`, which unpacks those of nf4 and changes them.
    """
    places = {}
    for place, parameter in net.named_parameters():
        if f".{name}." in f"{place}.":
            places[place.replace(f".{name}", "", 1).replace(".modules_to_save", "")] = parameter
    odd = sorted(places.keys() ^ tensors.keys())
    odd += [key for key in places.keys() & tensors.keys() if places[key].shape != tensors[key].shape]
    if not odd:
        for key, parameter in places.items():
            parameter.data.copy_(tensors[key])
    return odd


def _misfit(adapter: Model, weights: LoadedWeights, why: str) -> InferenceError:
    return InferenceError(
        f"The adapter {adapter.name!r} does not fit {weights.entry.name!r}: {why}",
        "Use it with the model that it was trained on.",
    )


def _settings(adapter: Model, folder: Path) -> Any:
    from peft import PeftConfig

    try:
        said = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        method = str(said.get("peft_type")).upper()
        if method not in _METHODS:
            raise InferenceError(
                f"The adapter {adapter.name!r} is of the kind {method}, which is not supported.",
                f"Supported are {', '.join(_METHODS)}.",
            )
        # Import a class of any module by its name; rewrite the base's own weights.
        unwanted = {
            "auto_mapping": None,
            "megatron_config": None,
            "init_lora_weights": True,
            "eva_config": None,
        }
        said |= {name: value for name, value in unwanted.items() if name in said}
        return PeftConfig.from_peft_type(**{**said, "inference_mode": True})  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InferenceError(
            f"The file adapter_config.json of {adapter.name!r} can't be read: {error}", "Fetch it again."
        ) from error


def _take_back(net: Any, name: str) -> None:
    if name in getattr(net, "peft_config", {}):
        net.delete_adapter(name)
        if getattr(net, "peft_config", {}):
            net.disable_adapters()


def _inner_name(digest: str) -> str:
    return "a" + digest.removeprefix("sha256:")[:20]


def _bytes(net: Any) -> int:
    return int(net.get_memory_footprint())
