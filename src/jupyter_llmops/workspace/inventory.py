"""The inventory: models and devices."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.workspace.parts import Parts, Progress

if TYPE_CHECKING:
    from jupyter_llmops.records.gpu import Device, DeviceInventory
    from jupyter_llmops.records.model import Model

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?$", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Inventory(Parts):
    """What a workspace knows of models and devices."""

    def models(self) -> Listing[Model]:
        """Return every model of the catalog, and those that are installed as packages."""
        from jupyter_llmops.inference.sources import known_models

        listed = {model.name: model for model in known_models()}
        listed |= {model.name: model for model in self.catalog.models.list()}
        return Listing("model", list(listed.values()), "Add one with %models add NAME SOURCE.")

    def add_model(self, name: str, source: str) -> Model:
        """Add a model to the catalog under a name.

        Parameters
        ----------
        name : str
            What people will type.
        source : str
            A folder, a GGUF file, a hub id ``OWNER/NAME`` or a known model's name.
        """
        from jupyter_llmops.inference.sources import digest_of, known_models, resolve

        found = resolve(source, self.catalog.models.list)
        for default in known_models():
            if name.strip().casefold() == default.name and found.source != default.source:
                raise UsageError(
                    f"{name!r} is the name of a default model, which would be used in place of {source}.",
                    f"Type %models add my-{default.name} {source}.",
                )
        found = digest_of(found, self.models_folder, offline=self.settings.stay_offline())
        added = self.catalog.models.add(
            replace(
                found,
                name=name,
                aliases=(),
                site=self.settings.site,
                created_by=self.user,
                created_at=datetime.now(UTC),
            )
        )
        self.doorbell.ring("models")
        return added

    def load_model(self, name: str, quantization: str = "", progress: Progress | None = None) -> str:
        """Load a model into memory and return what was loaded, in words."""
        model = self.model(name)
        identity = self.engine.identify(model, quantization or self.settings.quantization)
        self.engine.load(model, identity.quantization, progress)
        return f"{model.name} is loaded as {identity.quantization} on {identity.device}: {identity.reason}"

    def unload_models(self, name: str = "") -> list[str]:
        """Drop one model, or all, from memory and return their names."""
        if "engine" not in self.__dict__:
            return []
        wanted = self.model(name).name if name else ""
        names = [loaded.name for loaded in self.engine.loaded() if not wanted or loaded.name == wanted]
        for loaded in names:
            self.engine.unload(loaded)
        return names

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
