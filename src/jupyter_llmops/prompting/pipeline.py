"""The pipeline: what every prompt passes, whoever asked for it."""

from __future__ import annotations

import json
import time
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from jupyter_llmops.errors import Interrupted
from jupyter_llmops.prompting.context import VARIABLE, ContextSource, ShownContext, add_context
from jupyter_llmops.prompting.messages import RenderedMessage, render_messages
from jupyter_llmops.prompting.rendering import render
from jupyter_llmops.records.completion import Completion, Generation
from jupyter_llmops.records.prompting import DryRun
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

if TYPE_CHECKING:
    from jupyter_llmops.cache.exact import CacheResult, ExactCache
    from jupyter_llmops.inference.engine import Engine
    from jupyter_llmops.prompting.compilation import Load
    from jupyter_llmops.records.model import Model
    from jupyter_llmops.records.prompt import Prompt, Variable

Progress = Callable[[str, float | None], None]


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


@dataclass(frozen=True, slots=True)
class PromptDraft:
    """What somebody typed: templates, values and wishes, nothing rendered yet.

    Parameters
    ----------
    template, system : str
        Jinja2 sources of the user message, or of a chat, and of the system message (empty: none).
    variables : mapping
        Values by name; only those that the templates name are read.
    model : str
        Name of a model.
    parameters : GenerationParameters
        How to decode.
    quantization : str
        "auto", "nf4", "bf16" or "fp32".
    saved : Prompt or None
        The saved prompt that this is a run of.
    alias : str
        The alias by which it was found.
    declarations : tuple of Variable
        Types and defaults of variables.
    load : callable or None
        Finds the saved prompts that the templates include.
    context : ContextSource or None
        Finds the passages that the model is shown.
    output_schema : str
        JSON Schema in canonical form that the answer follows; empty for free text.
    exact : bool
        Whether it runs in the mode in which batches, padding and threads don't change a token.
    reuse : bool
        Whether a stored answer may be reused although it was sampled without a seed.
    truncate : bool
        Whether a prompt that is longer than the context is cut instead of refused.
    """

    template: str
    variables: Mapping[str, Any]
    model: str
    parameters: GenerationParameters
    system: str = ""
    quantization: str = "auto"
    saved: Prompt | None = None
    alias: str = ""
    declarations: tuple[Variable, ...] = ()
    load: Load | None = None
    context: ContextSource | None = None
    output_schema: str = ""
    exact: bool = False
    reuse: bool = False
    truncate: bool = False


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A rendered prompt with the whole request; nothing was computed yet.

    Parameters
    ----------
    rendered : tuple of RenderedMessage
        The messages, and who wrote which part of each.
    secrets : tuple of str
        Kinds of secrets that the messages seem to hold; such an answer is never cached.
    context : ShownContext or None
        The passages in them.
    """

    draft: PromptDraft
    rendered: tuple[RenderedMessage, ...]
    request: InferenceRequest
    model: Model
    secrets: tuple[str, ...]
    context: ShownContext | None = None


class PromptPipeline:
    """Render → guard → cache → engine → record.

    Parameters
    ----------
    engine : Engine
        Computes answers.
    cache : ExactCache
        Reuses them.
    resolve : callable
        From a model's name to the `Model` with its digest.
    find_secrets : callable
        From a text to the kinds of secrets that it seems to hold.
    learn_secret : callable
        Is told each variable, attribute and item that a template read, as its name may say that its
        value is secret.
    stamp : callable
        Appends to the trail and returns the run's id.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        cache: ExactCache,
        resolve: Callable[[str], Model],
        find_secrets: Callable[[str], tuple[str, ...]],
        learn_secret: Callable[[str, object], object],
        stamp: Stamp,
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._resolve = resolve
        self._find_secrets = find_secrets
        self._learn_secret = learn_secret
        self._stamp = stamp

    def prepare(self, draft: PromptDraft) -> PreparedPrompt:
        """Render the templates and build the whole request.

        Raises
        ------
        TemplateError
            A template can't be rendered, or renders to nothing.
        UnknownNameError
            There is no such model.
        """
        if draft.context is None:
            rendered, shown = self._rendered(draft), None
            model = self._resolve(draft.model)
        else:
            model = self._resolve(draft.model)
            rendered, shown = self._with_context(draft, draft.context, model)
        messages = tuple(Message(part.role, part.rendered.text) for part in rendered)
        identity = self._engine.identify(model, draft.quantization, exact=draft.exact)
        request = InferenceRequest(
            model=model.name,
            model_digest=model.digest,
            messages=messages,
            parameters=draft.parameters,
            engine=identity.engine,
            engine_version=identity.engine_version,
            quantization=identity.quantization,
            device=identity.device,
            adapter=model.adapter.name if model.adapter else "",
            adapter_digest=model.adapter.digest if model.adapter else "",
            output_schema=draft.output_schema,
            exact=draft.exact,
            engine_options=identity.options,
        )
        kinds: list[str] = []
        for message in messages:
            kinds += [kind for kind in self._find_secrets(message.content) if kind not in kinds]
        return PreparedPrompt(draft, rendered, request, model, tuple(kinds), shown)

    def _rendered(self, draft: PromptDraft) -> tuple[RenderedMessage, ...]:
        return render_messages(
            draft.template,
            draft.system,
            draft.variables,
            declarations=draft.declarations,
            learn=self._learn_secret,
            load=draft.load,
        )

    def _with_context(
        self, draft: PromptDraft, source: ContextSource, model: Model
    ) -> tuple[tuple[RenderedMessage, ...], ShownContext]:
        window = model.context_length

        def fits(messages: Sequence[Message]) -> bool:
            if window is None:
                return True
            return self._engine.count_tokens(model, messages) + draft.parameters.max_new_tokens <= window

        def with_block(block: str) -> tuple[RenderedMessage, ...]:
            return self._rendered(replace(draft, variables=ChainMap({VARIABLE: block}, draft.variables)))  # type: ignore[arg-type] # never written to

        query = render(source.query, draft.variables, self._learn_secret, draft.load).text
        return add_context(source, query=query, render=with_block, fits=fits, window=window)

    def dry_run(self, prepared: PreparedPrompt, *, use_cache: bool = True) -> DryRun:
        """Return what would be sent, how long it is and whether it would come from the cache."""
        return DryRun(
            request=prepared.request,
            variables=tuple(sorted({name for part in prepared.rendered for name in part.rendered.variables})),
            tokens_in=self._engine.count_tokens(prepared.model, prepared.request.messages),
            would_hit=use_cache and not prepared.secrets and self._cache.peek(prepared.request),
            secrets=prepared.secrets,
            **self._told(prepared),
        )

    def _told(self, prepared: PreparedPrompt) -> dict[str, Any]:
        if prepared.context is None:
            return {}
        find = self._find_secrets if prepared.secrets else None
        return {"passages": prepared.context.for_people(find), "note": prepared.context.note}

    def run(
        self,
        prepared: PreparedPrompt,
        *,
        use_cache: bool = True,
        on_text: Callable[[str], None] | None = None,
        progress: Progress | None = None,
        parent: str = "",
    ) -> Completion:
        """Answer from the cache or the model, and stamp it.

        Parameters
        ----------
        prepared : PreparedPrompt
            From `prepare`.
        use_cache : bool
            False neither reads nor writes the cache.
        on_text : callable, optional
            Gets the answer piece by piece while the model writes it.
        progress : callable, optional
            Gets a sentence, and a fraction where one is known, while a model loads.
        parent : str
            Id of the cell's run.

        Raises
        ------
        Interrupted
            Ctrl-C; the unfinished completion is in the exception and in the record.
        InferenceError
            The model can't be loaded or can't answer; recorded as an error.
        """
        started_at, clock = datetime.now(UTC), time.perf_counter()

        def compute() -> Generation:
            self._engine.load(prepared.model, prepared.request.quantization, progress)
            return self._engine.generate(prepared.request, prepared.model, on_text)

        try:
            result = self._answer(prepared, compute, use_cache)
        except BaseException as error:
            self._stamp(
                "prompt",
                parent=parent,
                status="interrupted" if isinstance(error, KeyboardInterrupt) else "error",
                started_at=started_at,
                seconds=time.perf_counter() - clock,
                fields={**_fields(prepared), "error_type": type(error).__name__},
                content=_request_content(prepared),
            )
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(
                    "Stopped before the model had answered anything.", "Run the cell again to ask once more."
                ) from None
            raise
        seconds = time.perf_counter() - clock
        completion = _completion(prepared, result.generation, seconds, hit=result.hit)
        interrupted = completion.finish_reason == "interrupted"
        secrets = prepared.secrets + self._find_secrets(completion.text)
        run_id = self._stamp(
            "prompt",
            parent=parent,
            status="interrupted" if interrupted else "ok",
            started_at=started_at,
            seconds=seconds,
            fields=_fields(prepared) | _completion_fields(completion),
            content=_request_content(prepared) | _response_content(result.generation, secrets),
        )
        completion = replace(completion, run_id=run_id, **self._told(prepared))
        if interrupted:
            raise Interrupted(
                f"Stopped after {completion.tokens_out} tokens; what came is in run {run_id}.",
                "Run the cell again for the whole answer.",
                completion,
            )
        return completion

    def _answer(
        self, prepared: PreparedPrompt, compute: Callable[[], Generation], use_cache: bool
    ) -> CacheResult:
        if prepared.secrets:
            reason = f"the prompt seems to hold a secret ({', '.join(prepared.secrets)})"
            return self._cache.bypass(prepared.request, compute, reason)
        if not use_cache:
            return self._cache.bypass(prepared.request, compute, "this prompt asked for no cache")

        def may_store(generation: Generation) -> bool:
            return generation.finish_reason != "interrupted" and not self._find_secrets(generation.text)

        return self._cache.fetch(prepared.request, compute, store=may_store)


