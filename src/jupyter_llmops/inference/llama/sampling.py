"""How the next token is chosen from llama.cpp's scores."""

from __future__ import annotations

import hashlib
import secrets
import weakref
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import UsageError
from jupyter_llmops.inference.constrained import Constraint, check_schema_parameters
from jupyter_llmops.inference.decoding import check_parameters
from jupyter_llmops.inference.llama.library import library
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.inference.llama.chat import LlamaChat
    from jupyter_llmops.inference.llama.library import NativeContext

# Decoding parameters of transformers that llama.cpp has too, and their values that change nothing.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "num_beams": (1,),
    "length_penalty": (1.0,),
    "early_stopping": (False,),
    "no_repeat_ngram_size": (0,),
    "renormalize_logits": (False, True),  # sampling always begins with a softmax
}
_LARGEST_SEED = 2**32 - 2  # llama.cpp's own "draw one" is above it


def check_request_parameters(request: InferenceRequest) -> None:
    """Refuse what llama.cpp can't decode with, before anything is computed.

    Raises
    ------
    UsageError
        A parameter is unknown, out of its range, or one that only transformers has.
    """
    check_parameters(request.parameters)
    check_schema_parameters(request)
    for name, value in request.parameters.extra:
        if name in _NEUTRAL and value not in _NEUTRAL[name]:
            raise UsageError(
                f"llama.cpp has no {name}.",
                f"Leave it out, or add --quant nf4 for an engine that has {name}.",
            )


class Sampler:
    """Chooses one answer's tokens, as if it were alone: own random numbers, penalties, schema.

    The steps come in the order of transformers' ``generate``: what may not come, penalties,
    temperature, top-k, top-p, min-p, typical.

    Parameters
    ----------
    request : InferenceRequest
        How to decode.
    chat : LlamaChat
        The vocabulary.
    prompt : list of int
        The prompt's tokens; a repetition penalty counts them too.
    """

    def __init__(self, request: InferenceRequest, chat: LlamaChat, prompt: list[int]) -> None:
        parameters = request.parameters
        extra = dict(parameters.extra)
        self._chat = chat
        self._least = int(extra.get("min_new_tokens") or 0)
        self._chosen = 0
        self._constraint = (
            Constraint(request.output_schema, chat.guidance_tokenizer) if request.output_schema else None
        )
        self._chain = _chain(parameters, prompt, chat.vocabulary_size)

    def choose(self, context: NativeContext, index: int) -> int:
        """Return the next token, from the scores of a step of the last read.

        Raises
        ------
        OutputSchemaError
            The schema's parser gave up.
        """
        scores = context.scores(index)
        if self._constraint is not None:
            scores[~self._constraint.allowed(len(scores))] = float("-inf")
        if self._chosen < self._least:
            scores[self._chat.stop_ids] = float("-inf")
        if self._chain is None:
            token = int(scores.argmax())
        else:
            token = int(library().llama_sampler_sample(self._chain.pointer, context.pointer, index))
        self._chosen += 1
        if self._constraint is not None:
            self._constraint.accept(token)
        return token


class _Chain:
    """llama.cpp's samplers one after another; frees them."""

    def __init__(self) -> None:
        lib = library()
        self.pointer: Any = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        self._close = weakref.finalize(self, lib.llama_sampler_free, self.pointer)
        self._close.atexit = False

    def add(self, sampler: Any) -> None:
        library().llama_sampler_chain_add(self.pointer, sampler)


def _chain(parameters: GenerationParameters, prompt: list[int], vocabulary: int) -> _Chain | None:
    lib = library()
    extra: dict[str, Any] = dict(parameters.extra)
    penalty = float(extra.get("repetition_penalty") or 1.0)
    if not parameters.sampled and penalty == 1.0:
        return None  # the largest score, which needs no chain
    chain = _Chain()
    if penalty != 1.0:
        memory = len(prompt) + parameters.max_new_tokens
        chain.add(lib.llama_sampler_init_penalties(vocabulary, memory, penalty, 0.0, 0.0))
        for token in prompt:
            lib.llama_sampler_accept(chain.pointer, token)
    if not parameters.sampled:
        chain.add(lib.llama_sampler_init_greedy())
        return chain
    chain.add(lib.llama_sampler_init_temp(float(parameters.temperature)))
    if extra.get("top_k"):
        chain.add(lib.llama_sampler_init_top_k(int(extra["top_k"])))
    for name in ("top_p", "min_p", "typical"):
        if share := extra.get("typical_p" if name == "typical" else name):
            chain.add(getattr(lib, f"llama_sampler_init_{name}")(float(share), 1))
    chain.add(lib.llama_sampler_init_dist(_seed(parameters.seed)))
    return chain


def _seed(seed: int | None) -> int:
    """Return llama.cpp's seed, 32 bits, of ours, 63 bits."""
    if seed is None:
        return secrets.randbelow(_LARGEST_SEED + 1)
    if seed <= _LARGEST_SEED:
        return seed
    folded = hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(folded, "little") % (_LARGEST_SEED + 1)
