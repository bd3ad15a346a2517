"""What the trail says of the machine: wired here, as the rooms of audit and of GPUs do not know each other."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_llmops.workspace.parts import Parts

if TYPE_CHECKING:
    from jupyter_llmops.audit.environment import EnvironmentWatch


class Environment(Parts):
    """How a workspace says on what its cells run."""

    def watch_environment(self) -> EnvironmentWatch:
        """Return what stamps, into the journal of now, on what cells run; it is not started yet."""
        from jupyter_llmops.audit.environment import EnvironmentWatch

        return EnvironmentWatch(self.journal, _gpus)

    def stamp_environment(self) -> None:
        """Stamp on what a session without cells runs, a script's or a rank's; where cells are stamped, they do."""
        if self.stamper is None and self.settings.audit:
            self._own_environment.look()

    @cached_property
    def _own_environment(self) -> EnvironmentWatch:
        return self.watch_environment()


def _gpus() -> dict[str, Any]:
    """Return the GPUs and their driver, as a leaf has them: without what changes from moment to moment."""
    from jupyter_llmops.gpus.nvml import read_gpus

    answer = read_gpus()
    gpus = [
        {"name": gpu.name, "uuid": gpu.uuid, "memory_total_bytes": gpu.memory_total_bytes}
        for gpu in answer.devices
    ]
    return {"driver": answer.version, "driver_status": answer.status, "gpus": gpus}
