"""Converting once: whole or not at all, whoever is killed, however many ask at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from model_fixtures import make_request
from soak import SoakScale

LOAD = """
    import sys
    from pathlib import Path
    from jupyter_llmops.inference import sources, transformers_engine
    from jupyter_llmops.inference.transformers_engine import TransformersEngine

    def progress(doing, fraction):
        print(doing, flush=True)
        if doing.startswith(sys.argv[3]):
            sys.stdin.readline()  # whoever started us kills us here, or lets us go on

    if sys.argv[4:]:  # only the files are wanted: it ends where it would load them
        transformers_engine.import_torch = sys.exit
    engine = TransformersEngine(Path(sys.argv[1]), offline=True)
    try:
        engine.load(sources.resolve(sys.argv[2]), "nf4", progress)
    except KeyboardInterrupt:
        print("interrupted", engine.loaded(), flush=True)
"""
STAGES = ["Converting the tokenizer", "Converting the weights", "Quantizing"]


def start(folder: Path, gguf: Path, stop_at: str, *only_files: str) -> subprocess.Popen[str]:
    """Start a process that loads the model and waits when it is at a stage."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LOAD), str(folder), str(gguf), stop_at, *only_files],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], stage: str) -> None:
    assert process.stdout is not None
    assert any(line.startswith(stage) for line in process.stdout), f"it ended before {stage}"


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


def check_whole(folder: Path, gguf: Path, progress: Progress | None = None) -> tuple[int, ...]:
    engine = TransformersEngine(folder, offline=True)
    model = engine.with_digest(sources.resolve(str(gguf)))
    engine.load(model, "nf4", progress)
    answer = engine.generate(make_request(engine, model, "abc", "nf4", max_new_tokens=8), model)
    assert not leftovers(folder)
    return answer.token_ids


@pytest.fixture(scope="module")
def expected(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, ...]:
    """Return the answer of a conversion that nobody disturbed, and that says how far it is."""
    heard: list[float] = []
    answer = check_whole(
        tmp_path_factory.mktemp("undisturbed"),
        tiny_gguf,
        lambda _, fraction: heard.append(fraction) if fraction is not None else None,
    )
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    return answer


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
def test_killed_midway_it_is_repeated(
    tmp_path: Path, tiny_gguf: Path, expected: tuple[int, ...], soak_scale: SoakScale
) -> None:
    """Kill whoever loads at a stage of the conversion, in a soak at each of them."""
    for stage in soak_scale.pick(STAGES, 1):
        folder = tmp_path / stage.replace(" ", "-")
        process = start(folder, tiny_gguf, stage)
        wait_for(process, stage)
        process.kill()
        process.wait()
        assert check_whole(folder, tiny_gguf) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupted_it_leaves_nothing_half_done(
    tmp_path: Path, tiny_gguf: Path, expected: tuple[int, ...]
) -> None:
    process = start(tmp_path, tiny_gguf, "Quantizing")
    wait_for(process, "Quantizing")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert "interrupted []" in out
    assert not leftovers(tmp_path)
    assert not list((tmp_path / "nf4").glob("*bitsandbytes*[0-9]"))
    assert check_whole(tmp_path, tiny_gguf) == expected


def test_two_at_once_convert_once(tmp_path: Path, tiny_gguf: Path, expected: tuple[int, ...]) -> None:
    first = start(tmp_path, tiny_gguf, "never", "only files")
    second = start(tmp_path, tiny_gguf, "never", "only files")
    said = [process.communicate()[0] for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert sum(text.count("Quantizing") for text in said) == 1
    assert check_whole(tmp_path, tiny_gguf) == expected


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(b"GGUF" + os.urandom(2000))
    engine = TransformersEngine(tmp_path / "models", offline=True)
    with pytest.raises(InferenceError, match=r"Converting .* failed"):
        engine.load(sources.resolve(str(path)), "auto")
    assert not leftovers(tmp_path)
