"""The columns that maps add to data frames: nothing that is not theirs is overwritten unasked."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from jupyter_llmops.errors import UsageError


class MapColumns:
    """Writes answers into data frames, and knows which columns it wrote."""

    def __init__(self) -> None:
        # By identity, as a data frame has no hash; the reference says whether it is still that one.
        self._written: dict[tuple[int, str], tuple[weakref.ref[Any], list[Any]]] = {}

    def check(self, frame: Any, column: str, *, replace: bool, reads: Sequence[str]) -> None:
        """Refuse, before anything is computed, a column that can't be written.

        Parameters
        ----------
        frame : object
            What is mapped.
        column : str
            Its name.
        replace : bool
            Whether it may exist.
        reads : sequence of str
            The variables that the template reads: to replace one of them would change what was asked.

        Raises
        ------
        UsageError
            It can't; the hint says what to type.
        """
        from jupyter_llmops.prompting.rows import is_frame

        if not column:
            raise UsageError("There is no column to replace.", "Name it with --column NAME.")
        if not is_frame(frame):
            raise UsageError(
                f"A column can be added to a data frame, and this is a {type(frame).__name__}.",
                "Leave --column out and keep the result with --into VAR; its .values are the answers in order.",
            )
        if column in reads and column in frame.columns:
            raise UsageError(
                f"The template reads the column {column!r}, so its answers can't replace it.",
                "Give the new column another name.",
            )
        if column in frame.columns and not replace and not self._is_ours(frame, column):
            raise UsageError(
                f"The data frame has a column {column!r} already.",
                "Type --replace to overwrite it, or another name behind --column.",
            )

    def write(self, frame: Any, column: str, values: Sequence[Any]) -> None:
        """Add or replace a column; None where a row has no answer."""
        import pandas as pd

        if len(values) != len(frame):
            raise UsageError(
                f"The data frame had {len(values)} rows when the map began and has {len(frame)} now, so the "
                f"column {column!r} was not added.",
                "Keep the answers with --into VAR, or run the cell again; what is done is not computed again.",
            )
        frame[column] = pd.Series(list(values), index=frame.index, dtype=_dtype(values))
        key = (id(frame), column)
        gone = weakref.ref(frame, lambda _: self._written.pop(key, None))
        self._written[key] = (gone, frame[column].tolist())

    def _is_ours(self, frame: Any, column: str) -> bool:
        """Return whether a map wrote this column into this very data frame and nobody changed it since."""
        known = self._written.get((id(frame), column))
        if known is None or known[0]() is not frame or frame is None:
            return False
        now = frame[column]
        return hasattr(now, "tolist") and repr(now.tolist()) == repr(known[1])


def _dtype(values: Sequence[Any]) -> str | None:
    """Return the type of a column of answers: text where all are, else whatever they are."""
    return None if all(value is None or isinstance(value, str) for value in values) else "object"
