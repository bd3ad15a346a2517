"""The whole road in a real kernel on the real model."""

from __future__ import annotations

import json
import os
import pickle
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from real_kernels import make_desk

if TYPE_CHECKING:
    from real_kernels import Desk, Kernel

PROMPT = "%%prompt -n 24\nSay in one sentence what a {{ thing }} is."


@pytest.fixture(scope="module")
def answered(kernel: Kernel) -> str:
    """Ask once and return the answer."""
    kernel.run("thing = 'cat'")
    shown = kernel.run(PROMPT + "\n")
    assert shown.status == "ok", shown.error
    return shown.text


def test_the_model_answers_while_it_is_watched(kernel: Kernel) -> None:
    seen: list[str] = []

    def watch(message: dict[str, Any]) -> None:
        if message["msg_type"] in ("display_data", "update_display_data"):
            seen.append(message["content"]["data"]["text/plain"])

    kernel.run("thing = 'dog'")
    shown = kernel.run("%%prompt -n 40\nWrite two sentences about a {{ thing }}.", during=watch)
    assert "from the model" in shown.text
    assert "tokens/s" in shown.text
    partial = [text for text in seen if "pieces" in text]
    assert partial, "nothing was shown while the answer was written"
    assert seen[-1] == "", "what was drawn meanwhile stays beside the result"
    assert not any(message["msg_type"] == "clear_output" for message in shown.messages)


def test_the_second_call_comes_from_the_cache(kernel: Kernel, answered: str) -> None:
    again = kernel.run(PROMPT + "\n")
    assert "from the cache" in again.text
    assert again.text.partition("\n\n[")[0] == answered.partition("\n\n[")[0]


def test_a_run_is_reproduced_in_another_process(kernel: Kernel, answered: str) -> None:
    kernel.run(PROMPT + "\n")  # a hit: what is reproduced must be inferred all the same
    shown = kernel.run("r = %reproduce\nr")
    assert "identical" in shown.text, shown.error
    assert "cache hit" in shown.html
    pids = kernel.run("import os; print(r.pid != os.getpid(), r.tokens > 5)")
    assert "True True" in pids.text


def test_an_answer_from_passages_is_reproduced_without_its_collection(kernel: Kernel) -> None:
    texts = [
        "Helmets are never taken back.",
        "The workshop opens at ten.",
        "A cargo bicycle costs 30 euros a day.",
    ]
    kernel.run(f"texts = {texts!r}")
    assert kernel.run("%collections add handbook --from texts").status == "ok"
    cell = "%%prompt --context handbook -k 2 -n 12 --into said\nWhen does the workshop open?\n"
    shown = kernel.run(cell)
    assert shown.status == "ok", shown.error
    assert "Sources\n[1]" in shown.text
    assert "<details" in shown.html
    seen = kernel.run(
        "print(texts[1] in [p.text for p in said.passages], len(said.passages), said.tokens_in > 80)"
    )
    assert seen.text.strip() == "True 2 True"
    assert "from the cache" in kernel.run(cell).text
    # Better passages than the recorded ones, and then no collection of that name in the lists.
    kernel.run("more = ['When does the workshop open? The workshop opens at noon.'] * 1")
    assert kernel.run("%collections add handbook --from more").status == "ok"
    assert "[1]" in kernel.run(cell.replace("--into said", "--dry-run")).text
    kernel.run("%collections retire handbook")
    again = kernel.run("%reproduce said")
    assert "identical" in again.text, again.error


def test_a_changed_record_is_not_reproduced(kernel: Kernel, desk: Desk, answered: str) -> None:
    """The comparison must be able to say no: another seed gives another answer."""
    kernel.run("%%prompt -n 16 -t 1.5 --seed 1 --into one\nName a colour.\n")
    kernel.run("%%prompt -n 16 -t 1.5 --into other\nName a colour.\n")
    same = kernel.run("%reproduce one")
    assert "identical" in same.text, same.error + same.text
    different = kernel.run("%reproduce other")
    assert "different" in different.text
    assert "without a seed" in different.text


def test_interruption_leaves_the_kernel_usable(kernel: Kernel) -> None:
    interrupted: list[bool] = []

    def interrupt(message: dict[str, Any]) -> None:
        data = message["content"].get("data", {})
        if not interrupted and "pieces" in data.get("text/plain", ""):
            interrupted.append(True)
            kernel.manager.interrupt_kernel()

    shown = kernel.run(
        "%%prompt -n 400 --no-cache --param min_new_tokens=400\nCount from one to two hundred.\n",
        during=interrupt,
    )
    assert shown.status == "error"
    assert shown.error.startswith("Interrupted:"), shown.error
    assert "\n" not in shown.error.strip()
    record = kernel.run(
        "run = get_ipython()._jupyter_llmops.run('-1', kind='prompt'); print(run.status, run.tokens_out)"
    )
    status, tokens = record.text.split()
    assert status == "interrupted"
    assert 0 < int(tokens) < 400
    after = kernel.run("%%prompt -n 5 --no-cache\nHi\n")
    assert "from the model" in after.text


