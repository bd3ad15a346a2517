"""A check of every part, each with what to do where it is not well."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable

from jupyter_llmops.display.elements import ago, duration
from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.records.status import Check, Checkup
from jupyter_llmops.workspace.facade import Workspace

SMALLEST_FREE_DISK = 2 * 10**9


def examine(workspace: Workspace) -> Checkup:
    """Check catalog, model, memory, GPU, cache, journal, server and labextension.

    Parameters
    ----------
    workspace : Workspace
        What is checked; a part that raises is a failed check, never an exception.
    """
    return Checkup(tuple(_guarded(part, check, workspace) for part, check in CHECKS.items()))


def _guarded(part: str, check: Callable[[Workspace], Check], workspace: Workspace) -> Check:
    try:
        return check(workspace)
    except LLMOpsError as error:
        return Check(part, "fail", error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - the doctor must get to the last part
        return Check(
            part, "fail", f"{type(error).__name__}: {error}", "Please report this with the whole table."
        )


def _catalog(workspace: Workspace) -> Check:
    state = workspace.catalog.describe()
    if state.problem:
        return Check(
            "catalog", "fail", state.problem, f"Check {state.path}, or name another in LLMOPS_CATALOG."
        )
    if name := workspace.opened_snapshot:
        return Check(
            "catalog", "ok", f"{state.path} is read as it was in the snapshot {name!r}, not written."
        )
    if not state.writable:
        return Check(
            "catalog",
            "warn",
            f"{state.path} can only be read.",
            "Ask for write access, or set LLMOPS_CATALOG.",
        )
    workspace.catalog.try_writing()
    found = workspace.catalog.freshness()
    kind = "a folder" if workspace.location.is_local else "a bucket"
    said = [f"{state.path} ({kind}) can be read and written"]
    newest = f"its newest commit came {ago(found.newest)}" if found.newest else "it is empty"
    said.append(f"{newest} and is seen within {duration(found.seconds_to_read)}")
    if workspace.own is workspace.catalog:
        said.append("it is your own, nobody else reads it: name a shared one in LLMOPS_CATALOG to share")
    return Check("catalog", "ok", f"{'; '.join(said)}.")


def _own_catalog(workspace: Workspace) -> Check:
    if workspace.own is workspace.catalog:
        return Check("private catalog", "ok", "The catalog above.")
    workspace.own.try_writing()
    state = workspace.own.describe()
    if state.problem:
        return Check("private catalog", "fail", state.problem, f"Check {state.path}.")
    return Check("private catalog", "ok", f"{state.path} keeps what you make with --private.")


def _model(workspace: Workspace) -> Check:
    model = workspace.model(workspace.settings.model)
    identity = workspace.engine.identify(model, workspace.settings.quantization)
    return Check(
        "model",
        "ok",
        f"{model.name}, {identity.quantization} on {identity.device} ({identity.reason.rstrip('.')}).",
    )


def _quantization(_: Workspace) -> Check:
    if importlib.util.find_spec("bitsandbytes") is None:
        return Check(
            "bitsandbytes", "warn", "It is not installed, so nf4 can't be used.", "%pip install bitsandbytes"
        )
    return Check("bitsandbytes", "ok", "nf4 can be used on GPU and CPU.")


def _gpu(workspace: Workspace) -> Check:
    inventory = workspace.gpus()
    count = sum(device.kind == "gpu" for device in inventory.devices)
    if inventory.driver_status == "ok":
        return Check(
            "GPU", "ok", f"{count} GPU{'s' if count != 1 else ''}, driver {inventory.driver_version}."
        )
    if inventory.driver_status == "missing":
        return Check("GPU", "ok", inventory.driver_message)
    return Check(
        "GPU", "warn", inventory.driver_message, "Mend the driver; until then models run on the CPU."
    )


def _cache(workspace: Workspace) -> Check:
    stats = workspace.cache.stats()
    if not workspace.cache.enabled:
        return Check("cache", "warn", "It is off.", "%cache on")
    if stats.rejected:
        return Check(
            "cache", "warn", f"{stats.rejected} items did not verify and were computed again.", "%cache why"
        )
    whose = (
        "whoever has the team's key uses them, too"
        if workspace.location.is_local
        else "yours only: a bucket has none"
    )
    return Check(
        "cache",
        "ok",
        f"{stats.entries} answer{'s' if stats.entries != 1 else ''} in {workspace.cache_folder}, {whose}.",
    )


def _key(workspace: Workspace) -> Check:
    from jupyter_llmops.keys.team import readable_by_others

    path = workspace.cache.store.key.path
    if path is not None and readable_by_others(path):
        return Check("team key", "warn", f"Others may read {path}.", f"!chmod 600 {path}")
    others = workspace.cache.stats().others
    if others:
        return Check(
            "team key",
            "warn",
            f"{others} answers in the cache were sealed with another key or by an older version, and are not used.",
            "Ask a colleague for %llmops invite FILE, then type %llmops join FILE",
        )
    return Check("team key", "ok", f"{path} seals what is cached; %llmops invite FILE hands it over.")


def _journal(workspace: Workspace) -> Check:
    if not workspace.settings.audit:
        return Check(
            "audit", "warn", "Cells are not stamped.", "%config LLMOps.audit = True, then load again"
        )
    waiting = workspace.journal.waiting
    if waiting:
        return Check(
            "audit",
            "fail",
            f"{waiting:,} {'record waits' if waiting == 1 else 'records wait'} in memory because {workspace.journal.path} can't be written.",
            "Free space there or make it writable; nothing is lost while this kernel lives.",
        )
    return Check("audit", "ok", f"{workspace.journal.stamped} runs in {workspace.journal.path}.")


def _coverage(workspace: Workspace) -> Check:
    from jupyter_llmops.audit.observations import observed
    from jupyter_llmops.workspace.autoload import autoloads

    states = "; ".join(str(one) for one in autoloads())
    loads = f"Autoload is {states}." if states else "Autoload is off: cells before %load_ext are in no log."
    if not workspace.doorbell.address:
        sees = "No server looks on."
    elif observed():
        sees = "The server notes which cells this kernel runs."
    else:
        return Check(
            "coverage",
            "warn",
            f"{loads} The server does not note which cells this kernel runs.",
            "Set c.LLMOps.audit = True, jupyter server extension enable jupyter_llmops, restart Jupyter",
        )
    return Check("coverage", "ok" if states else "warn", f"{loads} {sees}", "%llmops autoload on")


def _disk(workspace: Workspace) -> Check:
    folder = workspace.models_folder
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < SMALLEST_FREE_DISK:
        return Check(
            "disk", "warn", f"{free / 1e9:.1f} GB free at {folder}.", "Free some; a model needs more."
        )
    return Check("disk", "ok", f"{free / 1e9:.0f} GB free at {folder}.")


def _server(workspace: Workspace) -> Check:
    address = workspace.doorbell.address
    if not address:
        return Check("server", "ok", "None: this kernel was not started by a Jupyter server.")
    answer = workspace.doorbell.check()
    if answer:
        return Check(
            "server", "fail", answer, "jupyter server extension enable jupyter_llmops, then restart Jupyter"
        )
    return Check("server", "ok", f"{address} takes what this kernel tells it.")


def _labextension(_: Workspace) -> Check:
    from pathlib import Path

    from jupyter_core.paths import jupyter_path

    places = [Path(folder) / "jupyter-llmops" / "package.json" for folder in jupyter_path("labextensions")]
    found = [place for place in places if place.is_file()]
    if not found:
        return Check("labextension", "warn", "The sidebar is not installed.", "%pip install jupyter-llmops")
    return Check("labextension", "ok", f"{found[0].parent}")


CHECKS: dict[str, Callable[[Workspace], Check]] = {
    "catalog": _catalog,
    "private catalog": _own_catalog,
    "model": _model,
    "bitsandbytes": _quantization,
    "GPU": _gpu,
    "cache": _cache,
    "team key": _key,
    "audit": _journal,
    "coverage": _coverage,
    "disk": _disk,
    "server": _server,
    "labextension": _labextension,
}
