"""The work of converting a model once; runs as a process of its own, so its memory is given back.

A GGUF file becomes bf16 safetensors and a tokenizer in the layout of transformers; a folder
becomes a saved nf4 or int8 copy. Each is built in a temporary folder under a lock and then renamed, so a
kill at any moment leaves nothing half done.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jupyter_llmops.inference.quantization import bitsandbytes_settings, weights_dtype
from jupyter_llmops.inference.quiet import quiet

Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What to convert and where it goes; a path that is empty is not wanted.

    Parameters
    ----------
    name : str
        The model's, for messages.
    gguf : str
        The GGUF file; empty when `weights` is there already.
    tokenizer, weights, quantized : str
        Folders to make: the tokenizer, the bf16 safetensors, the packed copy of `weights`.
    device : str
        Where to quantize: "cpu" or "cuda".
    quantization : str
        What `quantized` holds: "nf4" or "int8".
    unsafe : bool
        Whether this user allowed the model to run code of its own.
    """

    name: str
    gguf: str = ""
    tokenizer: str = ""
    weights: str = ""
    quantized: str = ""
    device: str = "cpu"
    quantization: str = "nf4"
    unsafe: bool = False

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))


def convert(job: Job, report: Report) -> None:
    """Do the parts of a job that are not done yet.

    Parameters
    ----------
    job : Job
        What to do.
    report : callable
        Told what is being done and how far it is, 0 to 1.
    """
    if job.gguf and job.tokenizer:
        with _building(Path(job.tokenizer), report) as folder:
            if folder is not None:
                report("Converting the tokenizer (once)", 0.1)
                _convert_tokenizer(Path(job.gguf), folder)
    if job.gguf and job.weights:
        with _building(Path(job.weights), report) as folder:
            if folder is not None:
                report("Converting the weights (once)", 0.25)
                _convert_weights(Path(job.gguf), folder)
    if job.quantized:
        with _building(Path(job.quantized), report) as folder:
            if folder is not None:
                report(f"Quantizing to {job.quantization} (once)", 0.8)
                _quantize(job, folder)
    report("Converted", 1.0)


def remove_drafts(job: Job, pid: int) -> None:
    """Remove what a converting process left half done when it was stopped."""
    for place in filter(None, (job.tokenizer, job.weights, job.quantized)):
        shutil.rmtree(_draft(Path(place), pid), ignore_errors=True)


def _draft(target: Path, pid: int) -> Path:
    return target.with_name(f".{target.name}.{pid}.part")


@contextlib.contextmanager
def _building(target: Path, report: Report) -> Iterator[Path | None]:
    """Give a temporary folder that becomes `target`, or None where that is there already."""
    from filelock import FileLock, Timeout

    if target.is_dir():
        yield None
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("Waiting for another process that converts it", 0.0)
        lock.acquire()
    try:
        if target.is_dir():
            yield None
            return
        # Whoever left one of these was killed: the lock is ours.
        for left in target.parent.glob(f".{target.name}.*.part"):
            shutil.rmtree(left, ignore_errors=True)
        draft = _draft(target, os.getpid())
        draft.mkdir()
        try:
            yield draft
            _sync(draft)
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        lock.release()


def _convert_tokenizer(gguf: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
        if _splitting_rule(gguf) == "smollm":
            # transformers drops this rule of the file: every digit is a token of its own.
            from tokenizers.pre_tokenizers import Digits, Sequence

            inner = tokenizer.backend_tokenizer
            inner.pre_tokenizer = Sequence([Digits(individual_digits=True), inner.pre_tokenizer])
        tokenizer.save_pretrained(folder)


def _splitting_rule(gguf: Path) -> str:
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    return str(field.contents()) if field is not None else ""


def _convert_weights(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            trust_remote_code=False,
        )
        # They are plain weights now; save_pretrained refuses a model that still says "GGUF".
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.hf_quantizer = None
        model.save_pretrained(folder)


def _quantize(job: Job, folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            job.weights,
            quantization_config=bitsandbytes_settings(job.device, job.quantization),
            dtype=weights_dtype(job.quantization, job.device),
            device_map=job.device,
            trust_remote_code=job.unsafe,
        )
        # Save before the first forward pass: that repacks the weights on some CPUs, and what
        # bitsandbytes 0.50 saves afterwards answers nonsense.
        model.save_pretrained(folder)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _leave_with_parent() -> None:
    # The parent holds the other end of stdin; when it is gone for any reason, so are we.
    sys.stdin.buffer.read()
    os._exit(3)


def main() -> int:
    """Read a `Job` as one JSON line from stdin; print progress as JSON lines."""

    def report(doing: str, fraction: float) -> None:
        _say({"doing": doing, "fraction": fraction})

    job = Job(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    report("Starting the conversion (once)", 0.02)
    try:
        convert(job, report)
    except Exception as error:  # noqa: BLE001 - the parent process tells the user
        from jupyter_llmops.inference.boundary import first_line
        from jupyter_llmops.inference.memory import is_out_of_memory

        failed = {"failed": first_line(error), "memory": is_out_of_memory(error)}
        _say(failed)
        return 1
    return 0


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # the watching thread blocks in a read; a normal exit would wait for its lock