def test_a_planted_pickle_runs_nothing(kernel: Kernel, desk: Desk, answered: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, (f"touch {marker}",))

    cache = desk.root / "catalog" / "cache"
    items = [path for path in cache.rglob("*") if path.is_file()]
    assert items
    for path in items:
        path.write_bytes(pickle.dumps(Evil()))
        (path.parent / "output.pkl").write_bytes(pickle.dumps(Evil()))
    kernel.run(
        "get_ipython()._jupyter_llmops.__dict__.pop('cache'); get_ipython()._jupyter_llmops.__dict__.pop('pipeline')"
    )
    shown = kernel.run(PROMPT + "\n")
    assert not marker.exists()
    assert "from the model" in shown.text
    assert "arning" in shown.stderr
    pickle.loads(pickle.dumps(Evil()))
    assert marker.exists(), "the planted pickle would not have run anything: this test can't fail"


def test_one_changed_byte_names_the_record(desk: Desk, models_folder: Path) -> None:
    kernel = desk.kernel("tampering")
    for index in range(4):
        kernel.run(f"x = {index}")
    path = json.loads(
        kernel.run("import json; print(json.dumps(str(get_ipython()._jupyter_llmops.journal.path)))").text
    )
    assert "verif" in kernel.run("%audit verify").text.lower()
    data = bytearray(Path(path).read_bytes())
    lines = bytes(data).splitlines(keepends=True)
    offset = sum(len(line) for line in lines[:2]) + lines[2].index(b'"status":"ok"') + 11
    data[offset] ^= 1
    Path(path).write_bytes(data)
    shown = kernel.run("%audit verify")
    run_id = json.loads(lines[2])["id"]
    assert run_id in shown.text, shown.text


def test_a_secret_typed_in_a_cell_is_in_no_file(desk: Desk) -> None:
    kernel = desk.kernel("secrets")
    token = "ghp_" + "9fK2mQ7xT4vB8nL1pR6wZ3cY5sD0hJ" + "aGeU1i"
    plain = "correct-horse-7731"
    kernel.run(f"headers = {{'Authorization': 'Bearer {token}'}}")
    kernel.run(f"import os; os.environ['TEAM_DB_PASSWORD'] = '{plain}'")
    kernel.run(f"print('{token}', '{plain}'); raise ValueError('{token} {plain}')")
    shown = kernel.run(f"%%prompt -n 8 --system 'Key {token}'\nRepeat: {token} and {plain}\n")
    assert shown.status == "ok", shown.error
    assert "from the model" in shown.text
    kernel.run("%runs")
    kernel.run("%audit verify")
    read = 0
    ours = [desk.root / "llmops" / "audit", desk.root / "catalog", desk.root / "runtime", desk.root / "data"]
    for path in (path for folder in ours for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        read += len(data)
        for secret in (token, plain):
            assert secret.encode() not in data, path
            assert secret.encode("utf-16-le") not in data, path
    assert read > 10_000


def test_sibling_folders_see_the_same_catalog_at_once(tmp_path_factory: Any, models_folder: Path) -> None:
    desk = make_desk(tmp_path_factory.mktemp("siblings"), models_folder)
    del desk.env["LLMOPS_CATALOG"]
    (desk.root / "project" / ".llmops").mkdir(parents=True)
    one, other = desk.kernel("project/ada"), desk.kernel("project/grace")
    try:
        assert "No prompts yet" in other.run("%prompts").text
        one.run("ws = get_ipython()._jupyter_llmops; _ = ws.save_prompt('greeting', 'Hello {{ name }}')")
        assert "greeting" in other.run("%prompts").text
        assert "Hello Ada" in other.run("%prompt greeting name=Ada --dry-run").text
        assert (desk.root / "project" / ".llmops").is_dir()
    finally:
        one.stop()
        other.stop()


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("%%prompt -m smollm2-135m-instrukt\nHi\n", ["UnknownNameError", "smollm2-135m-instruct"]),
        ("%%prompt -m nobody/nothing\nHi\n", ["ModelNotAvailableError", "HF_HUB_OFFLINE"]),
        ("%%prompt\nHi {{ nobody }}\n", ["TemplateError", "'nobody'"]),
        ("%%prompt --param top_q=0.5\nHi\n", ["UsageError", "top_p"]),
        ("%%prompt --frobnicate\nHi\n", ["UsageError", "Usage:"]),
        ("%%prompt -n 100000\nHi\n", ["8,192", "-n 8161"]),
    ],
)
def test_bad_input_is_one_line(kernel: Kernel, cell: str, parts: list[str]) -> None:
    shown = kernel.run(cell)
    assert shown.status == "error"
    assert len(shown.error.splitlines()) == 1, shown.error
    for part in parts:
        assert part in shown.error


def test_a_killed_kernel_loses_no_run(desk: Desk) -> None:
    kernel = desk.kernel("killed")
    for index in range(3):
        kernel.run(f"kept = {index}")
    session = kernel.run("print(get_ipython()._jupyter_llmops.journal.session)").text.strip()
    pid = int(kernel.run("import os; print(os.getpid())").text)
    os.kill(pid, signal.SIGKILL)
    other = desk.kernel("survivor")
    shown = other.run(
        f"print([r.execution_count for r in get_ipython()._jupyter_llmops.runs(200) "
        f"if r.session == '{session}' and r.kind == 'cell'])"
    )
    assert shown.text.strip() == "[6, 5, 4, 3, 2, 1]"
