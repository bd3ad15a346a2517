"""A chat as the tokens of a GGUF file, by its own vocabulary and chat template."""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Sequence
from typing import Any

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.llama.library import NativeModel, library
from jupyter_llmops.records.request import Message

_LONGEST_PIECE = 4096


class LlamaChat:
    """The vocabulary and the chat template of a GGUF file; needs neither PyTorch nor a conversion.

    Parameters
    ----------
    native : NativeModel
        With or without its weights.
    """

    def __init__(self, native: NativeModel) -> None:
        self._native = native
        self._pieces: dict[int, bytes] = {}
        self.vocabulary_size = native.vocabulary_size
        self.template = native.metadata("tokenizer.chat_template")

    def render(self, messages: Sequence[Message]) -> str:
        """Return the text that the model reads, up to where its answer begins.

        A model without a chat template (a base model) reads the messages one after another,
        with a blank line between.

        Raises
        ------
        InferenceError
            The model's template refuses the messages, e.g. a system message.
        """
        if not self.template:
            return "\n\n".join(message.content for message in messages)
        chat = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(self._formatter(messages=chat).prompt)
        except Exception as error:  # templates raise whatever their author wrote
            raise InferenceError(
                f"The model's chat template refuses these messages: {error}",
                "Many models take no system message; leave --system out.",
            ) from error

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of the rendered chat: those that transformers gives it.

        A byte that no token of the vocabulary has is lost in both: SmolLM2's lacks six control characters
        and the bytes with which U+40000 to U+BFFFF begin, where no character is assigned. Transformers
        may join what stands before and after it to one token; llama.cpp leaves it apart.
        """
        # A template writes its own beginning-of-text; without one the tokenizer adds it.
        return self._tokens(self.render(messages), add_special=not self.template)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens of an answer, without special tokens."""
        return b"".join(map(self._piece, token_ids)).decode("utf-8", "replace")

    def is_stop(self, token: int) -> bool:
        """Return whether a token ends an answer."""
        return bool(library().llama_vocab_is_eog(self._native.vocabulary, token))

    @functools.cached_property
    def stop_ids(self) -> list[int]:
        """Every token that ends an answer."""
        return [token for token in range(self._native.vocabulary_size) if self.is_stop(token)]

    @functools.cached_property
    def guidance_tokenizer(self) -> Any:
        """The vocabulary in llguidance's form."""
        from llguidance.llamacpp import lltokenizer_from_vocab

        with warnings.catch_warnings():  # it asks llama.cpp by a name that is going away
            warnings.simplefilter("ignore", DeprecationWarning)
            return lltokenizer_from_vocab(self._native.vocabulary, eos_token=self.stop_ids)

    @functools.cached_property
    def _formatter(self) -> Any:
        # Aligned with transformers' apply_chat_template: the same sandbox, extensions and filters.
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        vocabulary = self._native.vocabulary
        return Jinja2ChatFormatter(
            template=self.template,
            bos_token=self._special(library().llama_vocab_bos(vocabulary)),
            eos_token=self._special(library().llama_vocab_eos(vocabulary)),
        )

    def _tokens(self, text: str, *, add_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        for _ in range(2):
            tokens = (library().llama_token * room)()
            count = library().llama_tokenize(
                self._native.vocabulary, data, len(data), tokens, room, add_special, True
            )
            if count >= 0:
                return list(tokens[:count])
            room = -count
        raise InferenceError("llama.cpp could not split the prompt into tokens.", "Shorten it.")

    def _piece(self, token: int) -> bytes:
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._text_of(token, special=False)
        return piece

    def _special(self, token: int) -> str:
        return self._text_of(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def _text_of(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(_LONGEST_PIECE)
        length = library().llama_token_to_piece(
            self._native.vocabulary, token, buffer, _LONGEST_PIECE, 0, special
        )
        return buffer.raw[: max(length, 0)]
