"""Watching a lease: waiting as long as its holder is seen to live, and no longer."""

from __future__ import annotations

import time

from jupyter_llmops.cache.holders import Holder
from jupyter_llmops.cache.leases import Claim, Leases


class Watch:
    """Looks at who has an item's lease, and takes it when nobody alive has it.

    Parameters
    ----------
    leases : Leases
        Where.
    item : str
        What.
    """

    def __init__(self, leases: Leases, item: str) -> None:
        self._leases = leases
        self.item = item
        self.seen: Holder | None = None
        self.holders = 0
        self._looked_at = time.monotonic()
        self._unmoved = 0.0
        self._began = self._looked_at

    @property
    def seconds(self) -> float:
        """How long the present holder has been watched, at least."""
        return time.monotonic() - self._began

    def look(self) -> Holder | None:
        """Look once more; None where the lease is free."""
        found = self._leases.holder(self.item)
        now = time.monotonic()
        # At most a part of the patience for one look: who slept itself, stopped or suspended, saw nothing meanwhile.
        passed = min(now - self._looked_at, self._leases.stale_seconds / 4)
        self._looked_at = now
        self._unmoved = self._unmoved + passed if found == self.seen else 0.0
        if found is not None and (self.seen is None or found.name != self.seen.name):
            self.holders += 1
            self._began = now
        self.seen = found
        return found

    def claim(self) -> Claim | None:
        """Look, and take the lease if it is free, or its holder dead or stale; None while one lives."""
        found = self.look()
        if found is None:
            claim = self._leases.take(self.item)
            # Held by somebody whose folder we may not even look into: no patience without end.
            return Claim() if claim is None and self._unmoved >= self._leases.stale_seconds else claim
        if self._leases.has(found):
            return Claim()  # the very thread that computes it asks for it again
        return self._leases.steal(self.item, found) if self._has_lost(found) else None

    def is_abandoned(self) -> bool:
        """Look, and return whether there is nobody whom it makes sense to wait for."""
        found = self.look()
        return found is None or self._leases.has(found) or self._has_lost(found)

    def _has_lost(self, holder: Holder) -> bool:
        return self._unmoved >= self._leases.stale_seconds or holder.dead
