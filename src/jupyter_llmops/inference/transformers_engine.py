"""Local inference through transformers, quantized with bitsandbytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import UnknownNameError, UsageError
from jupyter_llmops.inference import decoding, sources
from jupyter_llmops.inference.answering import answer_one, check_context, check_request
from jupyter_llmops.inference.boundary import boundary
from jupyter_llmops.inference.choice_scoring import ChoiceScoring
from jupyter_llmops.inference.engine import EngineIdentity, LoadedModel, OnDone, Progress
from jupyter_llmops.inference.memory import free_bytes, need_memory
from jupyter_llmops.inference.preparation import converted_weights, prepare, prepare_tokenizer
from jupyter_llmops.inference.quantization import choose_device, choose_quantization, engine_version
from jupyter_llmops.inference.threads import import_torch
from jupyter_llmops.inference.unsafe import is_allowed, refusal, unsafe_parts
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest, Message, Scalar

if TYPE_CHECKING:
    from jupyter_llmops.inference.loading import LoadedWeights

# Digest, quantization, device, and whether it was unpacked to float32 for the exact mode.
_Key = tuple[str, str, str, bool]


class TransformersEngine(ChoiceScoring):
    """Answers on this machine's GPU or CPU; a model stays loaded until `unload`.

    Parameters
    ----------
    folder : Path
        The models folder: converted models, saved nf4 copies, remembered digests.
    offline : bool
        Never ask the Hugging Face hub.
    """

    name = "transformers"

    def __init__(self, folder: Path, offline: bool = False) -> None:
        self.folder = folder
        self.offline = offline
        self._weights: dict[_Key, LoadedWeights] = {}
        self._chats: dict[str, Any] = {}
        self._auto: dict[tuple[str, str], tuple[str, str]] = {}
        self._unsafe: dict[str, tuple[str, ...]] = {}
        self._lock = threading.RLock()

    def identify(self, model: Model, quantization: str, *, exact: bool = False) -> EngineIdentity:
        """Return who would answer at which precision, without loading or fetching anything.

        What "auto" was once for a model it stays until `unload`: free memory changes with every load.

        Raises
        ------
        UsageError
            There is no such quantization, or the model is not a language model.
        """
        if model.kind != "llm":
            raise UsageError(
                f"The model {model.name!r} can't answer prompts; it is of the kind {model.kind!r}.",
                f"Choose a language model with -m, e.g. -m {sources.DEFAULT_LLM}.",
            )
        device = choose_device()
        chosen, reason = self._chosen(model, quantization, device)
        if exact:
            reason += (
                " Exact: nothing is padded, and each answer is computed in the shapes that it has alone."
            )
        # What the hub gives is safetensors; only a file that is here already can be a GGUF.
        converted = not model.source.startswith("hub:") and sources.locate(model).kind == "gguf"
        version = engine_version(chosen, converted=converted)
        return EngineIdentity(self.name, version, chosen, device, reason, self._unsafe_options(model))

    def _unsafe_options(self, model: Model) -> tuple[tuple[str, Scalar], ...]:
        """Return what of the model's files could run code, for the record.

        Raises
        ------
        UnsafeModelError
            They could, and the model was not allowed to.
        """
        if not model.digest:
            return ()
        if model.digest not in self._unsafe:
            files = sources.locate(model, offline=True)
            self._unsafe[model.digest] = unsafe_parts(files.path) if files.kind == "folder" else ()
        parts = self._unsafe[model.digest]
        if parts and not is_allowed(model.name, model.source.removeprefix("folder:")):
            raise refusal(model.name, parts)
        return (("unsafe_files", ", ".join(parts)),) if parts else ()

    def _chosen(self, model: Model, quantization: str, device: str) -> tuple[str, str]:
        if quantization != "auto" or not model.digest:
            return choose_quantization(quantization, device)
        known = self._auto.get((model.digest, device))
        if known is None:
            from jupyter_llmops.inference.footprint import footprint_of

            files = sources.locate(model, offline=True)
            footprint = footprint_of(files, converted_weights(self.folder, model))
            known = choose_quantization(quantization, device, footprint, free_bytes(device))
            self._auto[model.digest, device] = known
        return known

    def with_digest(self, model: Model, progress: Progress | None = None) -> Model:
        """Return the model with the digest of its files, fetched where they are not here yet."""
        return sources.digest_of(model, self.folder, offline=self.offline, progress=progress)

    def load(
        self, model: Model, quantization: str, progress: Progress | None = None, *, exact: bool = False
    ) -> None:
        """Bring the model into memory; does nothing when it is there.

        Parameters
        ----------
        model : Model
            From `sources.resolve`.
        quantization : {"auto", "nf4", "int8", "bf16", "fp32"}
            Precision of the weights.
        progress : callable, optional
            Told what is being done and how far it is, 0 to 1 or None.
        exact : bool
            For the exact mode, which may compute with weights of its own.

        Raises
        ------
        ModelNotAvailableError
            Its files are not here and can't be fetched.
        ModelMemoryError
            It does not fit.
        """
        self._load(model, quantization, progress, exact=exact)

    def generate(
        self, request: InferenceRequest, model: Model, on_text: Callable[[str], None] | None = None
    ) -> Generation:
        """Answer one request.

        Parameters
        ----------
        request : InferenceRequest
            All that decides the answer.
        model : Model
            The model that the request names by its digest.
        on_text : callable, optional
            Gets each piece of text as it comes, in this thread; the pieces joined are the answer.

        Returns
        -------
        Generation
            After Ctrl-C with what had come and finish_reason "interrupted".

        Raises
        ------
        InferenceError
            Prompt and answer do not fit the context, or the request is for another model or device.
        ModelMemoryError
            Memory ran out.
        """
        decoding.check_parameters(request.parameters)
        with self._lock:
            weights = self._load(model, request.quantization, None, exact=request.exact)
            check_request(request, weights)
            prompt = weights.chat.encode(request.messages)
            limit = request.parameters.max_new_tokens
            check_context(len(prompt), limit, weights.context_length)
            device = weights.entry.device
            need_memory(weights.cache_bytes(len(prompt) + limit), device, model, "Answering with")
            with boundary("Answering with", model, device):
                if request.exact:
                    from jupyter_llmops.inference import exact

                    if exact.takes_request(weights.net, request):
                        return exact.answer_exactly(weights, model, request, prompt, on_text)
                return answer_one(weights, request, prompt, on_text)

    def generate_many(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer many requests in batches; see `Engine.generate_many`.

        A batch is as large as free memory allows and halved when it runs out. `Generation.seconds`
        is each answer's share of the time of its batches. A seeded answer draws the same tokens
        as alone, as far as the numbers of a batch are those of one (see its determinism grade).
        """
        from jupyter_llmops.inference.batching import answer_many

        if not requests:
            return
        with self._lock:
            weights = self._load(model, requests[0].quantization, None, exact=requests[0].exact)
            with boundary("Answering with", model, weights.entry.device):
                answer_many(weights, model, requests, on_done)

    def count_tokens(self, model: Model, messages: Sequence[Message]) -> int:
        """Return how many tokens the rendered chat has; needs the tokenizer, not the weights."""
        return len(self._chat(model, None).encode(messages))

    def rendered(self, model: Model, messages: Sequence[Message]) -> str:
        """Return the text that the model reads, its chat template applied."""
        return str(self._chat(model, None).render(messages))

    def loaded(self) -> list[LoadedModel]:
        """Return the models and adapters in memory."""
        held = self._weights.values()
        return [entry for weights in held for entry in (weights.entry, *weights.adapters.values())]

    def unload(self, name: str) -> None:
        """Free the memory of every precision of a model.

        Raises
        ------
        UnknownNameError
            It is not in memory; the hint names what is.
        """
        from jupyter_llmops.inference.loading import give_memory_back

        with self._lock:
            keys = [key for key, weights in self._weights.items() if weights.entry.name == name]
            if not keys and self._forget_adapter(name):
                return
            if not keys:
                names = sorted({entry.name for entry in self.loaded()})
                hint = f"Loaded are: {', '.join(names)}." if names else "No model is loaded."
                raise UnknownNameError("loaded model", name, hint=hint)
            device = self._weights[keys[0]].entry.device
            for key in keys:
                del self._weights[key]
                self._auto.pop((key[0], device), None)
            give_memory_back(device)

    def _forget_adapter(self, name: str) -> bool:
        from jupyter_llmops.inference.adapters import forget

        found = [
            (weights, digest)
            for weights in self._weights.values()
            for digest, entry in weights.adapters.items()
            if entry.name == name
        ]
        for weights, digest in found:
            forget(weights, digest)
        return bool(found)

    def weights(self, model: Model, quantization: str, *, exact: bool = False) -> LoadedWeights:
        """Return a model in memory, loaded if it was not, with its adapter switched on."""
        return self._load(model, quantization, None, exact=exact)

    def _load(
        self, model: Model, quantization: str, progress: Progress | None, *, exact: bool = False
    ) -> LoadedWeights:
        model = self.with_digest(model, progress)
        identity = self.identify(model, quantization)
        with self._lock:
            weights = self._base(model, identity, progress, exact=exact)
            if model.adapter is not None or weights.adapter_digest:
                from jupyter_llmops.inference.adapters import switch_to

                def folder(adapter: Model) -> Path:
                    return sources.locate(adapter, offline=self.offline, progress=progress).path

                switch_to(weights, model.adapter, folder)
            return weights

    def _base(
        self, model: Model, identity: EngineIdentity, progress: Progress | None, *, exact: bool
    ) -> LoadedWeights:
        quantization, device = identity.quantization, identity.device
        if exact:
            from jupyter_llmops.inference.exact import needs_float32

            exact = needs_float32(quantization, device)
        key = (model.digest, quantization, device, exact)
        if key in self._weights:
            return self._weights[key]
        with boundary("Loading", model, device):
            files = sources.locate(model, offline=self.offline, progress=progress)
            unsafe = bool(identity.options)
            prepared = prepare(model, files, self.folder, quantization, device, progress, unsafe=unsafe)
            # Only now: the process that converts has the memory to itself until then.
            import_torch()
            from jupyter_llmops.inference.loading import load_weights

            chat = self._chat(model, progress)
            if progress is not None:
                progress(f"Loading {model.name} ({quantization}, {device})", None)
            weights = load_weights(model, prepared, chat, quantization, device, float32=exact, unsafe=unsafe)
        self._weights[key] = weights
        return weights

    def _chat(self, model: Model, progress: Progress | None) -> Any:
        from jupyter_llmops.inference.chat import ChatTokenizer

        model = self.with_digest(model, progress)
        with self._lock:
            if model.digest not in self._chats:
                with boundary("Reading the tokenizer of", model, "cpu"):
                    files = sources.locate(model, offline=self.offline, progress=progress)
                    folder = prepare_tokenizer(model, files, self.folder, progress)
                    import_torch()
                    unsafe = bool(self._unsafe_options(model))
                    self._chats[model.digest] = ChatTokenizer(folder, unsafe=unsafe)
            return self._chats[model.digest]
