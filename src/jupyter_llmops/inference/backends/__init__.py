"""Where a map is computed: the kernel, processes of this machine, or a Dask or Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_llmops.inference.backends.specification import BACKENDS, is_backend, parse_backend

if TYPE_CHECKING:
    from jupyter_llmops.inference.backends.backend import Backend
    from jupyter_llmops.inference.engines import Engines

__all__ = ["BACKENDS", "is_backend", "open_backend", "parse_backend"]


def open_backend(
    spec: str, *, models_folder: Path, offline: bool, engines: Engines, workers: int | None = None
) -> Backend:
    """Return the backend that a user has typed.

    Keep it open for the next map: its workers hold their models.

    Parameters
    ----------
    spec : str
        ``kernel``; ``loky`` or ``loky:4``; ``dask`` or ``dask:tcp://host:8786``; ``ray`` or
        ``ray:host:6379``. Without an address it is the notebook's own Dask client or Ray connection, or
        else a cluster on this machine.
    models_folder : Path
        The models folder; a worker on a machine that does not have it uses its own.
    offline : bool
        Never ask the Hugging Face hub.
    engines : Engines
        This process's engines, for ``kernel``.
    workers : int, optional
        How many processes a backend on this machine starts, where `spec` does not say.

    Raises
    ------
    UsageError
        There is no such backend.
    MissingDependencyError
        Its package is not installed.
    BackendError
        The cluster can't be reached, or its workers have other versions.
    """
    chosen = parse_backend(spec, workers)
    if chosen.kind == "loky":
        from jupyter_llmops.inference.backends.processes import LokyBackend

        return LokyBackend(models_folder, offline=offline, workers=chosen.workers)
    if chosen.kind == "dask":
        from jupyter_llmops.inference.backends.dask_cluster import DaskBackend

        return DaskBackend(models_folder, offline=offline, address=chosen.address, workers=chosen.workers)
    if chosen.kind == "ray":
        from jupyter_llmops.inference.backends.ray_cluster import RayBackend

        return RayBackend(models_folder, offline=offline, address=chosen.address, workers=chosen.workers)
    from jupyter_llmops.inference.backends.kernel import KernelBackend

    return KernelBackend(engines)
