"""``%cache limit``, ``%cache clear --older``, and a prompt that waits for a colleague's answer."""

from __future__ import annotations

import os
import time
from pathlib import Path

from jupyter_llmops.cache.leases import Leases
from jupyter_llmops.errors import Interrupted, SettingsError, UsageError
from jupyter_llmops.magics.completer import candidates
from magic_shell import Notebook


def items(notebook: Notebook) -> list[Path]:
    return sorted(notebook.workspace.cache_folder.rglob("*.item"))


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * 86_400,) * 2)


def test_limits_are_shown_set_and_kept_to(notebook: Notebook, capsys):
    notebook.run("%cache limit")
    assert "Answers of at most 5 GB together are kept for ever." in capsys.readouterr().out
    for number in range(3):
        notebook.run(f"%%prompt\nQuestion {number}")
    age(items(notebook)[0], 40)
    capsys.readouterr()
    notebook.run("%cache limit --age 30d")  # no agent runs here, so it is done at once
    assert "are kept for 30 days. That holds for everyone" in capsys.readouterr().out
    assert len(items(notebook)) == 2
    for path in items(notebook):
        age(path, 1)
    notebook.run("%cache limit 10b")
    assert items(notebook) == []
    assert notebook.workspace.cache_limits().age_seconds == 30 * 86_400
    assert "of at most 10 B, kept for 30 days" in notebook.shown(notebook.run("%cache"))
    assert "of at most 10 B, kept for 30 days" in notebook.shown(notebook.run("%cache"), "text/html")
    notebook.run("%cache limit off --age off")
    assert "Answers of any size are kept for ever." in capsys.readouterr().out


def test_what_is_no_limit_is_one_sentence(notebook: Notebook):
    for line in (
        "%cache limit 5",
        "%cache limit lots",
        "%cache limit 5GB --age tomorrow",
        "%cache clear --older 3",
    ):
        error = notebook.fail(line)
        assert isinstance(error, SettingsError)
        assert "Type for example" in str(error)
    assert isinstance(notebook.fail("%cache limit 5GB 6GB"), UsageError)
    assert isinstance(notebook.fail("%cache clear --older off"), UsageError)
    assert notebook.workspace.cache_limits().size_bytes == 5_000_000_000


def test_only_what_is_older_is_cleared(notebook: Notebook, capsys):
    notebook.run("%%prompt\none")
    notebook.run("%%prompt\ntwo")
    old, _ = items(notebook)
    age(old, 31)
    assert "--older 30d --yes" in str(notebook.fail("%cache clear --older 30d"))
    notebook.run("%cache clear --older 30d --yes")
    assert "Deleted 1 answers that are older than 30d." in capsys.readouterr().out
    assert len(items(notebook)) == 1
    assert old not in items(notebook)


def test_tab_offers_limit(notebook: Notebook):
    assert "limit" in candidates(notebook.workspace, notebook.shell, "cache", "%cache ")


def test_a_prompt_waits_for_the_colleague_who_computes_it(notebook: Notebook, capsys):
    """The colleague gives up; until then it is said who computes, then it is computed here."""
    cache = notebook.workspace.cache
    taken = []
    turn = cache._flight.turn

    def late(item: str, there, progress):
        colleague = Leases(cache.store.items.location, who="ada@lab")
        taken.append(colleague.take(item))

        def word(sentence: str, fraction: float | None) -> None:
            taken.append(sentence)
            progress(sentence, fraction)
            taken[0].release()

        return turn(item, there, word)

    cache._flight.turn = late
    assert notebook.run("%%prompt\nWho?").source == "model"
    assert taken[1].startswith("ada@lab is computing this answer; waiting since ")


def test_ctrl_c_while_waiting_is_one_line(notebook: Notebook):
    cache = notebook.workspace.cache
    turn = cache._flight.turn
    kept = []

    def late(item: str, there, progress):
        kept.append(Leases(cache.store.items.location, who="ada@lab").take(item))

        def stop(sentence: str, fraction: float | None) -> None:
            raise KeyboardInterrupt

        return turn(item, there, stop)

    cache._flight.turn = late
    error = notebook.fail("%%prompt\nWho?")
    assert isinstance(error, Interrupted)
    assert "before the model had answered" in str(error)
    assert notebook.engine.asked == 0
