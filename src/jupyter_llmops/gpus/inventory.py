"""What this machine has, at one moment, with the prices that were configured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import UTC, datetime

from jupyter_llmops.gpus.host import read_host
from jupyter_llmops.gpus.nvml import read_gpus
from jupyter_llmops.records.gpu import Device, DeviceInventory


def read_inventory(site: str, prices: Mapping[str, float], currency: str) -> DeviceInventory:
    """Return this machine's GPUs and, last, its CPU with the RAM; never raises for a driver's fault.

    Takes some milliseconds, and 0.1 s more when the last reading is not recent.

    Parameters
    ----------
    site : str
        Name of this machine or site.
    prices : mapping of str to float
        Price of an hour by device name, part of a device name, or ``"cpu"``.
    currency : str
        Of the prices, e.g. "USD".
    """
    driver = read_gpus()
    devices = (*driver.devices, read_host())
    return DeviceInventory(
        site=site,
        devices=tuple(dataclasses.replace(one, price_per_hour=_price(one, prices)) for one in devices),
        driver_status=driver.status,
        driver_message=driver.message,
        driver_version=driver.version,
        measured_at=datetime.now(UTC),
        currency=currency,
    )


def _price(device: Device, prices: Mapping[str, float]) -> float | None:
    """Return the device's price: by its exact name, else by the longest entry found within it.

    "cpu" names the CPU's row. No entry is no price, and neither is one that is not above 0: it
    would read as free.
    """
    name = device.name.casefold()
    within = [entry for entry in prices if entry.strip() and entry.casefold() in name]
    if device.name in prices:
        entry = device.name
    elif device.kind == "cpu" and any(key.casefold() == "cpu" for key in prices):
        entry = next(key for key in prices if key.casefold() == "cpu")
    elif within:
        entry = max(within, key=len)
    else:
        return None
    price = float(prices[entry])
    return price if math.isfinite(price) and price > 0 else None