def _completion(prepared: PreparedPrompt, generation: Generation, seconds: float, *, hit: bool) -> Completion:
    return Completion(
        text=generation.text,
        tokens_in=generation.tokens_in,
        tokens_out=generation.tokens_out,
        seconds=seconds,
        source="cache" if hit else "model",
        model=prepared.request.model,
        run_id="",
        finish_reason=generation.finish_reason,
        computed_seconds=generation.seconds,
        quantization=prepared.request.quantization,
        engine=prepared.request.engine,
        served_by=generation.served_by,
    )


def _fields(prepared: PreparedPrompt) -> dict[str, Any]:
    request, saved = prepared.request, prepared.draft.saved
    fields: dict[str, Any] = {
        "model": request.model,
        "model_digest": request.model_digest,
        "model_source": prepared.model.source,
        "engine": request.engine,
        "engine_version": request.engine_version,
        "quantization": request.quantization,
        "device": request.device,
        "parameters": request.canonical()["parameters"],
    }
    if prepared.draft.model in prepared.model.aliases:
        fields["alias"] = prepared.draft.model
    if saved is not None:
        fields["prompt"] = _named(saved) | ({"alias": prepared.draft.alias} if prepared.draft.alias else {})
    included = {(p.name, p.version): _named(p) for part in prepared.rendered for p in part.rendered.includes}
    if included:
        fields["includes"] = list(included.values())
    if prepared.context is not None:
        fields["context"] = prepared.context.fields()
    return fields


