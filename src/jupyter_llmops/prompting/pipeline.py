"""The pipeline: what every prompt passes, whoever asked for it."""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import Interrupted, OutputSchemaError
from jupyter_llmops.prompting.context import VARIABLE, ContextSource, ShownContext, add_context
from jupyter_llmops.prompting.draft import PreparedPrompt, PromptDraft
from jupyter_llmops.prompting.messages import RenderedMessage, render_messages
from jupyter_llmops.prompting.recording import (
    Stamp,
    completion_fields,
    completion_of,
    failure_content,
    request_content,
    request_fields,
    response_content,
)
from jupyter_llmops.prompting.rendering import render
from jupyter_llmops.prompting.truncation import cut_to_fit
from jupyter_llmops.records.completion import Completion, Generation
from jupyter_llmops.records.cost import UNKNOWN_COST, Cost
from jupyter_llmops.records.prompting import DryRun
from jupyter_llmops.records.request import InferenceRequest, Message

if TYPE_CHECKING:
    from jupyter_llmops.cache.exact import CacheResult, ExactCache
    from jupyter_llmops.inference.engine import Engine
    from jupyter_llmops.prompting.budget import Budget
    from jupyter_llmops.records.determinism import Grade
    from jupyter_llmops.records.model import Model

Progress = Callable[[str, float | None], None]


def _no_price(_request: InferenceRequest, _generation: Generation) -> Cost:
    return UNKNOWN_COST


