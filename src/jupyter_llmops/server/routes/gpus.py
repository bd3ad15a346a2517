"""GET gpus: this machine's GPUs, its CPU and RAM."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import authenticated

from jupyter_llmops.gpus import read_inventory
from jupyter_llmops.records.gpu import Device
from jupyter_llmops.server.routes.base import LLMOpsHandler, when


class GpusHandler(LLMOpsHandler):
    """The devices, as they are now; null is a value that could not be measured."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer the devices."""
        await self.answer(self._gpus)

    def _gpus(self) -> dict[str, Any]:
        settings = self.state.settings
        found = read_inventory(settings.site, settings.price_per_hour, settings.currency)
        return {
            "site": found.site,
            "currency": found.currency,
            "driver": {
                "status": found.driver_status,
                "message": found.driver_message,
                "version": found.driver_version,
            },
            "measured_at": when(found.measured_at),
            "devices": [_device(device) for device in found.devices],
        }


def _device(device: Device) -> dict[str, Any]:
    return {
        "kind": device.kind,
        "name": device.name,
        "index": device.index,
        "memory_total_bytes": device.memory_total_bytes,
        "memory_free_bytes": device.memory_free_bytes,
        "utilization_percent": device.utilization_percent,
        "processes": None if device.processes is None else len(device.processes),
        "price_per_hour": device.price_per_hour,
        "problem": device.problem,
    }
