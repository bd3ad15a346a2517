"""Marks that an answer is wrong: sealed, beside the item, for everyone who has the key.

A mark names the answer by its digest, so it says nothing of another answer to the same request, and two people
who mark at once don't undo each other. It outlives the item, as the same model would give the same again.

Whoever stores an answer looks for its mark before and after; whoever marks first writes the mark and then
removes the item. In whatever order these happen, no marked answer stays behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from jupyter_llmops.cache.answer import (
    StoredAnswer,
    answer_from_json,
    answer_to_json,
    encode_answer,
    user_at_host,
)
from jupyter_llmops.cache.item_folder import MARK_SUFFIX, SUFFIX
from jupyter_llmops.cache.item_format import ItemRejectedError
from jupyter_llmops.cache.plain_json import plain_dumps, plain_loads
from jupyter_llmops.cache.store import ItemStore
from jupyter_llmops.records.cache import WrongMark

_LONGEST_WHY: Final = 1000


@dataclass(frozen=True, slots=True)
class MarkedAnswer:
    """A wrong answer and its mark."""

    answer: StoredAnswer
    mark: WrongMark


class WrongMarks:
    """The marks beside the items of a store."""

    def __init__(self, store: ItemStore) -> None:
        self._store = store

    def find(self, answer: StoredAnswer) -> MarkedAnswer | None:
        """Return the mark of this very answer, None where nobody marked it.

        Raises
        ------
        ItemRejectedError
            Something is there that does not verify.
        """
        # One call of the system a hit, where there is no mark.
        return self._read(answer.key, _suffix(answer.digest)) if self.has(answer) else None

    def has(self, answer: StoredAnswer) -> bool:
        """Return whether something lies where the mark of this very answer would."""
        return self._store.items.has(answer.key + _suffix(answer.digest))

    def put(self, answer: StoredAnswer, why: str) -> WrongMark:
        """Mark an answer and remove its item.

        Raises
        ------
        OSError
            The folder can't be written.
        """
        made = WrongMark(
            answer.key, answer.generation.text, user_at_host(), datetime.now(UTC), why[:_LONGEST_WHY]
        )
        said = {"by": made.by, "at": made.at.isoformat(), "why": made.why}
        body = plain_dumps({"answer": answer_to_json(answer), "wrong": said})
        self._store.put_mark(answer.key, _suffix(answer.digest), body)
        self._store.items.remove(answer.key + SUFFIX)
        return made

    def undo(self, key: str) -> tuple[list[MarkedAnswer], int]:
        """Remove every mark of a request's answers and store the newest of these again.

        Returns
        -------
        marked : list of MarkedAnswer
            The newest last.
        planted : int
            How many marks did not verify; they are removed too.
        """
        items, planted = self._store.items, 0
        found: list[MarkedAnswer] = []
        for name in items.names(key, MARK_SUFFIX):
            try:
                marked = self._read(key, name[len(key) :])
            except ItemRejectedError:
                planted += 1
                marked = None
            if marked is not None:
                found.append(marked)
            items.remove(name)
        found.sort(key=lambda marked: marked.mark.at)
        if found and not items.has(key + SUFFIX):
            answer = found[-1].answer
            self._store.keep(key, encode_answer(answer), answer.generation.seconds)
        return found, planted

    def _read(self, key: str, suffix: str) -> MarkedAnswer | None:
        found = self._store.lookup(key, suffix, "mark")
        if found is None:
            return None
        try:
            value = plain_loads(found[0])
            answer, said = answer_from_json(value["answer"]), value["wrong"]
            by, why, at = str(said["by"]), str(said["why"]), datetime.fromisoformat(said["at"])
        except (KeyError, TypeError, ValueError) as error:
            raise ItemRejectedError(f"holds no mark ({error})") from error
        if answer.key != key or _suffix(answer.digest) != suffix:
            raise ItemRejectedError("is the mark of another answer")
        return MarkedAnswer(answer, WrongMark(key, answer.generation.text, by, at, why))


def _suffix(digest: str) -> str:
    return f"-{digest}{MARK_SUFFIX}"
