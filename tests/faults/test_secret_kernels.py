"""Secrets in real kernels, typed, printed, raised, prompted, returned: in no file of the trail, the catalog or the cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import lancedb
import pytest

from jupyter_llmops.audit.reading import list_journals, read_runs
from jupyter_llmops.audit.verification import verify
from real_kernels import Desk, make_desk
from secret_tokens import KINDS, WRITTEN, Secret, draw
from soak import SoakScale

TESTS = Path(__file__).resolve().parent.parent
WAYS = ("typed", "written", "printed", "raised", "prompted", "returned", "warned")

SETUP = f"""
import sys, json, warnings
sys.path.insert(0, {str(TESTS)!r})
from fast_engine import FastEngine
get_ipython()._jupyter_llmops.__dict__["engine"] = FastEngine()
notes = json.load(open("notes.json"))
def connect(*arguments, **named): pass
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = make_desk(tmp_path, tmp_path / "no-models")
    (tmp_path / "config" / "jupyter_llmops_config.json").write_text('{"LLMOps": {"agent": "off"}}')
    # What IPython itself keeps of cells is not this package's.
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.json").write_text('{"HistoryManager": {"enabled": false}}')
    yield made
    for kernel in made.kernels:
        kernel.stop()


def cell_of(way: str, number: int, secret: Secret, random: Random) -> str:
    """Return a cell in which a secret occurs; but for the typed ones it comes from a file."""
    note = f"notes[{number}]"
    match way:
        case "typed":
            return WRITTEN["as an argument"](secret.text)
        case "written":
            return f"# {random.choice(list(WRITTEN.values()))(secret.text)}"
        case "printed":
            return f"print('it said', {note})"
        case "raised":
            return f"raise ValueError('refused: ' + {note})"
        case "prompted":
            return f"%%prompt\nWhy is {{{{ notes[{number}] }}}} refused?"
        case "warned":
            return f"warnings.warn({note})"
        case _:
            return note


def carry(desk: Desk) -> str:
    """Let an agent do all its work; return what it said."""
    done = subprocess.run(
        [
            sys.executable, "-m", "jupyter_llmops.agent", f"--catalog={desk.env['LLMOPS_CATALOG']}",
            f"--journals={desk.env['LLMOPS_HOME']}/audit", "--idle-seconds=1",
        ],
        env=desk.env, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stdout + done.stderr


def everything_kept(desk: Desk) -> str:
    """Return all bytes of all files, and all texts of all versions of the catalog's tables as they are read."""
    places = [Path(desk.env["LLMOPS_HOME"]), Path(desk.env["LLMOPS_CATALOG"])]
    parts = [
        path.read_bytes().decode("latin-1") for place in places for path in place.rglob("*") if path.is_file()
    ]
    database = lancedb.connect(desk.env["LLMOPS_CATALOG"])
    for name in database.list_tables().tables:
        table = database.open_table(name)
        for version in table.list_versions():
            table.checkout(version["version"])
            parts.append(json.dumps(table.to_arrow().to_pylist(), default=str, ensure_ascii=False))
    return "\n".join(parts)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_secrets_are_in_no_file(desk: Desk, soak_scale: SoakScale) -> None:
    missed: Counter[str] = Counter()
    count = 0
    for seed in soak_scale.cases(sample=1, full=3 * len(WAYS)):
        random = Random(seed)
        secrets = [draw(kind, random) for kind in KINDS]
        folder = f"round-{seed}"
        (desk.root / folder).mkdir()
        (desk.root / folder / "notes.json").write_text(json.dumps([secret.text for secret in secrets]))
        kernel = desk.kernel(folder)
        assert kernel.run(SETUP).status == "ok"
        ways = [WAYS[(number + seed) % len(WAYS)] for number in range(len(secrets))]
        for number, (secret, way) in enumerate(zip(secrets, ways, strict=True)):
            shown = kernel.run(cell_of(way, number, secret, random))
            assert (shown.status == "error") == (way == "raised"), (way, secret.kind, shown.error[-500:])
        assert kernel.run("x = 'quuxword'").status == "ok"
        desk.kernels.remove(kernel)
        kernel.stop()
        said = carry(desk)
        kept = everything_kept(desk) + said
        assert "quuxword" in kept, "what is no secret is kept: the search does find"
        for secret, way in zip(secrets, ways, strict=True):
            count += 1
            if secret.value in kept:
                missed[f"{secret.kind} {way}"] += 1
        audit = Path(desk.env["LLMOPS_HOME"]) / "audit"
        stamped = [run for path in list_journals(audit) for run in read_runs(path)]
        assert sum(run.kind == "prompt" for run in stamped) >= ways.count("prompted")
        found = verify(audit)
        assert found.ok, found.problems[:5]
    assert len({secret.kind for secret in secrets}) >= 90
    assert sum(missed.values()) <= count / 100, missed.most_common(20)
