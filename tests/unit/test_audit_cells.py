"""Cells of a real IPython shell become leaves."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from jupyter_llmops.audit.cells import CellStamper
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import list_journals, read_content, read_runs
from jupyter_llmops.audit.verification import verify
from jupyter_llmops.display.verification import verification_text
from jupyter_llmops.guard.redaction import Redactor
from jupyter_llmops.records.run import Run


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    shell = InteractiveShell(config=config)
    yield shell
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()


class Trail:
    """A stamper on a shell, and what it has written."""

    def __init__(self, shell: InteractiveShell, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[str] = []
        self.stamped: list[str] = []
        self.journal = Journal(folder, redact=Redactor().redact, warn=self.warnings.append)
        self.stamper = CellStamper(shell, self.journal, notebook="a.ipynb", on_stamp=self.stamped.append)

    @property
    def runs(self) -> list[Run]:
        return [
            run for path in list_journals(self.folder) for run in read_runs(path) if run.kind != "session"
        ]

    def source(self, run: Run) -> str:
        content = read_content(self.folder, run)
        assert content is not None
        return content["source"]


@pytest.fixture
def trail(shell: InteractiveShell, tmp_path: Path) -> Iterator[Trail]:
    trail = Trail(shell, tmp_path / "audit")
    trail.stamper.register()
    yield trail
    trail.stamper.unregister()
    trail.journal.close()
    assert verify(trail.folder).ok


def test_a_cell_is_stamped_with_what_it_was(shell: InteractiveShell, trail: Trail) -> None:
    shell.run_cell("x = 1 + 1", store_history=True, cell_id="cell-7")
    (run,) = trail.runs
    assert (run.kind, run.status, run.notebook, run.execution_count) == ("cell", "ok", "a.ipynb", 1)
    assert run.leaf is not None
    assert run.leaf["cell"] == "cell-7"
    assert run.error_type == run.parent == ""
    assert trail.source(run) == "x = 1 + 1"
    assert trail.stamped == [run.id]
    assert shell.user_ns["x"] == 2


@pytest.mark.parametrize(
    ("source", "status", "error_type"),
    [
        ("1 / 0", "error", "ZeroDivisionError"),
        ("def f(:", "error", "SyntaxError"),
        ("  x = 1\n y = 2", "error", "IndentationError"),
        ("raise KeyboardInterrupt", "interrupted", "KeyboardInterrupt"),
        ("%no_such_magic", "error", "UsageError"),
        ("raise SystemExit", "error", "SystemExit"),
        ("import asyncio\nawait asyncio.sleep(0)", "ok", ""),
        ("import asyncio\nraise asyncio.CancelledError", "interrupted", "CancelledError"),
    ],
)
@pytest.mark.filterwarnings("ignore:To exit")
def test_how_it_ended(
    shell: InteractiveShell, trail: Trail, source: str, status: str, error_type: str
) -> None:
    shell.run_cell(source, store_history=True)
    (run,) = trail.runs
    # IPython says that a magic is missing in a printed line, not in an exception of the cell.
    if source.startswith("%"):
        assert run.status in ("ok", "error")
    else:
        assert (run.status, run.error_type) == (status, error_type)


def test_silent_and_empty_cells_are_left_out(shell: InteractiveShell, trail: Trail) -> None:
    shell.run_cell("1", silent=True)
    shell.run_cell("", store_history=True)
    shell.run_cell(" \n", store_history=True)
    assert trail.runs == []


def test_a_cell_says_how_many_silent_runs_were_before_it(shell: InteractiveShell, trail: Trail) -> None:
    shell.run_cell("x = 1", store_history=True)
    shell.run_cell("hidden = 1", silent=True)
    shell.run_cell("hidden = 2", silent=True)
    shell.run_cell("%%capture out\n1", store_history=True)
    shell.run_cell("y = 1", store_history=True)
    told = [run.leaf.get("silent_before", 0) for run in trail.runs]
    assert told == [0, 0, 2, 0], "the captured cell is stamped before the one that captures it"
    verification = verify(trail.folder)
    assert verification.ok
    (gap,) = verification.not_covered
    assert (gap.reason, gap.cells) == ("silent", 0)
    assert gap.message.startswith("2 requests ran silently in a.ipynb ")


def test_silent_runs_within_a_cell_are_its_own_and_no_frontends(
    shell: InteractiveShell, trail: Trail, tmp_path: Path
) -> None:
    (tmp_path / "other.ipy").write_text("inner = 1\n!true\n")
    shell.run_cell(f"%run {tmp_path / 'other.ipy'}", store_history=True)
    shell.run_cell("%%capture out\nget_ipython().run_cell('k = 1', silent=True)", store_history=True)
    shell.run_cell("y = inner", store_history=True)
    within = [(run.leaf or {}).get("silent_within", 0) for run in trail.runs]
    assert within == [1, 1, 0, 0], "a file, the captured cell, the one that captures it, the last"
    assert shell.user_ns["y"] == 1
    assert verify(trail.folder).not_covered == ()


def test_messages_to_widgets_are_no_silent_requests(shell: InteractiveShell, trail: Trail) -> None:
    shell.run_cell("x = 1", store_history=True)
    shell.parent_header = {"msg_type": "comm_msg", "header": {"msg_type": "comm_msg"}}  # type: ignore[attr-defined]
    for _ in range(3):  # as `comm.base_comm` does around a widget's callbacks
        shell.events.trigger("pre_execute")
        shell.events.trigger("post_execute")
    del shell.parent_header  # type: ignore[attr-defined]
    shell.run_cell("y = 1", store_history=True)
    told = trail.runs[-1].leaf or {}
    assert (told.get("callbacks_before"), told.get("silent_before")) == (3, None)
    (gap,) = verify(trail.folder).not_covered
    assert (gap.reason, gap.cells) == ("silent", 0)
    assert gap.message.startswith("3 messages came to widgets in a.ipynb ")


def test_a_cell_that_a_widgets_callback_runs_hides_no_silent_request(
    shell: InteractiveShell, trail: Trail
) -> None:
    shell.run_cell("x = 1", store_history=True)
    shell.run_cell("hidden = 1", silent=True)
    shell.parent_header = {"msg_type": "comm_msg"}  # type: ignore[attr-defined]
    shell.events.trigger("pre_execute")
    shell.run_cell("get_ipython().run_cell('z = 1')", store_history=True)
    del shell.parent_header  # type: ignore[attr-defined]
    shell.run_cell("y = 1", store_history=True)
    told = [
        tuple(
            (run.leaf or {}).get(name, 0) for name in ("silent_before", "callbacks_before", "silent_within")
        )
        for run in trail.runs
    ]
    assert told == [(0, 0, 0), (0, 0, 0), (1, 1, 0), (0, 0, 0)], (
        "an inner cell is stamped before its outer one"
    )


def test_what_is_drawn_after_a_cell_that_awaits_is_its_own(shell: InteractiveShell, trail: Trail) -> None:
    shell.events.register("post_execute", lambda: print("figure"))  # as matplotlib's inline backend does
    shell.run_cell("x = 1", store_history=True)
    shell.run_cell("import asyncio\nawait asyncio.sleep(0)", store_history=True)
    shown = [(run.leaf or {}).get("outputs", {}) for run in trail.runs]
    assert [set(one) for one in shown] == [{"stdout"}, {"stdout"}]


def test_silent_runs_after_the_last_cell_are_said_when_the_session_ends(
    shell: InteractiveShell, trail: Trail
) -> None:
    shell.run_cell("x = 1", store_history=True)
    trail.stamper.unregister()
    assert [run.kind for run in trail.runs] == ["cell"], "nothing was left to say"
    trail.stamper.register()
    shell.run_cell("hidden = 1", silent=True)
    shell.run_cell("hidden = 2", silent=True)
    trail.stamper.unregister()
    assert [run.kind for run in trail.runs] == ["cell", "observation"]
    verification = verify(trail.folder)
    (gap,) = verification.not_covered
    assert gap.message.startswith("2 requests ran silently in a.ipynb ")
    assert "beside the cells, something ran that no log has" in verification_text(verification)


def test_what_a_task_shows_after_its_cell_is_not_the_next_cells(
    shell: InteractiveShell, trail: Trail
) -> None:
    shell.autoawait = True
    shell.run_cell(
        "import asyncio\nasync def later():\n    print('own')\n    await gate.wait()\n    print('late')\n"
        "gate = asyncio.Event(); task = asyncio.create_task(later()); await asyncio.sleep(0)",
        store_history=True,
    )
    shell.run_cell("gate.set(); await task\nprint('second')", store_history=True)
    sizes = [(run.leaf or {}).get("outputs", {}).get("stdout", {}).get("size") for run in trail.runs]
    assert sizes == [len("own\n"), len("second\n")]


def test_a_cell_outside_of_the_history_is_marked(shell: InteractiveShell, trail: Trail) -> None:
    shell.run_cell("1", store_history=False)
    (run,) = trail.runs
    assert run.leaf is not None
    assert run.leaf["store_history"] is False


def test_cells_within_a_cell_are_its_children(shell: InteractiveShell, trail: Trail) -> None:
    shell.run_cell("%%capture out\nget_ipython().run_cell('y = 5')\n1/0", store_history=True)
    shell.run_cell("z = 1", store_history=True)
    inner, middle, outer, after = trail.runs
    assert trail.source(outer).startswith("%%capture")
    assert (inner.parent, middle.parent, outer.parent, after.parent) == (middle.id, outer.id, "", "")
    assert trail.source(inner) == "y = 5"
    assert (inner.status, middle.status) == ("ok", "error")


def test_the_running_cell_is_known_inside_it(shell: InteractiveShell, trail: Trail) -> None:
    shell.user_ns["current"] = trail.stamper.current_cell_id
    assert trail.stamper.current_cell_id() == ""
    shell.run_cell("seen = current()", store_history=True)
    (run,) = trail.runs
    assert shell.user_ns["seen"] == run.id
    assert trail.stamper.current_cell_id() == ""


def test_another_thread_has_its_own_cells(shell: InteractiveShell, trail: Trail) -> None:
    shell.user_ns["current"] = trail.stamper.current_cell_id
    shell.user_ns["threading"] = threading
    shell.run_cell(
        "seen = []\nthread = threading.Thread(target=lambda: seen.append(current()))\n"
        "thread.start()\nthread.join()",
        store_history=True,
    )  # fmt: skip
    assert shell.user_ns["seen"] == [""]


def test_the_cell_that_loads_the_extension_is_stamped(shell: InteractiveShell, tmp_path: Path) -> None:
    trail = Trail(shell, tmp_path / "audit")
    shell.user_ns["trail"] = trail
    shell.run_cell("trail.stamper.register()\nseen = trail.stamper.current_cell_id()", store_history=True)
    shell.run_cell("x = 1", store_history=True)
    loading, after = trail.runs
    assert (loading.execution_count, after.execution_count) == (1, 2)
    assert loading.leaf is not None
    assert loading.leaf["start_missed"] is True
    assert shell.user_ns["seen"] == loading.id
    assert after.parent == ""
    assert after.leaf is not None
    assert "start_missed" not in after.leaf


def test_registering_outside_of_a_cell_makes_no_parent(shell: InteractiveShell, trail: Trail) -> None:
    shell.run_cell("1/0", store_history=True)
    trail.stamper.register()
    shell.run_cell("2", store_history=True)
    assert [run.parent for run in trail.runs] == ["", ""]


def test_the_loading_cell_may_fail(shell: InteractiveShell, tmp_path: Path) -> None:
    trail = Trail(shell, tmp_path / "audit")
    shell.user_ns["trail"] = trail
    shell.run_cell("trail.stamper.register()\n1/0", store_history=True)
    shell.run_cell("x = 1", store_history=True)
    assert [run.status for run in trail.runs] == ["error", "ok"]
    assert trail.runs[1].parent == ""


def test_unregistered_it_stamps_no_more(shell: InteractiveShell, trail: Trail) -> None:
    trail.stamper.unregister()
    shell.run_cell("1", store_history=True)
    assert trail.runs == []
    trail.stamper.register()
    shell.run_cell("1", store_history=True)
    assert len(trail.runs) == 1


def test_a_cell_that_reports_no_result_is_stamped(shell: InteractiveShell, trail: Trail) -> None:
    """The way of ipykernel: an async cell that is cancelled ends with no result while the error passes."""

    async def run() -> None:
        try:
            await shell.run_cell_async("cancel()", transformed_cell="cancel()", store_history=True)
        finally:
            shell.events.trigger("post_run_cell", None)

    def cancel() -> None:
        raise asyncio.CancelledError

    shell.user_ns["cancel"] = cancel
    shell.run_ast_nodes = None  # whatever breaks inside IPython
    with pytest.raises(TypeError):
        asyncio.run(run())
    del shell.run_ast_nodes
    (run_,) = trail.runs
    assert (run_.status, run_.error_type) == ("error", "TypeError")
    assert trail.stamper.current_cell_id() == ""


def test_an_error_of_ours_does_not_reach_the_cell(
    shell: InteractiveShell, trail: Trail, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> str:
        raise RuntimeError("broken")

    trail.stamper.on_stamp = broken
    good = trail.journal.stamp
    trail.journal.stamp = broken  # type: ignore[method-assign]
    result = shell.run_cell("1 + 1", store_history=True)
    trail.journal.stamp = good  # type: ignore[method-assign]
    again = shell.run_cell("1 + 1", store_history=True)
    assert result.success
    assert again.success
    assert "broken" not in capsys.readouterr().out
    assert len(trail.warnings) == 1
    assert "broken" in trail.warnings[0]


SECRET = "Wk4u8Qz1Lm9TtY6p"


@pytest.mark.parametrize(
    "cells",
    [
        [f"password = '{SECRET}'", "print(password)", f"x = '{SECRET}'"],
        [f"import os; os.environ['ACME_TOKEN'] = '{SECRET}'", f"y = '{SECRET}'"],
        [f"%env ACME_TOKEN={SECRET}"],
        [f"!true --password {SECRET}"],
        [f"client = dict(api_key='{SECRET}')\n1/0"],
        [f"%%writefile {{here}}/config.yml\npassword: {SECRET}"],
        [f"%%capture\ntoken = '{SECRET}'\nget_ipython().run_cell('z = \"{SECRET}\"')"],
        # set while the cell runs, under a name that says nothing, from somewhere else
        [
            f"import os; os.environ.update(dict(MY_SECRET=''.join(['{SECRET[:8]}', '{SECRET[8:]}']))); a = '{SECRET}'"
        ],
    ],
)
def test_a_secret_typed_in_a_cell_is_in_no_file_afterwards(
    shell: InteractiveShell, trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[str]
) -> None:
    for name in ("ACME_TOKEN", "MY_SECRET"):
        monkeypatch.setenv(name, "")  # so that it is put back
    shell.user_ns["stamp"] = lambda text: trail.journal.stamp("prompt", content={"request": f"Say {text}"})
    for cell in cells:
        # A prompt inside the cell is stamped before the cell is.
        shell.run_cell(
            cell.replace("{here}", str(tmp_path)) + f"\nstamp('{SECRET}')" * (cell[0] != "%"),
            store_history=True,
        )
    trail.journal.close()
    files = [path for path in trail.folder.rglob("*") if path.is_file()]
    assert len(files) >= 2 + len(cells)
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
        assert SECRET[:10].encode() not in path.read_bytes() or "''.join" in cells[0], path
    assert any(run.leaf and run.leaf.get("redacted") for run in trail.runs)


def test_a_cell_within_a_cell_that_never_ended_is_no_parent(shell: InteractiveShell, trail: Trail) -> None:
    """A nested cell may be torn down without its end being told (a thread's exit, a debugger)."""
    shell.user_ns["begin"] = lambda: shell.events.trigger(
        "pre_run_cell", type("Info", (), {"raw_cell": "inner"})()
    )
    shell.run_cell("begin()\nbegin()", store_history=True)
    assert trail.stamper.current_cell_id() == ""
    shell.run_cell("x = 1", store_history=True)
    assert [run.parent for run in trail.runs] == ["", ""]
    assert [trail.source(run) for run in trail.runs] == ["begin()\nbegin()", "x = 1"]
