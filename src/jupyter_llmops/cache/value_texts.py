"""The texts in a value that may be kept, for whoever searches them for secrets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

_PIECE: Final = 50_000


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in a value, short ones joined by line ends.

    Parameters
    ----------
    value : object
        What `values.encode_value` takes; other values have no texts.
    """
    piece: list[str] = []
    length = 0
    for text in _each(value):
        piece.append(text)
        length += len(text)
        if length >= _PIECE:
            yield "\n".join(piece)
            piece, length = [], 0
    if piece:
        yield "\n".join(piece)


def _each(value: Any) -> Iterator[str]:
    kind = type(value)
    if kind is str:
        yield value
    elif kind is bytes:
        yield value.decode("utf-8", "replace")
    elif kind in (list, tuple):
        yield from _all(value)
    elif kind is dict:
        yield from _all(value)
        yield from _all(value.values())
    else:
        yield from _array(value, kind)


def _all(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        yield from _each(value)


def _array(value: Any, kind: type) -> Iterator[str]:
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and (kind is numpy.ndarray or isinstance(value, numpy.generic)):
        if value.dtype.kind in "USVO":
            yield from _all(value.ravel().tolist())
    elif pandas is not None and kind is pandas.DataFrame:
        yield from _all(value.columns.tolist())
        yield from _all([value.attrs])
        for part in (value.index, *(value.iloc[:, at] for at in range(value.shape[1]))):
            if part.dtype.kind == "O":  # texts, categories, and what else is no number
                yield from _all(part.tolist())
    elif pandas is not None and kind is pandas.Series:
        yield from _array(value.to_frame(), pandas.DataFrame)
