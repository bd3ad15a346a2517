"""What a cell's leaf says beside its source, in a real IPython shell."""

from __future__ import annotations

import atexit
import hashlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from jupyter_llmops.audit.actor import _runners_notebook, notebook_of, request_of
from jupyter_llmops.audit.cells import CellStamper
from jupyter_llmops.audit.environment import EnvironmentWatch, installed_packages
from jupyter_llmops.audit.files import content_path
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.leaf import LARGEST_LINE
from jupyter_llmops.audit.outputs import MOST_BYTES, CellOutputs
from jupyter_llmops.audit.reading import list_journals, read_content, read_runs
from jupyter_llmops.audit.running import read_running
from jupyter_llmops.audit.verification import verify
from jupyter_llmops.guard.redaction import Redactor

SECRET = "Wk4u8Qz1Lm9TtY6p"


class Notebook:
    """A shell whose cells are stamped."""

    def __init__(self, shell: InteractiveShell, folder: Path) -> None:
        self.shell = shell
        self.folder = folder
        self.warnings: list[str] = []
        self.journal = Journal(folder, redact=Redactor().redact, warn=self.warnings.append)
        self.stamper = CellStamper(shell, self.journal)
        self.stamper.register()

    def run(self, source: str, **options: Any) -> dict[str, Any]:
        """Run a cell and return the newest leaf."""
        self.shell.run_cell(source, store_history=True, **options)
        return self.leaves()[-1]

    def leaves(self) -> list[dict[str, Any]]:
        """Return all leaves."""
        return [run.leaf or {} for run in read_runs(list_journals(self.folder)[0])]

    def salt(self, leaf: dict[str, Any]) -> bytes:
        """Return the salt of a leaf, from its sidecar."""
        data = content_path(self.folder, leaf["session"], leaf["seq"]).read_bytes()
        return bytes.fromhex(json.loads(data)["salt"])


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    shell = InteractiveShell(config=config)
    yield shell
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()


@pytest.fixture
def notebook(shell: InteractiveShell, tmp_path: Path) -> Iterator[Notebook]:
    notebook = Notebook(shell, tmp_path / "audit")
    yield notebook
    notebook.stamper.unregister()
    notebook.journal.close()
    assert verify(notebook.folder).ok
    # IPython itself leaves a `write` there.
    assert "OutputWatch" not in getattr(sys.stdout.write, "__qualname__", "")
    assert not {"publish", "trigger"} & {*vars(shell.display_pub), *vars(shell.events)}


