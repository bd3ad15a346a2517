"""What maps that were stopped had finished, so that the same map goes on where it stopped."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from jupyter_llmops.records.cache import CacheResult
from jupyter_llmops.records.map import MapRow

MOST = 8


@dataclass(slots=True)
class Finished:
    """The part of a map that is done.

    Parameters
    ----------
    run_id : str
        The map's run in the trail.
    rows : dict
        Rows by their position and the key of what they ask: a row that was changed since is asked anew.
    answers : dict
        Answers that no cache holds, by key, for rows that repeat them.
    """

    run_id: str = ""
    rows: dict[tuple[int, str], MapRow] = field(default_factory=dict)
    answers: dict[str, CacheResult] = field(default_factory=dict)


class UnfinishedMaps:
    """The last few maps of this process that were stopped, by what they ask."""

    def __init__(self) -> None:
        self._maps: OrderedDict[str, Finished] = OrderedDict()

    def find(self, signature: str) -> Finished:
        """Return what a map had finished; empty where it was never stopped."""
        return self._maps.get(signature) or Finished()

    def keep(self, signature: str, finished: Finished) -> None:
        """Remember what a stopped map has finished."""
        self._maps[signature] = finished
        self._maps.move_to_end(signature)
        while len(self._maps) > MOST:
            self._maps.popitem(last=False)

    def forget(self, signature: str) -> None:
        """Let a map begin anew: it came to its end."""
        self._maps.pop(signature, None)
