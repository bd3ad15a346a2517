"""llama.cpp's library: whether it is there, which build it is, and its objects with their lifetimes."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import os
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_llmops.errors import InferenceError, MissingDependencyError
from jupyter_llmops.inference.quantization import installed_version
from jupyter_llmops.inference.threads import sleeping_threads

# Flash attention on a CPU splits its sums by the number of threads, so its logits depend on it. Without
# it they are bitwise the same over threads, batch sizes, sizes of the context and how a prompt is cut.
FLASH_ATTENTION = False
# Tokens of a prompt that are read in one step; steps begin at multiples of it. A matrix product of one
# column adds up in another order than one of several, so where a prompt is cut must depend on nothing
# else. Between two steps Ctrl-C is heard. On a CPU 64 tokens a step are 5 % faster than 16.
STEP = 16
_SILENT = logging.CRITICAL + 1


def is_installed() -> bool:
    """Return whether llama-cpp-python is installed, without importing it."""
    return "llama_cpp" in sys.modules or importlib.util.find_spec("llama_cpp") is not None


@functools.cache
def library() -> Any:
    """Return llama.cpp's C interface, loaded so that its idle threads sleep and it prints nothing.

    Raises
    ------
    MissingDependencyError
        llama-cpp-python is not installed.
    InferenceError
        Its compiled part does not load here.
    """
    if not is_installed():
        raise MissingDependencyError("Answering with a GGUF file as it is", "gguf")
    try:
        with sleeping_threads():
            from llama_cpp import llama_cpp
    except (OSError, RuntimeError, ImportError) as error:
        raise InferenceError(
            f"llama.cpp does not load: {error}",
            "Type: %pip install --force-reinstall --no-cache-dir llama-cpp-python, or use --quant nf4.",
        ) from error
    printing = logging.getLogger("llama-cpp-python")
    if printing.level == logging.NOTSET:  # nobody has chosen
        printing.setLevel(_SILENT)
    llama_cpp.llama_backend_init()
    return llama_cpp


@functools.cache
def engine_version() -> str:
    """Return the package, the llama.cpp in it, and the instructions that it was compiled for.

    All of it decides the last bit of a sum.
    """
    said = library().llama_print_system_info().decode()
    switches = dict(part.strip().split(" = ") for part in said.split(":", 1)[-1].split("|") if " = " in part)
    compiled = " ".join(sorted(name for name, value in switches.items() if value == "1"))
    build = library().llama_version().decode()
    return f"llama-cpp-python {installed_version('llama-cpp-python')}, llama.cpp {build} ({compiled})"


def threads() -> int:
    """Return how many threads compute: PyTorch's where it is there, else ``OMP_NUM_THREADS``, else all we may use.

    Answers do not depend on it.
    """
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    import joblib

    return int(joblib.cpu_count())  # looks at the affinity and at the container's limit


class NativeModel:
    """A GGUF file in llama.cpp's memory.

    Parameters
    ----------
    path : Path
        The file, or the first part of one that is split.
    vocabulary_only : bool
        Only the tokens and the metadata, no weights.

    Raises
    ------
    InferenceError
        llama.cpp can't read it.
    """

    def __init__(self, path: Path, *, vocabulary_only: bool = False) -> None:
        lib = library()
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.vocab_only = vocabulary_only
        self.pointer: Any = lib.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self.pointer:
            raise InferenceError(
                f"llama.cpp can't read the file {path}.",
                "Fetch it again; a newer kind of model needs: %pip install -U llama-cpp-python",
            )
        self.close = weakref.finalize(self, lib.llama_model_free, self.pointer)
        self.close.atexit = False  # the process ends anyway, and its libraries in any order
        self.vocabulary: Any = lib.llama_model_get_vocab(self.pointer)
        self.vocabulary_size = int(lib.llama_vocab_n_tokens(self.vocabulary))

    def metadata(self, key: str) -> str:
        """Return a text of the file's header; empty where it has none."""
        size = 1 << 20
        buffer = ctypes.create_string_buffer(size)
        length = library().llama_model_meta_val_str(self.pointer, key.encode(), buffer, size)
        return buffer.value.decode("utf-8", "replace") if length > 0 else ""

    @property
    def size_bytes(self) -> int:
        """Size of the weights, bytes."""
        return int(library().llama_model_size(self.pointer))

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return int(library().llama_model_n_ctx_train(self.pointer))

    @property
    def reads_step_by_step(self) -> bool:
        """Whether it answers token by token after its prompt, as all do but encoder-decoders."""
        return bool(library().llama_model_has_decoder(self.pointer)) and not (
            library().llama_model_has_encoder(self.pointer)
        )

    @property
    def has_attention_only(self) -> bool:
        """Whether all it remembers are keys and values, so that a prompt's beginning can be copied."""
        lib = library()
        return not (lib.llama_model_is_recurrent(self.pointer) or lib.llama_model_is_hybrid(self.pointer))

    def cache_bytes(self, tokens: int) -> int:
        """Return what attention keeps for that many tokens, bytes, roughly; in 16-bit numbers."""
        lib = library()
        heads = max(1, int(lib.llama_model_n_head(self.pointer)))
        wide = int(lib.llama_model_n_embd(self.pointer)) // heads
        kept = int(lib.llama_model_n_head_kv(self.pointer)) * wide
        return 2 * 2 * int(lib.llama_model_n_layer(self.pointer)) * kept * tokens