def _named(prompt: Prompt) -> dict[str, Any]:
    return {"name": prompt.name, "version": prompt.version, "digest": prompt.digest}


def _completion_fields(completion: Completion) -> dict[str, Any]:
    return {
        "source": completion.source,
        "finish_reason": completion.finish_reason,
        "tokens_in": completion.tokens_in,
        "tokens_out": completion.tokens_out,
        "computed_microseconds": round(completion.computed_seconds * 1e6),
    }


def _request_content(prepared: PreparedPrompt) -> dict[str, str]:
    """Return the texts of a request; all else of it stands in the leaf.

    Each message is a text of its own, as it was sent: inside JSON its escapes could hide a secret
    from the redactor.
    """
    messages = {
        message_key(index, message.role): message.content
        for index, message in enumerate(prepared.request.messages)
    }
    query = {"context_query": prepared.context.query} if prepared.context else {}
    return {"template": prepared.draft.template, **query, **messages}


def message_key(index: int, role: str) -> str:
    """Return the name under which a run's content holds a message."""
    return f"message.{index:03d}.{role}"


def _response_content(generation: Generation, secrets: tuple[str, ...]) -> dict[str, str]:
    if secrets:
        return {"response": generation.text}  # redacted by the journal; its tokens would spell it out
    return {"response": generation.text, "token_ids": json.dumps(list(generation.token_ids))}
