"""Tokens as they come, as text that never shows half a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_HALF = "\ufffd"


class CallbackFailed(BaseException):
    """Carries an exception of the caller's callback past the boundary that maps the library's own."""

    def __init__(self, original: Exception) -> None:
        super().__init__(original)
        self.original = original


class TextStream:
    """Collects the answer's tokens and hands on what is complete text.

    A character can span several tokens and a token's text can depend on the one before it, so
    each new token is decoded together with the last ones; text that ends in half a character waits.
    This is also how answers get their text when nobody listens, so both are the same.

    Parameters
    ----------
    decode : callable
        Turns a list of token ids into text, without special tokens.
    on_text : callable, optional
        Gets each new piece, in the thread that generates; the pieces joined are `text`.
    """

    def __init__(
        self, decode: Callable[[list[int]], str], on_text: Callable[[str], None] | None = None
    ) -> None:
        self._decode = decode
        self._on_text = on_text
        self._pieces: list[str] = []
        self._context = 0  # first token that is decoded again
        self._done = 0  # tokens whose text was handed on
        self.token_ids: list[int] = []
        self._prompt_seen = False

    @property
    def text(self) -> str:
        """The text handed on so far."""
        return "".join(self._pieces)

    def put(self, value: Any) -> None:
        """Take what the library's streamer protocol gives: the prompt first, then token after token."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self.extend(value.reshape(-1).tolist())

    def end(self) -> None:
        """Part of the library's protocol; `finish` does the work."""

    def extend(self, token_ids: Sequence[int]) -> None:
        """Take tokens of the answer."""
        self.token_ids.extend(token_ids)
        fresh = self._fresh()
        if fresh and not fresh.endswith(_HALF):
            self._hand_on(fresh)

    def finish(self, *, complete: bool) -> None:
        """Hand on what waited; half a character only where the answer really ends in one.

        Parameters
        ----------
        complete : bool
            False when the answer was cut off, by its limit or from outside.
        """
        fresh = self._fresh()
        if not complete:
            fresh = fresh.rstrip(_HALF)
        if fresh:
            self._hand_on(fresh)

    def _fresh(self) -> str:
        known = self._decode(self.token_ids[self._context : self._done])
        return self._decode(self.token_ids[self._context :])[len(known) :]

    def _hand_on(self, fresh: str) -> None:
        self._context, self._done = self._done, len(self.token_ids)
        self._pieces.append(fresh)
        if self._on_text is None:
            return
        try:
            self._on_text(fresh)
        except Exception as error:
            raise CallbackFailed(error) from error
