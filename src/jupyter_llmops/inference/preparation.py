"""What a model needs on disk before it can be loaded, made by a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import jupyter_llmops
from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.conversion import Job, remove_drafts
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.memory import memory_error, need_memory, weights_bytes
from jupyter_llmops.inference.quantization import CONVERSION_VERSION, PACKED, installed_version
from jupyter_llmops.inference.sources import ModelFiles, read_config
from jupyter_llmops.inference.threads import SLEEPING
from jupyter_llmops.records.model import Model

# A process with torch and transformers, before any weight.
_PROCESS_BYTES = 300 << 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """Folders that transformers loads from.

    Parameters
    ----------
    tokenizer, weights : Path
        In transformers' layout.
    quantized : bool
        Whether `weights` is already nf4 or int8.
    """

    tokenizer: Path
    weights: Path
    quantized: bool


def prepare_tokenizer(
    model: Model, files: ModelFiles, folder: Path, progress: Progress | None = None
) -> Path:
    """Return the folder of the tokenizer, converted from a GGUF file the first time.

    Parameters
    ----------
    model : Model
        With its digest.
    files : ModelFiles
        Where its files are.
    folder : Path
        The models folder.
    progress : callable, optional
        Told what takes long.
    """
    if files.kind == "folder":
        return files.path
    target = _target(folder, "tokenizers", model)
    if not target.is_dir():
        _run(Job(model.name, gguf=str(files.path), tokenizer=str(target)), model, progress)
    return target


def prepare(
    model: Model,
    files: ModelFiles,
    folder: Path,
    quantization: str,
    device: str,
    progress: Progress | None = None,
    *,
    unsafe: bool = False,
) -> Prepared:
    """Return the folders to load from; makes those that are missing.

    Parameters
    ----------
    model : Model
        With its digest.
    files : ModelFiles
        Where its files are.
    folder : Path
        The models folder; gets ``tokenizers/``, ``weights/``, ``nf4/`` and ``int8/``.
    quantization : {"nf4", "int8", "bf16", "fp32"}
        Precision of the weights.
    device : {"cpu", "cuda"}
        Where it will be loaded; packed copies of the two are kept apart.
    progress : callable, optional
        Told what is being done and how far it is, 0 to 1.
    unsafe : bool
        Whether this user allowed the model to run code of its own.

    Raises
    ------
    ModelMemoryError
        The conversion ran out of memory.
    InferenceError
        The conversion failed, or the model is quantized in another way already.
    """
    already = _quantized_already(files, quantization, model)
    job = Job(model.name, device=device, quantization=quantization, unsafe=unsafe)
    if files.kind == "gguf":
        job = replace(
            job,
            gguf=str(files.path),
            tokenizer=str(_target(folder, "tokenizers", model)),
            weights=str(converted_weights(folder, model)),
        )
    else:
        job = replace(job, tokenizer=str(files.path), weights=str(files.path))
    if quantization in PACKED and not already:
        copy = f"{device}-bitsandbytes-{installed_version('bitsandbytes')}"
        job = replace(job, quantized=str(_target(folder, quantization, model, copy)))
    wanted = [Path(place) for place in (job.tokenizer, job.weights, job.quantized) if place]
    if not all(place.is_dir() for place in wanted):
        need_memory(_needed(files), "cpu", model, "Converting")
        _run(job, model, progress)
    return Prepared(Path(job.tokenizer), Path(job.quantized or job.weights), quantization in PACKED)


def converted_weights(folder: Path, model: Model) -> Path:
    """Return the folder that a GGUF's weights are, or would be, converted to."""
    return _target(folder, "weights", model)


def _target(folder: Path, what: str, model: Model, variant: str = "") -> Path:
    short = model.digest.removeprefix("sha256:")[:20]
    name = f"{short}-v{CONVERSION_VERSION}" + (f"-{variant}" if variant else "")
    return folder.absolute() / what / name


def _quantized_already(files: ModelFiles, quantization: str, model: Model) -> bool:
    settings = read_config(files).get("quantization_config")
    if not isinstance(settings, dict):
        return False
    method = settings.get("quant_method")
    packed = "int8" if settings.get("load_in_8bit") else settings.get("bnb_4bit_quant_type")
    if method == "bitsandbytes" and packed == quantization and quantization in PACKED:
        return True
    raise InferenceError(
        f"The model {model.name!r} is already quantized ({method}); it can't be used as {quantization}.",
        "Use its unquantized version, or --quant nf4 or int8 where bitsandbytes saved it so.",
    )


def _needed(files: ModelFiles) -> int:
    # A GGUF of 4 bits a weight is unpacked to 32 bits; a folder's weights are read and packed.
    if files.kind == "gguf":
        return _PROCESS_BYTES + 8 * files.path.stat().st_size
    return _PROCESS_BYTES + 2 * weights_bytes(files.files)


def _run(job: Job, model: Model, progress: Progress | None) -> None:
    environment = {**SLEEPING, **os.environ}
    package_root = str(Path(jupyter_llmops.__path__[0]).parent)
    environment["PYTHONPATH"] = os.pathsep.join(
        [package_root, *filter(None, [environment.get("PYTHONPATH")])]
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "jupyter_llmops.inference.conversion"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches us, and we end it
        text=True,
    )
    try:
        failed = _follow(process, job, progress)
    finally:
        _end(process)
        remove_drafts(job, process.pid)
    if process.returncode == 0:
        return
    if failed.get("memory") or process.returncode == -signal.SIGKILL:
        raise memory_error(model, "Converting", "cpu")
    raise InferenceError(
        f"Converting {model.name!r} failed: {failed.get('failed', f'exit status {process.returncode}')}",
        "Try it again; if it stays so, check the free space of the models folder.",
    )


def _follow(process: subprocess.Popen[str], job: Job, progress: Progress | None) -> dict[str, object]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(job.to_json() + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass
    failed: dict[str, object] = {}
    for line in process.stdout:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if "failed" in said:
            failed = said
        elif progress is not None:
            progress(said["doing"], said["fraction"])
    process.wait()
    return failed


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