class Step(NamedTuple):
    """One token to read: where in its sequence, and whether the scores after it are wanted."""

    token: int
    position: int
    sequence: int
    scored: bool


class NativeContext:
    """Sequences that a model reads side by side, each with keys and values of its own.

    Parameters
    ----------
    model : NativeModel
        With its weights.
    sequences : int
        How many side by side.
    tokens : int
        Most tokens of each.

    Raises
    ------
    MemoryError
        It does not fit.
    """

    def __init__(self, model: NativeModel, sequences: int, tokens: int) -> None:
        lib = library()
        self.model = model
        self.sequences = sequences
        self.tokens = -(-tokens // 256) * 256  # llama.cpp rounds up to it
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = self.tokens * sequences
        parameters.n_seq_max = sequences
        parameters.n_batch = parameters.n_ubatch = max(STEP, sequences)
        parameters.flash_attn_type = int(FLASH_ATTENTION)
        parameters.kv_unified = False  # else a sequence's sums depend on the others'
        parameters.no_perf = True
        self.pointer: Any = lib.llama_init_from_model(model.pointer, parameters)
        if not self.pointer:
            raise MemoryError("llama.cpp could not allocate its context")
        self._batch = lib.llama_batch_init(parameters.n_batch, 0, 1)
        self.close = weakref.finalize(self, _free_context, lib, self.pointer, self._batch)
        self.close.atexit = False
        self._memory = lib.llama_get_memory(self.pointer)
        self.use_threads()
        self._decode = lib.llama_decode
        self._logits = lib.llama_get_logits_ith

    def use_threads(self) -> None:
        """Compute with as many threads as there are for us now."""
        library().llama_set_n_threads(self.pointer, threads(), threads())

    def read(self, steps: Sequence[Step]) -> None:
        """Read tokens, at most `STEP` or one for each sequence.

        Raises
        ------
        RuntimeError
            llama.cpp could not.
        """
        batch = self._batch
        for index, step in enumerate(steps):
            batch.token[index] = step.token
            batch.pos[index] = step.position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = step.sequence
            batch.logits[index] = step.scored
        batch.n_tokens = len(steps)
        status = self._decode(self.pointer, batch)
        if status:
            raise RuntimeError(f"llama.cpp stopped with status {status}")

    def scores(self, index: int) -> Any:
        """Return the scores after the step of that index, as an array over llama.cpp's own memory.

        Parameters
        ----------
        index : int
            As in the last `read`; -1 is the last one.

        Returns
        -------
        numpy.ndarray of float32, (vocabulary,)
            Valid until the next `read`.
        """
        import numpy as np

        return np.ctypeslib.as_array(self._logits(self.pointer, index), (self.model.vocabulary_size,))

    def forget(self, sequence: int | None = None) -> None:
        """Forget a sequence's tokens, or all."""
        lib = library()
        if sequence is None:
            lib.llama_memory_clear(self._memory, True)
        else:
            lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def copy(self, source: int, target: int) -> None:
        """Give a sequence the tokens of another one."""
        library().llama_memory_seq_cp(self._memory, source, target, -1, -1)


def _free_context(lib: Any, pointer: Any, batch: Any) -> None:
    lib.llama_batch_free(batch)
    lib.llama_free(pointer)
