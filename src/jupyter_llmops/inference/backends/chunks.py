"""How many requests a worker gets at a time: enough to batch, few enough that all workers end together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from jupyter_llmops.records.request import InferenceRequest

# Beyond this a batch gains nothing, and a lost worker loses more; as in `batching.MOST_ROWS`.
LARGEST: Final = {"cpu": 64, "cuda": 256}


@dataclass(slots=True)
class Chunk:
    """Some requests that one worker answers together.

    Parameters
    ----------
    positions : tuple of int
        Where they are in the whole.
    lost : int
        How often a worker was lost with it.
    """

    positions: tuple[int, ...]
    lost: int = 0


class Chunks:
    """The requests that nobody computes yet.

    Long requests first and those of like length together: a batch is as slow as its longest row, and what
    comes last should be short. The size of a chunk is half of a fair share of what is left (factoring,
    Hummel et al. 1992), but no less than half of the largest: nf4 on a CPU takes 89 ms a row in batches
    of 64, 93 of 32, 116 of 16 and 149 of 8, so smaller chunks lose more than an even end gains.

    Parameters
    ----------
    requests : sequence of InferenceRequest
        All of them.
    """

    def __init__(self, requests: Sequence[InferenceRequest]) -> None:
        self._largest = LARGEST.get(requests[0].device, LARGEST["cpu"]) if requests else 1
        order = sorted(range(len(requests)), key=lambda index: -_length(requests[index]))
        self._fresh = deque(order)
        self._total = len(order)
        self._again: deque[Chunk] = deque()

    def __bool__(self) -> bool:
        return bool(self._fresh or self._again)

    def take(self, workers: int) -> Chunk:
        """Return the next chunk; raises IndexError when there is none.

        Parameters
        ----------
        workers : int
            How many compute at the moment.
        """
        if self._again:
            return self._again.popleft()
        if not self._fresh:
            raise IndexError("no chunk is left")
        left, workers = len(self._fresh), max(1, workers)
        share = -(-self._total // workers)
        # A single worker has nobody to wait for.
        even = left if workers == 1 else left // workers // 2
        size = min(left, share, self._largest, max(even, self._largest // 2))
        return Chunk(tuple(self._fresh.popleft() for _ in range(size)))

    def give_back(self, chunk: Chunk) -> None:
        """Have a chunk computed again, before anything else."""
        self._again.append(chunk)

    def rest(self) -> Iterator[int]:
        """Yield, and take out, the positions of everything that is left."""
        while self:
            yield from self.take(1).positions


def _length(request: InferenceRequest) -> int:
    # Four letters a token is near enough to sort by.
    letters = sum(len(message.content) for message in request.messages)
    return letters // 4 + request.parameters.max_new_tokens
