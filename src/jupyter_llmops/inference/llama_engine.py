"""Local inference of GGUF files through llama.cpp, as the files are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jupyter_llmops.errors import InferenceError, LLMOpsError, UnknownNameError, UsageError
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.answering import check_context
from jupyter_llmops.inference.boundary import boundary
from jupyter_llmops.inference.engine import EngineIdentity, LoadedModel, OnDone, Progress
from jupyter_llmops.inference.llama.chat import LlamaChat
from jupyter_llmops.inference.llama.decoding import LlamaRow, answer_alone, answer_together, new_row
from jupyter_llmops.inference.llama.library import (
    FLASH_ATTENTION,
    NativeContext,
    NativeModel,
    engine_version,
    is_installed,
)
from jupyter_llmops.inference.llama.sampling import check_request_parameters
from jupyter_llmops.inference.memory import free_bytes, need_memory
from jupyter_llmops.inference.scan.gguf_file import quantization_of
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest, Message, Scalar

AS_IT_IS = "gguf"
# Answers side by side: with more a step takes as much longer as it has more.
MOST_TOGETHER = 16
_SMALLEST_CONTEXT = 1024
# Part of the free memory that answers side by side may take.
_PART_OF_MEMORY = 0.5
_OPTIONS: tuple[tuple[str, Scalar], ...] = (("flash_attention", FLASH_ATTENTION), ("kv_cache", "f16"))


@dataclass(slots=True)
class LlamaWeights:
    """A GGUF file in memory, and the context in which it answers one by one."""

    native: NativeModel
    chat: LlamaChat
    entry: LoadedModel
    digest: str
    context: NativeContext | None = None

    def room_for(self, tokens: int) -> NativeContext:
        """Return the context, made larger where it is too small."""
        if self.context is None or self.context.tokens < tokens:
            if self.context is not None:
                self.context.close()
                self.context = None
            room = _SMALLEST_CONTEXT
            while room < tokens:
                room *= 2
            self.context = NativeContext(self.native, 1, min(room, max(tokens, self.native.context_length)))
        self.context.use_threads()
        return self.context

    def close(self) -> None:
        """Free the memory now."""
        if self.context is not None:
            self.context.close()
        self.native.close()


class LlamaEngine:
    """Answers on the CPU with the weights of a GGUF file as they are; a model stays until `unload`.

    Parameters
    ----------
    folder : Path
        The models folder, which remembers digests.
    offline : bool
        Never ask the Hugging Face hub.
    """

    name = "llama.cpp"

    def __init__(self, folder: Path, offline: bool = False) -> None:
        self.folder = folder
        self.offline = offline
        self._weights: dict[str, LlamaWeights] = {}
        self._chats: dict[str, LlamaChat] = {}
        self._types: dict[tuple[str, str], str] = {}
        self._lock = threading.RLock()

    def takes(self, model: Model) -> bool:
        """Return whether this engine is installed and the model is a GGUF file on this machine."""
        return model.kind == "llm" and model.adapter is None and is_installed() and bool(self._type_of(model))

    def identify(self, model: Model, quantization: str, *, exact: bool = False) -> EngineIdentity:  # noqa: ARG002
        """Return who would answer, without loading the model.

        Answers don't depend on padding or threads; `exact` answers many one by one.

        Raises
        ------
        UsageError
            The model is no GGUF file on this machine, has an adapter, or can't answer prompts.
        MissingDependencyError
            llama-cpp-python is not installed.
        """
        if model.kind != "llm":
            raise UsageError(
                f"The model {model.name!r} can't answer prompts; it is of the kind {model.kind!r}.",
                f"Choose a language model with -m, e.g. -m {sources.DEFAULT_LLM}.",
            )
        if model.adapter is not None:
            raise UsageError(
                f"llama.cpp puts no PEFT adapter on {model.name!r}.", "Add --quant nf4, or leave --quant out."
            )
        own = self._type_of(model)
        if not own:
            raise UsageError(
                f"The model {model.name!r} is no GGUF file on this machine, which --quant gguf needs.",
                "Type --quant auto, nf4, int8, bf16 or fp32.",
            )
        if quantization not in ("auto", AS_IT_IS, own):
            raise UsageError(
                f"The file of {model.name!r} is {own}; llama.cpp can't use it as {quantization}.",
                "Type --quant gguf.",
            )
        reason = f"{AS_IT_IS} was asked for: the file as it is, {own}."
        if quantization == "auto":
            reason = f"auto is {own}, the GGUF file as it is: one stream is fastest in llama.cpp on a CPU."
        return EngineIdentity(self.name, engine_version(), own, "cpu", reason, _OPTIONS)

    def load(
        self,
        model: Model,
        quantization: str,
        progress: Progress | None = None,
        *,
        exact: bool = False,  # noqa: ARG002 - the same weights
    ) -> None:
        """Bring the model into memory; does nothing when it is there.

        Raises
        ------
        ModelNotAvailableError
            Its file is not here.
        ModelMemoryError
            It does not fit.
        InferenceError
            llama.cpp can't read it.
        """
        self._load(model, quantization, progress)

    def generate(
        self, request: InferenceRequest, model: Model, on_text: Callable[[str], None] | None = None
    ) -> Generation:
        """Answer one request; see `TransformersEngine.generate`."""
        check_request_parameters(request)
        with self._lock:
            weights = self._load(model, request.quantization, None)
            with boundary("Answering with", model, "cpu"):
                row = _new_row(weights, 0, request, on_text)
                need_memory(weights.native.cache_bytes(row.most_tokens), "cpu", model, "Answering with")
                return answer_alone(weights.room_for(row.most_tokens), weights.chat, row)

    def generate_many(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer many requests side by side; see `Engine.generate_many`. Each has the tokens it has alone."""
        if not requests:
            return
        with self._lock:
            weights = self._load(model, requests[0].quantization, None)
            with boundary("Answering with", model, "cpu"):
                rows: list[LlamaRow] = []
                for position, request in enumerate(requests):
                    try:
                        check_request_parameters(request)
                        rows.append(_new_row(weights, position, request))
                    except LLMOpsError as error:
                        on_done(position, error)
                self._answer_rows(weights, model, rows, on_done)

    def count_tokens(self, model: Model, messages: Sequence[Message]) -> int:
        """Return how many tokens the rendered chat has; needs the vocabulary, not the weights."""
        return len(self._chat(model).encode(messages))

    def rendered(self, model: Model, messages: Sequence[Message]) -> str:
        """Return the text that the model reads, its chat template applied."""
        return self._chat(model).render(messages)

    def score(
        self,
        model: Model,
        quantization: str,  # noqa: ARG002
        messages: Sequence[Message],  # noqa: ARG002
        choices: Sequence[str],  # noqa: ARG002
    ) -> list[float]:
        """Refuse: choices are weighed by transformers, whose batches share prompts.

        Raises
        ------
        UsageError
            Always.
        """
        raise UsageError(f"llama.cpp weighs no choices of {model.name!r}.", "Use --quant nf4.")

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory."""
        return [weights.entry for weights in self._weights.values()]

    def unload(self, name: str) -> None:
        """Free the memory of a model.

        Raises
        ------
        UnknownNameError
            It is not in memory; the hint names what is.
        """
        with self._lock:
            digests = [digest for digest, weights in self._weights.items() if weights.entry.name == name]
            if not digests:
                names = sorted({weights.entry.name for weights in self._weights.values()})
                hint = f"Loaded are: {', '.join(names)}." if names else "No model is loaded."
                raise UnknownNameError("loaded model", name, hint=hint)
            for digest in digests:
                self._weights.pop(digest).close()

    def _answer_rows(
        self, weights: LlamaWeights, model: Model, rows: Sequence[LlamaRow], on_done: OnDone
    ) -> None:
        if not rows:
            return
        longest = max(row.most_tokens for row in rows)
        each = weights.native.cache_bytes(longest)
        free = free_bytes("cpu")
        # On other files and processors a batch may use other kernels, so "exact" is one by one.
        places = 1 if rows[0].request.exact else min(MOST_TOGETHER, len(rows))
        if free is not None:
            places = max(1, min(places, int(_PART_OF_MEMORY * free / max(each, 1)) - 1))
        need_memory(each * (places + 1), "cpu", model, "Answering with")
        context = NativeContext(weights.native, places + 1, longest)
        try:
            answer_together(context, weights.chat, rows, on_done)
        finally:
            context.close()

    def _load(self, model: Model, quantization: str, progress: Progress | None) -> LlamaWeights:
        identity = self.identify(model, quantization)
        model = sources.digest_of(model, self.folder, offline=self.offline, progress=progress)
        with self._lock:
            if model.digest in self._weights:
                return self._weights[model.digest]
            if progress is not None:
                progress(f"Loading {model.name} ({identity.quantization}, llama.cpp)", None)
            files = sources.locate(model, offline=True)
            need_memory(sum(path.stat().st_size for path in files.files), "cpu", model, "Loading")
            with boundary("Loading", model, "cpu"):
                native = NativeModel(files.files[0])
                _check_kind(native, model)
            entry = LoadedModel(model.name, identity.quantization, "cpu", native.size_bytes)
            weights = LlamaWeights(native, LlamaChat(native), entry, model.digest)
            self._weights[model.digest] = weights
            return weights

    def _chat(self, model: Model) -> LlamaChat:
        model = sources.digest_of(model, self.folder, offline=self.offline)
        with self._lock:
            if model.digest in self._weights:
                return self._weights[model.digest].chat
            if model.digest not in self._chats:
                with boundary("Reading the vocabulary of", model, "cpu"):
                    first = sources.locate(model, offline=True).files[0]
                    self._chats[model.digest] = LlamaChat(NativeModel(first, vocabulary_only=True))
            return self._chats[model.digest]

    def _type_of(self, model: Model) -> str:
        """Return the precision of a GGUF file's weights, e.g. ``Q4_1``; empty where it is none."""
        key = (model.source, model.digest)
        if key not in self._types:
            found = ""
            if model.source.startswith(("package:", "folder:")):
                try:
                    files = sources.locate(model, offline=True)
                    if files.kind == "gguf":
                        found = quantization_of(files.files[0]) or AS_IT_IS
                except (LLMOpsError, OSError):
                    return ""  # loading it says what is wrong
            if not model.digest:
                return found  # the file may be another one next time
            self._types[key] = found
        return self._types[key]


def _new_row(
    weights: LlamaWeights,
    position: int,
    request: InferenceRequest,
    on_text: Callable[[str], None] | None = None,
) -> LlamaRow:
    _check_request(request, weights)
    prompt = weights.chat.encode(request.messages)
    check_context(len(prompt), request.parameters.max_new_tokens, weights.native.context_length)
    return new_row(position, request, prompt, weights.chat, on_text)


def _check_request(request: InferenceRequest, weights: LlamaWeights) -> None:
    if request.model_digest != weights.digest:
        # The digest is in the key and in the record: an answer of other weights must not get there.
        raise InferenceError(
            f"The request is for other files of {request.model!r} than the ones that are here.",
            "Ask again; to reproduce an old run, restore the files that it names.",
        )
    if request.adapter_digest or request.engine_options != _OPTIONS:
        raise InferenceError(
            "The request is for an adapter or for settings of llama.cpp that this version does not have.",
            "Ask again without the record, with %%prompt.",
        )


def _check_kind(native: NativeModel, model: Model) -> None:
    if not native.reads_step_by_step:
        raise InferenceError(
            f"The model {model.name!r} does not answer token by token, as llama.cpp is used here.",
            "Add --quant nf4, or choose another model with -m.",
        )
