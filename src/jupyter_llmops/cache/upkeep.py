"""Keeping a cache within its limits all the time: what the agent calls, and one process of all hosts does."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jupyter_llmops.cache.eviction import Evicted, Evictor
from jupyter_llmops.cache.leases import Claim, Leases
from jupyter_llmops.cache.limits import LIMITS, read_limits
from jupyter_llmops.cache.watch import Watch
from jupyter_llmops.records.cache import CacheLimits

UPKEEP: Final = "upkeep"
SECONDS_BETWEEN_LOOKS: Final = 60.0
_SECONDS_BETWEEN_TIDYING: Final = 3600.0
# Ten times what evicting from a million items takes; two that evict at once do no harm.
_LONGEST_UPKEEP: Final = 6 * 3600.0
# A folder that takes long to look through is looked through less often.
_SHARE_OF_TIME: Final = 0.02
_FAN: Final = re.compile(r"[0-9a-f]{2}", re.ASCII)
_PLACE: Final = re.compile(r"v[0-9]+-[0-9a-f]{8}", re.ASCII)


class CacheUpkeep:
    """Evicts when it is due and this one is elected.

    Parameters
    ----------
    folder : Path
        The cache's folder.
    default : CacheLimits
        The limits where the folder has none of its own.
    """

    def __init__(self, folder: Path, default: CacheLimits) -> None:
        self._folder = folder
        self._default = default
        self._evictor = Evictor(folder)
        self._watch: Watch | None = None
        self._next_look = 0.0
        self._next_tidying = 0.0
        self._seen: int | None = None

    def look(self, now: Callable[[], float] = time.monotonic) -> Evicted:
        """Do what is due; what a watcher calls all the time. Costs nothing between two looks."""
        if now() < self._next_look:
            return Evicted()
        begun = now()
        evicted = self._evict_if_due()
        self._next_look = begun + max(SECONDS_BETWEEN_LOOKS, (now() - begun) / _SHARE_OF_TIME)
        return evicted

    def _evict_if_due(self) -> Evicted:
        limits = read_limits(self._folder, self._default)
        changed = self._changes()
        # Where nothing came or went the sizes are the same; ages are not.
        if changed is None or (changed == self._seen and limits.age_seconds is None):
            return Evicted()
        if self._watch is None:
            self._watch = Watch(Leases(str(self._folder)), UPKEEP)
        claim = self._watch.claim()
        if claim is None and self._watch.seconds >= _LONGEST_UPKEEP:
            claim = Claim()  # whoever has it so long only says so
        elif claim is None or not claim.name:  # another does it, or nothing can be written here
            return Evicted()
        with claim:
            evicted = self._evictor.evict(limits)
            if time.monotonic() >= self._next_tidying:
                self._next_tidying = time.monotonic() + _SECONDS_BETWEEN_TIDYING
                self._evictor.tidy()
        self._watch, self._seen = None, self._changes()
        return evicted

    def _changes(self) -> int | None:
        """Return what changes whenever an item came or went, or the limits did; None without a cache."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208
        except OSError:
            return None
        places = [str(self._folder), *(f"{self._folder}/{name}" for name in names if _PLACE.fullmatch(name))]
        seen = [_changed_at(f"{self._folder}/{LIMITS}")]
        for place in places:
            with contextlib.suppress(OSError):
                fans = sorted(fan for fan in os.listdir(place) if _FAN.fullmatch(fan))  # noqa: PTH208
                seen += [_changed_at(f"{place}/{fan}") for fan in fans]
        return hash(tuple(seen))


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0
