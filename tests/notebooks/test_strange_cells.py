"""Strange cells in a real kernel: whatever they do to it, the trail goes on, and what ended it is known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.audit.reading import list_journals, read_runs
from jupyter_llmops.audit.running import read_running
from jupyter_llmops.audit.verification import verify
from real_kernels import Desk, Kernel, make_desk

STRANGE = (
    "import builtins\nkept = print\nbuiltins.print = lambda *a, **k: None",
    "builtins.print = kept",
    (
        "import sys\nclass Tee:\n    def __init__(self, out): self.out = out\n"
        "    def write(self, text): return self.out.write(text)\n    def flush(self): self.out.flush()\n"
        "sys.stdout = Tee(sys.stdout)\nprint('teed')"
    ),
    "sys.stdout = sys.stdout.out",
    "import os\nchild = os.fork()\nif not child:\n    print('from the child', flush=True)\n    os._exit(0)\nos.waitpid(child, 0)",
    (
        "import threading\nthreads = [threading.Thread(target=print, args=('x' * 9,)) for _ in range(50)]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()"
    ),
    "get_ipython().events.callbacks['pre_run_cell'].clear(); get_ipython().events.callbacks['post_run_cell'].clear()",
    (
        "import pathlib\nfor name in os.listdir('/proc/self/fd'):\n"
        "    try: target = os.readlink(f'/proc/self/fd/{name}')\n    except OSError: continue\n"
        "    if '/audit/' in target: os.close(int(name))"
    ),
    "del sys.modules['jupyter_llmops'], get_ipython",
    "%reset -f",
    "class Bad:\n    __eq__ = __hash__ = __repr__ = lambda *a: 1 / 0\nbad = Bad()\nbad",
    "x = 1  # " + "a" * 300_000,
    "%%capture\nprint('hidden')\n3",
    "import asyncio\nawait asyncio.sleep(0)\nprint('async')",
    "raise KeyboardInterrupt",
)


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    desk = make_desk(tmp_path, tmp_path / "no-models")
    yield desk
    for kernel in desk.kernels:
        if kernel.manager.is_alive():
            kernel.stop()


def cells(desk: Desk) -> list[dict[str, Any]]:
    """Return the leaves of the cells of the only journal."""
    (path,) = list_journals(desk.root / "llmops" / "audit")
    return [run.leaf or {} for run in read_runs(path) if run.kind == "cell"]


def until_dead(kernel: Kernel) -> None:
    """Wait for a kernel's process to end."""
    deadline = time.monotonic() + 60
    while kernel.manager.is_alive():
        assert time.monotonic() < deadline, "the kernel lives on"
        time.sleep(0.05)


def test_the_trail_goes_on_and_says_what_ended_it(desk: Desk) -> None:
    kernel = desk.kernel()
    for source in STRANGE:
        kernel.run(source)
        assert kernel.run("'next'").status == "ok"
    leaves = cells(desk)
    # The cell that loads, each strange one and the one after it; `%%capture` runs a cell of its own.
    assert len(leaves) == 1 + 2 * len(STRANGE) + 1
    threads = leaves[1 + 2 * 5]
    assert threads["outputs"]["stdout"]["size"] == 50 * 10
    assert "outputs" not in leaves[1 + 2 * 12]
    assert "outputs" not in leaves[2 + 2 * 12]
    folder = desk.root / "llmops" / "audit"
    found = verify(folder)
    assert found.ok, found.problems
    (path,) = list_journals(folder)
    session = path.stem
    known = {leaf["id"] for leaf in leaves}
    assert {mark.id for mark in read_running(folder, session)} <= known
    kernel.client.execute("import os\nos._exit(3)")
    until_dead(kernel)
    (mark,) = [mark for mark in read_running(folder, session) if mark.id not in known]
    assert mark.execution_count == leaves[-1]["execution_count"] + 1
    assert mark.kernel
    assert verify(folder).ok


def test_outputs_of_a_kernel_are_digested_by_type(desk: Desk) -> None:
    kernel = desk.kernel()
    kernel.run(
        "import sys\nfrom IPython.display import HTML, display\nprint('one')\nprint('two', file=sys.stderr)\n"
        "display(HTML('<b>x</b>'))\n1 + 1"
    )
    kernel.run("1 / 0")
    shown, failed = cells(desk)[-2:]
    sizes = {kind: (one["count"], one["size"]) for kind, one in shown["outputs"].items()}
    plain = "<IPython.core.display.HTML object>"
    assert sizes == {
        "stdout": (1, 4), "stderr": (1, 4), "text/html": (1, 8), "text/plain": (2, len(plain) + 1)
    }  # fmt: skip
    assert failed["outputs"]["error"]["count"] == 1
    assert (shown["actor"], len(shown["client"])) == ("program", 12)
    kernel.client.session.send(
        kernel.client.shell_channel.socket, "execute_request",
        {"code": "2", "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False},
        metadata={"cellId": "a-cell"},
    )  # fmt: skip
    kernel.run("3")
    by_person = cells(desk)[-2]
    assert (by_person["actor"], by_person["cell"]) == ("human", "a-cell")


def test_exit_and_a_kill_are_told_apart_from_an_orderly_end(desk: Desk) -> None:
    folder = desk.root / "llmops" / "audit"
    orderly = desk.kernel()
    orderly.run("x = 1")
    orderly.run("exit()")
    until_dead(orderly)
    (first,) = list_journals(folder)
    assert read_running(folder, first.stem) == ()
    assert [run.kind for run in read_runs(first)].count("environment") == 1
    killed = desk.kernel()
    killed.client.execute("import time\ntime.sleep(600)")
    second = next(path for path in list_journals(folder) if path != first)
    known = {run.id for run in read_runs(second)}
    deadline = time.monotonic() + 60
    while all(mark.id in known for mark in read_running(folder, second.stem)):
        assert time.monotonic() < deadline, "the cell did not begin"
        time.sleep(0.05)
    killed.manager.shutdown_kernel(now=True)
    until_dead(killed)
    ids = {run.id for run in read_runs(second)}
    assert [mark.id in ids for mark in read_running(folder, second.stem)] == [False]
    assert verify(folder).ok
