"""A chat as the tokens that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.quiet import quiet
from jupyter_llmops.records.request import Message


class ChatTokenizer:
    """A model's tokenizer and chat template.

    Parameters
    ----------
    folder : Path
        Where tokenizer.json and the chat template are.
    unsafe : bool
        Whether this user allowed the model to run code of its own.

    Raises
    ------
    InferenceError
        The folder holds no tokenizer that can be read.
    """

    def __init__(self, folder: Path, *, unsafe: bool = False) -> None:
        from transformers import AutoTokenizer

        try:
            with quiet():
                self.inner: Any = AutoTokenizer.from_pretrained(
                    folder, trust_remote_code=unsafe, local_files_only=True
                )
        except Exception as error:  # tokenizers raises nothing more precise
            if "trust_remote_code" in str(error) or isinstance(error, MemoryError):
                raise
            raise InferenceError(
                f"The tokenizer in {folder} can't be read.",
                "Its tokenizer.json is missing or damaged; copy tokenizer.json and tokenizer_config.json "
                "from where the model came from, then run the cell again.",
            ) from error

    def render(self, messages: Sequence[Message]) -> str:
        """Return the text that the model reads, up to where its answer begins.

        A model without a chat template (a base model) reads the messages one after another,
        with a blank line between.

        Raises
        ------
        InferenceError
            The model's template refuses the messages, e.g. a system message.
        """
        if not self.inner.chat_template:
            return "\n\n".join(message.content for message in messages)
        chat = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(self.inner.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # templates raise whatever their author wrote
            raise InferenceError(
                f"The model's chat template refuses these messages: {error}",
                "Many models take no system message; leave --system out.",
            ) from error

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of the rendered chat."""
        text = self.render(messages)
        # A template writes its own beginning-of-text; without one the tokenizer adds it.
        ids = self.inner(text, add_special_tokens=not self.inner.chat_template)["input_ids"]
        return [int(token) for token in ids]

    def encode_answer(self, text: str) -> list[int]:
        """Return the tokens of a text that continues the chat as the model's answer."""
        return [int(token) for token in self.inner(text, add_special_tokens=False)["input_ids"]]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens of an answer, without special tokens."""
        return str(
            self.inner.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )
