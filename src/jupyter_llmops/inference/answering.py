"""One answer, and what is checked before."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from jupyter_llmops.errors import ContextError, InferenceError
from jupyter_llmops.inference import decoding
from jupyter_llmops.inference.constrained import logits_processors
from jupyter_llmops.inference.quiet import quiet
from jupyter_llmops.inference.streaming import TextStream
from jupyter_llmops.records.completion import FinishReason, Generation
from jupyter_llmops.records.request import InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.inference.loading import LoadedWeights


def check_request(request: InferenceRequest, weights: LoadedWeights) -> None:
    """Refuse a request for other weights or another device than these.

    Raises
    ------
    InferenceError
        It is for others; nothing was computed.
    """
    device = weights.entry.device
    if request.model_digest != weights.digest:
        # The digest is in the key and in the record: an answer of other weights must not get there.
        raise InferenceError(
            f"The request is for other files of {request.model!r} than the ones that are here.",
            "Ask again; to reproduce an old run, restore the files that it names.",
        )
    if request.adapter_digest != weights.adapter_digest:
        from jupyter_llmops.inference.adapters import other_adapter

        raise other_adapter(request)
    if request.device != device:
        raise InferenceError(
            f"The request is for {request.device}, but models run on {device} here.",
            "Run it where there is one, or ask again without the record.",
        )


def check_context(tokens_in: int, limit: int, context: int | None) -> None:
    """Refuse what does not fit the context.

    Parameters
    ----------
    tokens_in, limit : int
        Tokens of the prompt, and most tokens of the answer.
    context : int or None
        Most tokens of both together; None where nobody knows.

    Raises
    ------
    ContextError
        It does not fit; the sentence has the counts.
    """
    if context is None or tokens_in + limit <= context:
        return
    if tokens_in >= context:
        raise ContextError(
            f"The prompt has {tokens_in:,} tokens, more than the model's context of {context:,}.",
            "Shorten it, or add --truncate.",
        )
    raise ContextError(
        f"The prompt has {tokens_in:,} tokens; with {limit:,} of an answer that is more than the "
        f"model's context of {context:,}.",
        f"Type -n {context - tokens_in} or less, shorten the prompt, or add --truncate.",
    )


def answer_one(
    weights: LoadedWeights,
    request: InferenceRequest,
    prompt: list[int],
    on_text: Callable[[str], None] | None = None,
) -> Generation:
    """Answer one request, token by token; after Ctrl-C with what had come.

    Parameters
    ----------
    weights : LoadedWeights
        The model.
    request : InferenceRequest
        How to decode.
    prompt : list of int
        The tokens of its messages.
    on_text : callable, optional
        Gets each piece of text as it comes, in this thread.
    """
    import torch

    parameters = request.parameters
    device = weights.entry.device
    stream = TextStream(weights.chat.decode, on_text)
    beams = int(dict(parameters.extra).get("num_beams") or 1)
    began = time.perf_counter()
    finish: FinishReason = "interrupted"
    try:
        config = decoding.generation_config(parameters, weights.stop_ids, weights.pad_id)
        ids = torch.tensor([prompt], dtype=torch.long, device=device)
        with quiet(), torch.inference_mode(), decoding.own_random_state(parameters.seed, device):
            answer = weights.net.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                logits_processor=logits_processors(request, weights.chat, weights.stop_ids, len(prompt)),
                # Beams are only known at the end; transformers refuses to stream them.
                streamer=stream if beams == 1 else None,
            )
        if beams > 1:
            stream.extend(answer[0, len(prompt) :].tolist())
        ended = bool(stream.token_ids) and stream.token_ids[-1] in weights.stop_ids
        stream.finish(complete=ended)
        finish = "stop" if ended else "length"
    except KeyboardInterrupt:
        stream.finish(complete=False)
    seconds = time.perf_counter() - began
    return Generation(stream.text, tuple(stream.token_ids), len(prompt), seconds, finish)