def expected(salt: bytes, kind: str, *outputs: bytes, framed: bool = True) -> str:
    """Return the digest of outputs, made from the documentation alone."""
    data = salt + b"output\0" + kind.encode() + b"\0"
    for output in outputs:
        data += (len(output).to_bytes(8, "big") if framed else b"") + output
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_outputs_are_digested_by_type_and_shown_as_they_are(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    leaf = notebook.run(
        "import sys\nprint('one', 2)\nprint('err', file=sys.stderr)\n"
        "for text in 'xy':\n    get_ipython().display_pub.publish({'text/html': f'<b>{text}</b>'})\n'result'"
    )
    salt = notebook.salt(leaf)
    outputs = leaf["outputs"]
    # A terminal prints results to the same stream; they are not what the cell wrote.
    assert outputs["stdout"]["digest"] == expected(salt, "stdout", b"one 2\n", framed=False)
    assert outputs["stderr"]["digest"] == expected(salt, "stderr", b"err\n", framed=False)
    assert outputs["text/html"] == {
        "count": 2, "size": 16, "digest": expected(salt, "text/html", b"<b>x</b>", b"<b>y</b>")
    }  # fmt: skip
    assert outputs["text/plain"]["digest"] == expected(salt, "text/plain", b"'result'")
    shown = capsys.readouterr()
    assert shown.out.startswith("one 2\n")
    assert "'result'" in shown.out
    assert shown.err == "err\n"


def test_a_traceback_is_an_output(notebook: Notebook) -> None:
    leaf = notebook.run("1 / 0")
    assert leaf["outputs"]["error"]["count"] == 1
    assert leaf["error_type"] == "ZeroDivisionError"


def test_what_was_captured_was_not_shown(notebook: Notebook) -> None:
    leaf = notebook.run(
        "import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()):\n    print('hidden')"
    )
    assert "outputs" not in leaf
    notebook.run("%%capture\nprint('hidden')")
    assert [leaf.get("outputs") for leaf in notebook.leaves()[-2:]] == [None, None]


def test_a_secret_in_an_output_can_not_be_guessed_from_its_digest(notebook: Notebook) -> None:
    leaf = notebook.run(f"password = '{SECRET}'\nprint(password)")
    raw = expected(notebook.salt(leaf), "stdout", f"{SECRET}\n".encode(), framed=False)
    assert leaf["outputs"]["stdout"]["digest"] != raw
    assert leaf["values"]["password"].startswith("skipped: ")


def test_large_outputs_are_cut_and_say_so() -> None:
    outputs = CellOutputs("00" * 16, lambda text: text)
    for _ in range(9):
        outputs.write("stdout", "x" * (1 << 20))
    found = outputs.to_leaf()["stdout"]
    assert found["size"] == 9 << 20
    assert found["cut"] == MOST_BYTES
    assert found["unsearched"] is True


def test_very_many_types_and_strange_ones_are_bounded() -> None:
    outputs = CellOutputs("00" * 16, lambda text: text)
    for number in range(500):
        outputs.show({f"application/x-{number}": {"a": number}, 3: "no name", "image/png": b"\x89PNG"})
    outputs.show({"application/json": {"deep": object(), "nan": float("nan")}, "text/plain": "\ud800"})
    found = outputs.to_leaf()
    assert len(found) <= 33
    assert found["image/png"]["count"] == 500
    assert sum(one["count"] for one in found.values()) == 500 + 500 + 2


def test_output_of_many_threads_is_counted_once(notebook: Notebook) -> None:
    notebook.shell.user_ns["threading"] = threading
    leaf = notebook.run(
        "def work():\n    for _ in range(200): print('x' * 9)\n"
        "threads = [threading.Thread(target=work) for _ in range(50)]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()"
    )
    assert leaf["outputs"]["stdout"]["size"] == 50 * 200 * 10


def test_names_and_values_of_a_cell(notebook: Notebook) -> None:
    notebook.run("y = 20")
    leaf = notebook.run("x = y + 1\ndef area(r):\n    return r * x")
    assert leaf["names"] == {"read": ["x", "y"], "written": ["area", "x"]}
    assert leaf["values"]["x"].startswith("sha256:")
    assert set(leaf["values"]) == {"x", "y", "area"}
    magic = notebook.run("%%time\nz = y * 2")
    assert magic["names"] == {"read": ["y"], "written": ["z"]}
    assert notebook.run("def f(:")["names"] == {"unknown": "the source is no Python"}


def test_the_random_state_before_a_cell_is_kept(notebook: Notebook) -> None:
    random.seed(99)  # of this process, as the notebook's: another test may have left the state of 5
    states = [
        notebook.run("import random; random.seed(5)")["random"]["python"],
        notebook.run("a = random.random()")["random"]["python"],
        notebook.run("random.seed(5)")["random"]["python"],
        notebook.run("a = random.random()")["random"]["python"],
    ]
    assert states[1] == states[3]
    assert len(set(states)) == 3


@pytest.mark.parametrize(
    "source",
    [
        "class Bad:\n    __eq__ = __hash__ = __repr__ = __str__ = __reduce__ = lambda *a: 1 / 0\nbad = Bad()",
        "import builtins; builtins.print = None",
        "import sys; sys.stdout.write = lambda text: 3",
        "ip = get_ipython(); ip.events.callbacks['pre_run_cell'].clear(); ip.events.callbacks['post_run_cell'].clear()",
        "get_ipython().events.callbacks.clear()",
        "get_ipython().user_ns = {}",
        "del get_ipython().display_pub.publish, get_ipython().displayhook.write_format_data",
        "x = 1  # " + "a" * 2_000_000,
        "\n".join(f"a_rather_long_name_of_a_variable_{n} = {n}" for n in range(3000)),
        "import os\nif not os.fork():\n    print('child', flush=True); os._exit(0)\nos.wait()",
        "raise SystemExit",
        "import threading; [threading.Thread(target=print, args=(n,)).start() for n in range(50)]",
    ],
)
@pytest.mark.filterwarnings("ignore:To exit")
def test_a_strange_cell_does_not_end_the_trail(
    notebook: Notebook, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    monkeypatch.setattr(builtins, "print", print)
    namespace = notebook.shell.user_ns
    before = len(notebook.run("'before'"))
    notebook.run(source)
    vars(sys.stdout).pop("write", None)  # what the cell put there
    notebook.shell.user_ns = namespace
    notebook.run("after = 1")
    kinds = [leaf["kind"] for leaf in notebook.leaves()]
    assert before
    assert kinds == ["session", "cell", "cell", "cell"]
    lines = list_journals(notebook.folder)[0].read_bytes().splitlines()
    assert max(map(len, lines)) <= LARGEST_LINE
    assert notebook.warnings == []


def test_hooks_that_were_taken_out_are_put_back_and_it_is_said(notebook: Notebook) -> None:
    notebook.run("get_ipython().events.callbacks['post_run_cell'].clear()")
    assert notebook.leaves()[-1]["hooks_restored"] == 1
    assert "hooks_restored" not in notebook.run("x = 1")


def test_a_cell_that_is_running_is_marked(notebook: Notebook) -> None:
    seen: list[Any] = []
    notebook.shell.user_ns["look"] = lambda: seen.extend(
        read_running(notebook.folder, notebook.journal.session)
    )
    leaf = notebook.run("look()", cell_id="c9")
    (mark,) = seen
    assert (mark.id, mark.cell, mark.execution_count) == (leaf["id"], "c9", leaf["execution_count"])
    notebook.journal.close()
    assert read_running(notebook.folder, notebook.journal.session) == ()


def test_a_leaf_that_is_too_large_is_cut_and_says_so(notebook: Notebook) -> None:
    notebook.journal.stamp("prompt", fields={"request": {"stop": ["x" * 70_000]}, "model": "m"})
    leaf = notebook.leaves()[-1]
    assert leaf["request"] == "[cut: 70013 bytes]"
    text = json.dumps({"stop": ["x" * 70_000]}, separators=(",", ":")).encode()
    assert leaf["cut"] == {"request": hashlib.sha256(text).hexdigest()}
    assert leaf["model"] == "m"


class _Shell:
    def __init__(self, header: dict[str, Any], metadata: Any) -> None:
        self.parent_header = {"header": header, "metadata": metadata}


@pytest.mark.parametrize(
    ("header", "metadata", "cell", "actor"),
    [
        ({"session": "a" * 36, "username": ""}, {"cellId": "c"}, "c", "human"),
        ({"session": "a" * 36, "username": "ada"}, {}, "", "program"),
        ({"session": "a" * 36, "username": "jupyter-mcp"}, {}, "", "agent"),
        ({"session": "a" * 36, "username": "mailbot"}, {"cellId": "c"}, "c", "human"),
        ({"session": "a" * 36}, {"actor": "agent", "cellId": "c"}, "c", "agent"),
        ({"session": 3, "username": None}, ["strange"], "", "program"),
    ],
)
def test_who_ran_a_cell_is_what_the_request_says(
    header: dict[str, Any], metadata: Any, cell: str, actor: str
) -> None:
    found = request_of(_Shell(header, metadata), cell)
    assert found == (actor, "a" * 12 if isinstance(header["session"], str) else "")


def test_in_a_terminal_it_is_the_console(notebook: Notebook) -> None:
    leaf = notebook.run("1")
    assert (leaf["actor"], leaf["client"]) == ("console", "")


def test_the_notebook_is_what_the_server_or_vs_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert notebook_of({}) == ""
    assert notebook_of({"__vsc_ipynb_file__": "/w/b.ipynb"}) == "/w/b.ipynb"
    assert notebook_of({"__vsc_ipynb_file__": 3}) == ""
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    assert notebook_of({"__vsc_ipynb_file__": "/w/b.ipynb"}) == "a.ipynb"


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux says cheaply who started a kernel"
)
@pytest.mark.parametrize(
    ("command", "notebook"),
    [
        ("papermill in.ipynb out.ipynb -p x 1", "in.ipynb"),
        ("papermill -p x /data/y.ipynb -r z z.ipynb -f q.ipynb in.ipynb out.ipynb", "in.ipynb"),
        ("-m nbconvert --execute -y in.ipynb", "in.ipynb"),
        ("-m papermill s3://b/in.ipynb out.ipynb", "s3://b/in.ipynb"),
        ("/bin/jupyter-nbconvert --execute a.ipynb --output b.ipynb", "a.ipynb"),
        ("/bin/jupyter-execute a.ipynb --output=b.ipynb", "a.ipynb"),
        ("/bin/jupyter-nbconvert --execute a.ipynb b.ipynb", ""),
        ("/bin/jupyter-lab a.ipynb", ""),
    ],
)
def test_the_notebook_is_what_a_runner_was_told_to_run(tmp_path: Path, command: str, notebook: str) -> None:
    words = [sys.executable, "-c", "input('ready')", *command.split()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, cwd=tmp_path, **pipes) as runner:
        assert runner.stdout
        assert runner.stdout.read(5) == b"ready", "while it begins it has no command line"
        found = _runners_notebook(runner.pid)
        runner.communicate(b"\n")
    assert found == (str(tmp_path / notebook) if notebook and "://" not in notebook else notebook)


def test_the_environment_is_stamped_again_only_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "Alpha_Beta-1.2.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ACME_PRIVATE_NOTE", "nobody's business")
    journal = Journal(tmp_path / "audit")
    watch = EnvironmentWatch(journal, lambda: {"driver": "570.1", "gpus": []})
    assert [watch.look(), watch.look()] == [True, False]
    (site / "gamma-3.dist-info").mkdir()
    assert watch.look()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert watch.look()
    runs = [run for run in read_runs(journal.path) if run.kind == "environment"]
    leaves = [run.leaf or {} for run in runs]
    assert [leaf["variables"]["OMP_NUM_THREADS"] for leaf in leaves] == ["1", "1", "2"]
    assert leaves[0]["packages"] != leaves[1]["packages"] == leaves[2]["packages"]
    assert leaves[0]["devices"] == {"driver": "570.1", "gpus": []}
    content = read_content(tmp_path / "audit", runs[1])
    assert content is not None
    assert {"alpha-beta==1.2", "gamma==3"} <= set(content["packages"].splitlines())
    assert set(installed_packages()) == set(content["packages"].splitlines())
    assert "business" not in journal.path.read_text()
    journal.close()
    assert verify(tmp_path / "audit").ok


def test_a_driver_that_fails_leaves_its_name(tmp_path: Path) -> None:
    def broken() -> dict[str, Any]:
        raise OSError("no driver")

    journal = Journal(tmp_path / "audit")
    EnvironmentWatch(journal, broken).look()
    (_, run) = read_runs(journal.path)
    assert (run.leaf or {})["devices"] == {"problem": "OSError"}
    journal.close()
