"""Embedding models: texts become vectors in a space that has an identity."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import InferenceError, LLMOpsError
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.quiet import quiet
from jupyter_llmops.inference.sources import ModelFiles, digest_of, locate
from jupyter_llmops.records.collection import EmbeddingSpace
from jupyter_llmops.records.model import Model

if TYPE_CHECKING:
    import numpy as np

# Texts of one forward pass, and passes between two looks at the clock (and at Ctrl-C).
BATCH = 32
BATCHES_BETWEEN_REPORTS = 8
# A tokenizer keeps about 100 bytes a token: long texts are read in stretches.
CHARACTERS_AT_ONCE = 100_000
# Classes that sentence-transformers itself brings; others would be imported by their name.
_TRUSTED = "sentence_transformers."

_open: dict[str, Encoder] = {}
_open_lock = threading.Lock()


class Encoder:
    """An embedding model in memory, made with sentence-transformers; open it with `open_encoder`.

    It holds weights and a tokenizer of its own and changes no setting of torch's, so that a loaded
    language model answers as before. It may be used from several threads.

    Parameters
    ----------
    model : Model
        With the digest of its files.
    files : ModelFiles
        A folder in the layout of sentence-transformers or transformers.

    Attributes
    ----------
    model : Model
        What was loaded.
    space : EmbeddingSpace
        What its vectors mean, read from its modules.
    """

    def __init__(self, model: Model, files: ModelFiles) -> None:
        self.model = model
        self._lock = threading.Lock()
        self._inner = _load(model, files)
        tokenizer = _fast_tokenizer(self._inner, model)
        self._tokenizer = _whole_texts(tokenizer)
        self.space = _space_of(self._inner, tokenizer, model)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Return the vectors of documents.

        Texts of like length share a pass, so that little of it is padding.

        Parameters
        ----------
        texts : sequence of str
            Beyond `space.max_tokens` a text is cut.
        progress : callable, optional
            Told how far it is.

        Returns
        -------
        numpy.ndarray
            float32, shape (len(texts), `space.dimension`), in the order of `texts`.

        Raises
        ------
        InferenceError
            The model gave something that is not a vector.
        """
        import numpy as np

        vectors = np.empty((len(texts), self.space.dimension), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        step = BATCH * BATCHES_BETWEEN_REPORTS
        for begin in range(0, len(order), step):
            chosen = order[begin : begin + step]
            vectors[chosen] = self._encode([texts[index] for index in chosen], query=False)
            if progress is not None:
                done = begin + len(chosen)
                progress(f"Embedding: {done:,} of {len(order):,}", done / len(order))
        return vectors

    def embed_query(self, text: str) -> np.ndarray:
        """Return the vector of a query, float32 of shape (`space.dimension`,).

        Some models put other words before a query than before a document.
        """
        vector: np.ndarray = self._encode([text], query=True)[0]
        return vector

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text has, without the marks that the model adds."""
        return len(self.token_spans(text))

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return where each token of a text begins and ends, as characters, half open."""
        spans: list[tuple[int, int]] = []
        for begin, end in _stretches(text):
            read = self._tokenizer.encode(text[begin:end], add_special_tokens=False)
            spans += [(begin + start, begin + stop) for start, stop in read.offsets if stop > start]
        return spans

    def _encode(self, texts: list[str], *, query: bool) -> np.ndarray:
        import numpy as np

        encode = self._inner.encode_query if query else self._inner.encode_document
        with self._lock:
            vectors: np.ndarray = encode(
                texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True
            )
        if vectors.shape != (len(texts), self.space.dimension) or not np.isfinite(vectors).all():
            raise InferenceError(
                f"The encoder {self.model.name!r} gave a vector with values that are no numbers.",
                "Its files may be damaged: fetch the model again.",
            )
        return vectors


def open_encoder(model: Model, models_folder: Path, offline: bool = False) -> Encoder:
    """Return the encoder of a model, loaded once a process.

    Parameters
    ----------
    model : Model
        From `sources.resolve`; its digest is read where it has none yet.
    models_folder : Path
        Remembers the digests of files.
    offline : bool
        Never ask the hub.

    Raises
    ------
    ModelNotAvailableError
        Its files are not here.
    InferenceError
        It is no embedding model, or would run code.
    """
    if not model.digest:
        model = digest_of(model, models_folder, offline=offline)
    with _open_lock:
        if model.digest not in _open:
            _open[model.digest] = Encoder(model, locate(model, offline=offline))
        return _open[model.digest]


def is_loaded(name: str) -> bool:
    """Return whether an encoder of that name is in memory."""
    return any(encoder.model.name == name for encoder in list(_open.values()))


def space_digest(space: EmbeddingSpace) -> str:
    """Return the identity of a space, ``sha256:…``."""
    return space.digest


def _load(model: Model, files: ModelFiles) -> Any:
    if files.kind != "folder":
        raise InferenceError(
            f"The model {model.name!r} is a GGUF file, which can't embed here.",
            "Choose an encoder with safetensors, e.g. all-minilm-l6-v2.",
        )
    _refuse_foreign_modules(model, files.path)
    from jupyter_llmops.inference.threads import import_torch

    import_torch()
    import torch

    with quiet():
        from sentence_transformers import SentenceTransformer

    def load(device: str) -> Any:
        return SentenceTransformer(
            str(files.path),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        ).eval()

    with quiet():  # again: only now are the bars of transformers there to be held back
        try:
            if torch.cuda.is_available():
                try:
                    return load("cuda")
                except torch.OutOfMemoryError:  # a language model fills the GPU: leave it there
                    torch.cuda.empty_cache()
            return load("cpu")
        except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError) as error:
            raise InferenceError(
                f"The encoder {model.name!r} can't be loaded: {_first_line(error)}",
                "Choose another one, e.g. all-minilm-l6-v2.",
            ) from error


