"""The inventory of devices."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_llmops.errors import UsageError
from jupyter_llmops.workspace.parts import Parts

if TYPE_CHECKING:
    from jupyter_llmops.records.gpu import Device, DeviceInventory

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?$", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Inventory(Parts):
    """What a workspace knows of devices."""

    def gpus(self, *, free: str = "", sort: str = "index") -> DeviceInventory:
        """Return the GPUs of this machine, with its CPU and RAM as the last row.

        Parameters
        ----------
        free : str
            Only GPUs with at least this much free, e.g. "20GB"; those that don't tell are left out.
        sort : {"index", "free", "price"}
            Order of the GPUs; the most free, or the cheapest, comes first.
        """
        from jupyter_llmops.gpus import read_inventory

        least = parse_size(free) if free else 0
        inventory = read_inventory(self.settings.site, self.settings.price_per_hour, self.settings.currency)
        gpus = [device for device in inventory.devices if device.kind == "gpu"]
        others = [device for device in inventory.devices if device.kind != "gpu"]
        if least:
            gpus = [device for device in gpus if (device.memory_free_bytes or 0) >= least]
        if sort == "free":
            gpus.sort(key=lambda device: -(device.memory_free_bytes or 0))
        elif sort == "price":
            gpus.sort(key=_price)
        return replace(inventory, devices=(*gpus, *others))


def _price(device: Device) -> float:
    return float("inf") if device.price_per_hour is None else device.price_per_hour


def parse_size(text: str) -> int:
    """Return a size such as "20GB" or "512MiB" in bytes; GB counts in powers of 1000, GiB of 1024.

    Raises
    ------
    UsageError
        It is not a size.
    """
    match = _SIZE.match(text.strip())
    if not match:
        raise UsageError(f"{text!r} is not a size.", "Type a number with a unit, e.g. --free 20GB.")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _POWERS[match[2].upper()])