def _no_grade(_request: InferenceRequest) -> Grade:
    return ""


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
    price : callable
        From a request and what was computed for it to what that cost.
    grade : callable
        From a request to the measured determinism of what answers it.
    budget : Budget, optional
        Asked before anything is computed, told what it cost.
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
        price: Callable[[InferenceRequest, Generation], Cost] = _no_price,
        grade: Callable[[InferenceRequest], Grade] = _no_grade,
        budget: Budget | None = None,
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._resolve = resolve
        self._find_secrets = find_secrets
        self._learn_secret = learn_secret
        self._stamp = stamp
        self._price = price
        self._grade = grade
        self._budget = budget

    def prepare(self, draft: PromptDraft, like: PreparedPrompt | None = None) -> PreparedPrompt:
        """Render the templates and build the whole request.

        Parameters
        ----------
        draft : PromptDraft
            What was typed.
        like : PreparedPrompt, optional
            A row of the same map: the same model and engine answer, whatever has changed meanwhile.

        Raises
        ------
        TemplateError
            A template can't be rendered, or renders to nothing.
        UnknownNameError
            There is no such model.
        """
        if draft.context is None:
            rendered, shown = self._rendered(draft), None
            model = like.model if like else self._resolve(draft.model)
        else:
            model = like.model if like else self._resolve(draft.model)
            rendered, shown = self._with_context(draft, draft.context, model)
        messages = tuple(Message(part.role, part.rendered.text) for part in rendered)
        whole, cut = messages, ""
        if draft.truncate and model.context_length is not None:
            messages, cut = cut_to_fit(messages, self._fits(draft, model))
        if like is None:
            request = self._request(draft, model, messages)
        else:
            request = replace(like.request, messages=messages)
        kinds: list[str] = []
        for message in {*whole, *messages}:  # a secret that was cut in two is none to be found any more
            kinds += [kind for kind in self._find_secrets(message.content) if kind not in kinds]
        return PreparedPrompt(draft, rendered, request, model, tuple(kinds), shown, cut)

    def _request(self, draft: PromptDraft, model: Model, messages: tuple[Message, ...]) -> InferenceRequest:
        identity = self._engine.identify(model, draft.quantization, exact=draft.exact)
        return InferenceRequest(
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
        def with_block(block: str) -> tuple[RenderedMessage, ...]:
            return self._rendered(replace(draft, variables=ChainMap({VARIABLE: block}, draft.variables)))  # type: ignore[arg-type] # never written to

        query = render(source.query, draft.variables, self._learn_secret, draft.load).text
        return add_context(
            source, query=query, render=with_block, fits=self._fits(draft, model), window=model.context_length
        )

    def _fits(self, draft: PromptDraft, model: Model) -> Callable[[Sequence[Message]], bool]:
        def fits(messages: Sequence[Message]) -> bool:
            if model.context_length is None:
                return True
            tokens = self._engine.count_tokens(model, messages)
            return tokens + draft.parameters.max_new_tokens <= model.context_length

        return fits

    def dry_run(self, prepared: PreparedPrompt, *, use_cache: bool = True) -> DryRun:
        """Return what would be sent, how long it is and whether it would come from the cache."""
        draft = prepared.draft
        return DryRun(
            request=prepared.request,
            variables=tuple(sorted({name for part in prepared.rendered for name in part.rendered.variables})),
            tokens_in=self._engine.count_tokens(prepared.model, prepared.request.messages),
            would_hit=use_cache and not prepared.secrets and self._cache.peek(prepared.request),
            secrets=prepared.secrets,
            reason=self._engine.identify(prepared.model, draft.quantization, exact=draft.exact).reason,
            **self._told(prepared),
        )

    def _told(self, prepared: PreparedPrompt) -> dict[str, Any]:
        if prepared.context is None:
            return {"note": prepared.cut} if prepared.cut else {}
        find = self._find_secrets if prepared.secrets else None
        note = " ".join(filter(None, (prepared.context.note, prepared.cut)))
        return {"passages": prepared.context.for_people(find), "note": note}

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
        BudgetError
            It would cost more than the budget leaves; nothing was computed.
        InferenceError
            The model can't be loaded or can't answer; recorded as an error.
        """
        started_at, clock = datetime.now(UTC), time.perf_counter()

        def compute() -> Generation:
            self.check_budget([prepared])
            request = prepared.request
            self._engine.load(prepared.model, request.quantization, progress, exact=request.exact)
            return self.priced(prepared, self._engine.generate(prepared.request, prepared.model, on_text))

        try:
            result = self._answer(prepared, compute, use_cache, progress)
        except BaseException as error:
            seconds = time.perf_counter() - clock
            self.record_failure(prepared, error, started_at=started_at, seconds=seconds, parent=parent)
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(
                    "Stopped before the model had answered anything.", "Run the cell again to ask once more."
                ) from None
            raise
        seconds = time.perf_counter() - clock
        completion = self.record(prepared, result, started_at=started_at, seconds=seconds, parent=parent)
        if completion.finish_reason == "interrupted":
            raise Interrupted(
                f"Stopped after {completion.tokens_out} tokens; what came is in run {completion.run_id}.",
                "Run the cell again for the whole answer.",
                completion,
            )
        return completion

    def check_budget(self, prepared: Sequence[PreparedPrompt]) -> None:
        """Refuse what would cost more than the budget leaves, before it is computed.

        Raises
        ------
        BudgetError
            The budget is spent, or these prompts are going to exceed it.
        """
        if self._budget is not None:
            self._budget.check([one.request for one in prepared])

    def priced(self, prepared: PreparedPrompt, generation: Generation) -> Generation:
        """Return a computed answer with what it cost and its grade, and count it in the budget."""
        cost = self._price(prepared.request, generation)
        if self._budget is not None:
            self._budget.add(cost)
        return replace(generation, cost=cost, determinism=self._grade(prepared.request))

    def why_not_stored(self, prepared: PreparedPrompt, *, use_cache: bool = True) -> str:
        """Return why the answer to a prompt must neither be looked up nor stored, or an empty string."""
        if prepared.secrets:
            return f"the prompt seems to hold a secret ({', '.join(prepared.secrets)})"
        return "" if use_cache else "this prompt asked for no cache"

    def may_store(self, generation: Generation) -> bool:
        """Return whether a computed answer may be kept for others."""
        return generation.finish_reason != "interrupted" and not self._find_secrets(generation.text)

    def _answer(
        self,
        prepared: PreparedPrompt,
        compute: Callable[[], Generation],
        use_cache: bool,
        progress: Progress | None,
    ) -> CacheResult:
        reason = self.why_not_stored(prepared, use_cache=use_cache)
        if reason:
            return self._cache.bypass(prepared.request, compute, reason)
        return self._cache.fetch(
            prepared.request, compute, store=self.may_store, reuse=prepared.draft.reuse, progress=progress
        )

    def record(
        self,
        prepared: PreparedPrompt,
        result: CacheResult,
        *,
        started_at: datetime,
        seconds: float,
        parent: str = "",
        fields: Mapping[str, Any] | None = None,
    ) -> Completion:
        """Stamp an answer and return the completion, with its data where a schema was asked for.

        Parameters
        ----------
        prepared : PreparedPrompt
            What was asked.
        result : CacheResult
            The answer, reused or computed.
        started_at, seconds
            When it began, and what it took.
        parent : str
            Id of the run that it belongs to.
        fields : mapping, optional
            What the leaf holds besides, e.g. the row of a map.

        Raises
        ------
        OutputSchemaError
            The answer was cut short or does not follow its schema; it is recorded all the same.
        """
        completion, problem = _with_data(prepared, completion_of(prepared, result, seconds))
        # A secret in the prompt comes back in the answer, spelt in tokens too.
        secrets = prepared.secrets + self._find_secrets(completion.text)
        run_id = self._stamp(
            "prompt",
            parent=parent,
            status="error"
            if problem
            else "interrupted"
            if completion.finish_reason == "interrupted"
            else "ok",
            started_at=started_at,
            seconds=seconds,
            fields={
                **request_fields(prepared),
                **completion_fields(completion, result),
                **({"error_type": type(problem).__name__} if problem else {}),
                **(fields or {}),
            },
            content=request_content(prepared) | response_content(result, secrets),
        )
        if problem:
            raise problem
        return replace(completion, run_id=run_id, **self._told(prepared))

    def record_failure(
        self,
        prepared: PreparedPrompt,
        error: BaseException,
        *,
        started_at: datetime,
        seconds: float,
        parent: str = "",
        fields: Mapping[str, Any] | None = None,
    ) -> str:
        """Stamp a prompt that got no answer and return the run's id; see `record`."""
        return self._stamp(
            "prompt",
            parent=parent,
            status="interrupted" if isinstance(error, KeyboardInterrupt) else "error",
            started_at=started_at,
            seconds=seconds,
            fields={**request_fields(prepared), "error_type": type(error).__name__, **(fields or {})},
            content=request_content(prepared) | failure_content(error),
        )


def _with_data(
    prepared: PreparedPrompt, completion: Completion
) -> tuple[Completion, OutputSchemaError | None]:
    """Return the completion with its data, and what is wrong with them; what was interrupted has none."""
    schema = prepared.request.output_schema
    if not schema or completion.finish_reason == "interrupted":
        return completion, None
    from jupyter_llmops.inference.constrained import parse

    limit = prepared.request.parameters.max_new_tokens
    try:
        data = parse(schema, completion.text, finish_reason=completion.finish_reason, max_new_tokens=limit)
    except OutputSchemaError as error:
        return completion, error
    return replace(completion, data=data), None
