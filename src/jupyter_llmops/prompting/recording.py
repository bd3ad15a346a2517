"""What the trail keeps of a prompt's run, and the completion that the caller gets."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from jupyter_llmops.errors import OutputSchemaError
from jupyter_llmops.inference.manifest import tokenizer_digest
from jupyter_llmops.records.completion import Completion
from jupyter_llmops.records.cost import UNKNOWN_COST, Cost

if TYPE_CHECKING:
    from jupyter_llmops.prompting.draft import PreparedPrompt
    from jupyter_llmops.records.cache import CacheResult
    from jupyter_llmops.records.prompt import Prompt

_FREE: Final = Cost(0.0, basis="from the cache")


class Stamp(Protocol):
    """Appends one leaf to the trail; see `audit.journal.Journal.stamp`."""

    def __call__(
        self,
        kind: str,
        *,
        id: str | None = None,
        parent: str = "",
        status: str = "ok",
        started_at: datetime,
        seconds: float,
        fields: dict[str, Any],
        content: dict[str, str],
    ) -> str:
        """Append one leaf and return the run's id."""
        ...


def completion_of(prepared: PreparedPrompt, result: CacheResult, seconds: float) -> Completion:
    """Return the completion of an answer; it has no run yet.

    Parameters
    ----------
    prepared : PreparedPrompt
        What was asked.
    result : CacheResult
        The answer, reused or computed.
    seconds : float
        What this call took.
    """
    generation, request = result.generation, prepared.request
    return Completion(
        text=generation.text,
        tokens_in=generation.tokens_in,
        tokens_out=generation.tokens_out,
        seconds=seconds,
        source="cache" if result.hit else "model",
        model=request.adapter or request.model,
        run_id="",
        finish_reason=generation.finish_reason,
        computed_seconds=generation.seconds,
        quantization=request.quantization,
        engine=request.engine,
        cost=_FREE if result.hit else generation.cost,
        saved=generation.cost if result.hit else UNKNOWN_COST,
        determinism=generation.determinism,
        provenance=result.why if result.hit else "",
        served_by=generation.served_by,
    )


def request_fields(prepared: PreparedPrompt) -> dict[str, Any]:
    """Return what a leaf holds of a request besides its texts."""
    request, saved = prepared.request, prepared.draft.saved
    fields: dict[str, Any] = {
        "model": request.model,
        "model_digest": request.model_digest,
        "model_source": prepared.model.source,
        "engine": request.engine,
        "engine_version": request.engine_version,
        "quantization": request.quantization,
        "device": request.device,
        "parameters": {
            "max_new_tokens": request.parameters.max_new_tokens,
            "temperature": _whole(request.parameters.temperature),
            "seed": request.parameters.seed,
            "extra": dict(request.parameters.extra),
        },
    }
    tokenizer = tokenizer_digest(prepared.model.files)
    if tokenizer:  # an endpoint's is its own business
        fields["tokenizer_digest"] = tokenizer
    if request.adapter:
        adapter = prepared.model.adapter
        fields |= {"adapter": request.adapter, "adapter_digest": request.adapter_digest}
        fields["adapter_source"] = adapter.source if adapter else ""
    if request.exact:
        fields["exact"] = True
    if request.engine_options:
        fields["engine_options"] = dict(request.engine_options)
    if prepared.draft.model in prepared.model.aliases:
        fields["alias"] = prepared.draft.model
    if saved is not None:
        fields["prompt"] = _named(saved) | ({"alias": prepared.draft.alias} if prepared.draft.alias else {})
    included = {(p.name, p.version): _named(p) for part in prepared.rendered for p in part.rendered.includes}
    if included:
        fields["includes"] = list(included.values())
    if prepared.cut:
        fields["truncated"] = prepared.cut
    if prepared.context is not None:
        fields["context"] = prepared.context.fields()
    return fields


def _whole(number: float) -> float:
    # RFC 8785 writes 0.0 as 0; said so at once, a leaf of a greedy prompt holds no float and is written faster.
    return int(number) if number == int(number) else number


def _named(prompt: Prompt) -> dict[str, Any]:
    return {"name": prompt.name, "version": prompt.version, "digest": prompt.digest}


def completion_fields(completion: Completion, result: CacheResult) -> dict[str, Any]:
    """Return what a leaf holds of an answer besides its text: every number whole, as RFC 8785 wants."""
    generation = result.generation
    fields: dict[str, Any] = {
        "source": completion.source,
        "finish_reason": completion.finish_reason,
        "tokens_in": completion.tokens_in,
        "tokens_out": completion.tokens_out,
        "computed_microseconds": round(completion.computed_seconds * 1e6),
        "determinism": completion.determinism,
        **money_fields("cost", completion.cost),
    }
    if result.hit:
        stored_at = result.stored_at.isoformat() if result.stored_at else ""
        fields["reused"] = {"stored_by": result.stored_by, "stored_at": stored_at}
        fields |= money_fields("saved", completion.saved)
    if generation.batch_size > 1:
        fields["batch_size"] = generation.batch_size
    if generation.served_by:
        fields["served_by"] = generation.served_by
    if generation.served_version:
        fields["served_version"] = generation.served_version
    return fields


def money_fields(name: str, cost: Cost) -> dict[str, Any]:
    """Return an amount as a leaf holds it; nothing where no price is known."""
    if cost.amount is None:
        return {}
    # Millionths of the currency: a token costs less than a cent, and floats have no place in a digest.
    return {f"{name}_millionths": round(cost.amount * 1e6), "currency": cost.currency}


def request_content(prepared: PreparedPrompt) -> dict[str, str]:
    """Return the texts of a request; all else of it stands in the leaf.

    Each message is a text of its own, as it was sent: inside JSON its escapes could hide a secret
    from the redactor.
    """
    request = prepared.request
    messages = {
        message_key(index, message.role): message.content for index, message in enumerate(request.messages)
    }
    query = {"context_query": prepared.context.query} if prepared.context else {}
    schema = {"output_schema": request.output_schema} if request.output_schema else {}
    return {"template": prepared.draft.template, **query, **schema, **messages}


def message_key(index: int, role: str) -> str:
    """Return the name under which a run's content holds a message."""
    return f"message.{index:03d}.{role}"


def response_content(result: CacheResult, secrets: tuple[str, ...]) -> dict[str, str]:
    """Return the texts of an answer, and which stored one it is; `secrets` are the kinds that it seems to hold."""
    generation = result.generation
    if secrets:
        return {"response": generation.text}  # redacted by the journal; its tokens would spell it out
    # Not in the leaf: the item's name is a digest of what was asked, without a salt.
    kept = {"kept_items": result.key} if result.hit else {}
    return {"response": generation.text, "token_ids": json.dumps(list(generation.token_ids)), **kept}


def failure_content(error: BaseException) -> dict[str, str]:
    """Return the text that came although it is no answer: what the schema does not allow."""
    text = error.answer if isinstance(error, OutputSchemaError) else ""
    return {"response": text} if text else {}  # redacted by the journal