def _refuse_foreign_modules(model: Model, folder: Path) -> None:
    """Refuse a model whose list of modules names classes from outside sentence-transformers."""
    path = folder / "modules.json"
    if not path.exists():
        return
    try:
        names = [str(module["type"]) for module in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InferenceError(f"The file {path} can't be read: {error}", "Fetch the model again.") from error
    foreign = [name for name in names if not name.startswith(_TRUSTED)]
    if foreign:
        raise InferenceError(
            f"The encoder {model.name!r} would run code of its own ({foreign[0]}); it is refused.",
            "Choose an encoder that sentence-transformers knows, e.g. all-minilm-l6-v2.",
        )


def _fast_tokenizer(inner: Any, model: Model) -> Any:
    tokenizer = getattr(inner, "tokenizer", None)
    # StaticEmbedding carries a bare tokenizer, which tells no characters through this interface.
    if tokenizer is None or not getattr(tokenizer, "is_fast", False):
        raise InferenceError(
            f"The tokenizer of {model.name!r} does not tell where its tokens lie in a text.",
            "Choose an encoder with a tokenizer.json, e.g. all-minilm-l6-v2.",
        )
    return tokenizer


def _whole_texts(tokenizer: Any) -> Any:
    """Return a tokenizer that neither cuts nor fills up, apart from the one that embedding sets for each batch."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _space_of(inner: Any, tokenizer: Any, model: Model) -> EmbeddingSpace:
    pooling = next((str(m.pooling_mode) for m in inner if hasattr(m, "pooling_mode")), "none")
    longest = inner.max_seq_length or model.context_length or tokenizer.model_max_length
    prompt = str((inner.prompts or {}).get("document", ""))
    words = len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) if prompt else 0
    return EmbeddingSpace(
        encoder=model.name,
        encoder_digest=model.digest,
        pooling=pooling,
        normalized=any(type(module).__name__ == "Normalize" for module in inner),
        dimension=int(inner.get_embedding_dimension()),
        max_tokens=max(1, int(longest) - int(tokenizer.num_special_tokens_to_add()) - words),
    )


def _stretches(text: str) -> list[tuple[int, int]]:
    """Return where to cut a long text so that each part can be tokenized alone, best at white space."""
    cuts = [0]
    while len(text) - cuts[-1] > CHARACTERS_AT_ONCE:
        limit = cuts[-1] + CHARACTERS_AT_ONCE
        found = max(text.rfind(mark, cuts[-1] + 1, limit) for mark in ("\n", " "))
        cuts.append(found if found > 0 else limit)
    cuts.append(len(text))
    return list(itertools.pairwise(cuts))


def _first_line(error: Exception) -> str:
    if isinstance(error, LLMOpsError):
        return str(error)
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
