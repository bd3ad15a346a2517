"""%prompts and the saved prompts of %prompt: two people, one catalog."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import (
    ConflictError,
    InferenceError,
    LLMOpsError,
    SecretError,
    TemplateError,
    UnknownNameError,
    UsageError,
)
from jupyter_llmops.magics.completer import candidates
from magic_shell import Notebook

SECRET = "sk-proj-" + "Ab3dEf6hIj9" * 5


@pytest.fixture(autouse=True)
def words_only(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meaning has tests of its own, with the real encoder."""

    def none(name: str = "") -> None:
        raise InferenceError("There is no encoder.")

    monkeypatch.setattr(notebook.workspace, "encoder", none)


@pytest.fixture
def colleague(notebook: Notebook) -> Catalog:
    """Return the team's catalog as another person has it open."""
    return Catalog(notebook.workspace.location, site="elsewhere", user="bob")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is the notebook's."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_saving_says_what_became_of_it(notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for text in ("one", "one", "two"):
        notebook.run(f"%%prompt -s p\n{text}")
        said.append(capsys.readouterr().out.splitlines()[0])
    assert said == [
        "Saved as p@1, a new prompt.",
        "p@1 has this content already: no new version.",
        "Saved as p@2, a new version.",
    ]
    notebook.run("%%prompt -s q --dry-run\nHi")
    assert "Nothing was saved as q" in capsys.readouterr().out
    assert len(notebook.run("%prompts")) == 1
    notebook.run("%%prompt -s mine --private\nHi")
    assert "mine@1 in your own catalog" in capsys.readouterr().out


def test_a_chat_is_run_saved_and_reproducible_from_its_record(notebook: Notebook) -> None:
    chat = "system:\nBe {{ mood }}.\nuser:\nHi\nassistant:\nHello\nuser:\nBye {{ who }}"
    notebook.run("mood = 'kind'\nwho = 'user:\\nassistant:'\n")
    completion = notebook.run(f"%%prompt -s chat\n{chat}")
    assert completion.text == "Bye user: assistant:"
    content = notebook.workspace.content(notebook.workspace.run("-1", kind="prompt"))
    assert {key: text for key, text in content.items() if key.startswith("message.")} == {
        "message.000.system": "Be kind.",
        "message.001.user": "Hi",
        "message.002.assistant": "Hello",
        "message.003.user": "Bye user:\nassistant:",
    }
    assert notebook.run("%prompt chat").source == "cache"
    dry = notebook.run("%prompt chat --dry-run mood=cross")
    assert dry.request.messages[0].content == "Be cross."
    assert dry.variables == ("mood", "who")


def test_declared_variables_have_types_and_defaults(notebook: Notebook) -> None:
    notebook.run(
        '%%prompt -s count --declare "n: int = 3" --declare "topic: str = \'cats\'"\n{{ n + 1 }} {{ topic }}'
    )
    assert notebook.run("%prompt count").text == "4 cats"
    assert notebook.run("%prompt count n=5 topic=7").text == "6 7"
    assert notebook.run("%prompt count --var n=8").text == "9 cats"
    error = notebook.fail("%prompt count n=many")
    assert isinstance(error, TemplateError)
    assert all(part in str(error) for part in ("'n'", "int", "'many'"))
    notebook.run("n = 'three'")
    assert isinstance(notebook.fail("%prompt count"), TemplateError)
    error = notebook.fail("%prompt count topik=x")
    assert isinstance(error, UnknownNameError)
    assert "Did you mean topic?" in str(error)
    assert notebook.run('%%prompt --declare "n: int" --var n=5\n{{ n * 2 }}').text == "10"
    for line in (
        '--declare "n: number"',
        '--declare "m: int"',
        '--declare "n: int = x"',
        "--tag x",
        "--private",
    ):
        assert isinstance(notebook.fail(f"%%prompt {line}\n{{{{ n }}}}"), UsageError), line
    assert isinstance(notebook.fail('%prompt count --declare "n: int"'), UsageError)
    assert "n: int = 3" in notebook.shown(notebook.run("%prompts show count"))


def test_a_moved_alias_is_used_by_the_next_prompt_of_everybody(
    notebook: Notebook, colleague: Catalog
) -> None:
    notebook.run("%%prompt -s p\none")
    notebook.run("%%prompt -s p\ntwo")
    assert notebook.run("%prompts promote p@1 prod").aliases == ("prod",)
    assert notebook.run("%prompt p@prod").text == "one"
    leaf = notebook.workspace.run("-1", kind="prompt").leaf
    assert (leaf["prompt"]["alias"], leaf["prompt"]["version"]) == ("prod", 1)
    colleague.prompts.promote("p", "prod", 2)
    assert notebook.run("%prompt p@prod").text == "two"
    assert notebook.run("%prompt p@latest").text == "two"
    assert "alias" not in notebook.workspace.run("-1", kind="prompt").leaf["prompt"]
    events = [(event.what, event.to, event.created_by) for event in notebook.run("%prompts history p").events]
    me = notebook.workspace.user
    assert events == [
        ("version", "1", me),
        ("version", "2", me),
        ("alias:prod", "1", me),
        ("alias:prod", "2", "bob"),
    ]
    notebook.run("%prompts promote p prod --remove")
    error = notebook.fail("%prompt p@prod")
    assert isinstance(error, UnknownNameError)
    assert "versions 1 to 2" in str(error)
    colleague.prompts.promote("p", "prod", 1)
    with pytest.raises(ConflictError, match="bob"):
        notebook.workspace.promote_prompt("p", "prod", expected=3)


@pytest.mark.parametrize("alias", ["3", "latest", "Latest", "show", "a@b", "", "-x", "²"])
def test_some_words_are_no_aliases(notebook: Notebook, alias: str) -> None:
    notebook.run("%%prompt -s p\none")
    with pytest.raises(UsageError):
        notebook.workspace.promote_prompt("p", alias)
    notebook.run("%prompts promote p prod")
    assert isinstance(notebook.fail("%prompts promote p PROD"), UsageError)
    assert isinstance(notebook.fail("%prompts promote p prd --remove"), UnknownNameError)


def test_what_is_said_of_a_prompt_is_no_part_of_its_content(notebook: Notebook, colleague: Catalog) -> None:
    notebook.run('%%prompt -s p --description "For letters" --tag mail --tag formal\nHi')
    notebook.run("%%prompt -s p\nDear")
    shown = notebook.run("%prompts show p")
    assert (shown.version, shown.description, shown.tags) == (2, "For letters", ("formal", "mail"))
    notebook.run('%prompts describe p "For all mail" --tag mail')
    described = colleague.prompts.get("p", 1)
    assert (described.description, described.tags) == ("For all mail", ("mail",))
    assert [p.name for p in notebook.run("%prompts find mail")] == ["p"]
    for line in ("describe p", "describe", f'describe p "{SECRET}"', f"describe p x --tag {SECRET}"):
        assert isinstance(notebook.fail(f"%prompts {line}"), UsageError | SecretError)
    assert colleague.prompts.get("p").description == "For all mail"


def test_a_retired_prompt_is_hidden_and_still_runs(notebook: Notebook) -> None:
    notebook.run("%%prompt -s p\nHi")
    assert notebook.run('%prompts retire p --reason "see q"').retired
    assert len(notebook.run("%prompts")) == 0
    assert [p.retired for p in notebook.run("%prompts --all")] == [True]
    assert notebook.run("%prompt p").text == "Hi"
    assert "retired" in notebook.shown(notebook.run("%prompts history p"))
    assert not notebook.run("%prompts restore p").retired
    assert len(notebook.run("%prompts")) == 1


def test_versions_are_compared(notebook: Notebook) -> None:
    notebook.run("%%prompt -s p\nSay one word")
    assert "one version" in str(notebook.fail("%prompts diff p"))
    notebook.run("%%prompt -s p --system Kind\nSay two words")
    for line in ("diff p", "diff p@1", "diff p@1 p@2"):
        text = notebook.shown(notebook.run(f"%prompts {line}"))
        assert "- Say one word\n+ Say two words" in text, line
        assert "+ Kind" in text
    html = notebook.shown(notebook.run("%prompts diff p"), "text/html")
    assert "<table" in html
    assert ">one<" in html, "the changed word is marked alone"


def test_an_included_prompt_is_part_of_the_text_and_of_the_record(notebook: Notebook) -> None:
    notebook.run("%%prompt -s style --var tone=kind\nBe {{ tone }}.")
    notebook.run('%%prompt -s page --var tone=kind\n{% include "style@1" %}\nWrite.')
    notebook.run("%%prompt -s style --var tone=kind\nBe very {{ tone }}.")
    assert notebook.run("%prompt page tone=brief").text == "Be brief. Write."
    run = notebook.workspace.run("-1", kind="prompt")
    style = notebook.workspace.saved_prompt("style@1")
    assert run.leaf["includes"] == [{"name": "style", "version": 1, "digest": style.digest}]
    assert notebook.workspace.content(run)["message.000.user"] == "Be brief.\nWrite."
    page = notebook.run("%prompts show page")
    assert (page.includes, page.variables) == (("style@1",), ("tone",))
    notebook.run("%prompts promote style prod")
    for reference, pinned in (("style", "style@2"), ("style@prod", "style@2"), ("style@latest", "style@2")):
        error = notebook.fail(f'%%prompt\n{{% include "{reference}" %}}')
        assert f'{{% include "{pinned}" %}}' in str(error)
    assert "Did you mean style?" in str(notebook.fail('%%prompt\n{% include "stile@1" %}'))
    assert "versions 1 to 2" in str(notebook.fail('%%prompt\n{% include "style@3" %}'))
    assert isinstance(notebook.fail('%%prompt -s broken\n{% include "style@3" %}'), UnknownNameError)
    assert {p.name for p in notebook.run("%prompts")} == {"style", "page"}


def test_private_prompts_come_first_and_are_published(notebook: Notebook, colleague: Catalog) -> None:
    notebook.run("%%prompt -s style --private\nBe brief.")
    notebook.run('%%prompt -s page --private\n{% include "style@1" %} Mine.')
    assert colleague.prompts.list() == []
    assert "(yours)" in notebook.shown(notebook.run("%prompts"))
    error = notebook.fail('%%prompt -s other\n{% include "style@1" %} Ours.')
    assert "%prompts publish style" in str(error)
    colleague.prompts.publish("page", "Theirs.")
    assert notebook.run("%prompt page").text == "Be brief. Mine."
    published = notebook.run("%prompts publish page")
    assert (published.version, published.private) == (2, False)
    assert {p.name for p in colleague.prompts.list()} == {"style", "page"}
    assert colleague.prompts.get("page").includes == ("style@1",)
    assert [p.private for p in notebook.run("%prompts")] == [False, False]
    colleague.prompts.publish("page", "Newer.")
    assert notebook.run("%prompt page").text == "Newer.", "what was published is the team's from then on"
    notebook.run("%%prompt -s page --private\nMine again.")
    assert notebook.run("%prompt page").text == "Mine again."
    assert isinstance(notebook.fail("%prompts publish nothing"), UnknownNameError)


def test_publishing_never_changes_what_is_included(notebook: Notebook, colleague: Catalog) -> None:
    notebook.run("%%prompt -s style --private\nBe brief.")
    notebook.run('%%prompt -s page --private\n{% include "style@1" %} Mine.')
    colleague.prompts.publish("style", "Be rude.")
    assert "another prompt named 'style'" in str(notebook.fail("%prompts publish page"))
    assert {p.name for p in colleague.prompts.list()} == {"style"}
    colleague.prompts.publish("style", "Be brief.")
    assert '{% include "style@2" %}' in str(notebook.fail("%prompts publish page"))


def test_a_folder_of_files_is_the_catalog_again(notebook: Notebook, folder: Path) -> None:
    notebook.run("%%prompt -s style --var tone=kind\nBe {{ tone }}.")
    notebook.run("%%prompt -s style --var tone=kind\nBe very {{ tone }}.")
    notebook.run(
        '%%prompt -s page --description Grüße --tag mail -t 0.5 --seed 1 --declare "tone: str = \'kind\'"\n---\n{% include "style@1" %}\n🙂'
    )
    notebook.workspace.save_prompt("../up", "Hi\n\n", system="a\nb")
    report = notebook.run("%prompts export prompts")
    assert {file.outcome for file in report.files} == {"written"}
    assert len(list(folder.rglob("*"))) == 5, "the folder and four files"
    assert {f.outcome for f in notebook.run("%prompts export prompts").files} == {"unchanged"}
    assert {f.outcome for f in notebook.run("%prompts import prompts").files} == {"unchanged"}
    before = {p.name: p for p in notebook.run("%prompts")}
    other = notebook.workspace.own
    report = notebook.run("%prompts import prompts --private")
    assert sorted(f.outcome for f in report.files) == ["new", "new", "new", "new version"]
    for name, prompt in before.items():
        mine = other.prompts.get(name)
        assert (mine.digest, mine.version, mine.description, mine.tags) == (
            prompt.digest,
            prompt.version,
            prompt.description,
            prompt.tags,
        )
    assert other.prompts.get("style", 1).template == "Be {{ tone }}."
    path = next(folder.glob("prompts/page*.md"))
    path.write_text(path.read_text().replace("🙂", "!"))
    [changed] = [f for f in notebook.run("%prompts import prompts").files if f.outcome != "unchanged"]
    assert (changed.name, changed.version, changed.outcome) == ("page", 2, "new version")


def test_an_import_takes_what_is_right_and_names_the_rest(notebook: Notebook, folder: Path) -> None:
    files = {
        "README.md": "# About this folder",
        "good.md": "---\nname: good\n---\nHi {{ x }}\n",
        "needs.md": '---\nname: aneeds\n---\n{% include "good@1" %}\n',
        "bad.md": "---\nname: bad\ntags: [x\n---\nHi",
        "twice.md": "---\nname: good\n---\nAnother\n",
        "secret.md": f"---\nname: secret\n---\n{SECRET}\n",
        "said.md": f"---\nname: said\ndescription: {SECRET}\n---\nx\n",
        "broken.md": "---\nname: broken\n---\n{% if %}\n",
        "empty.md": "---\nname: empty\n---\n",
        "word.md": "---\nname: show\n---\nHi\n",
        "number.md": "---\nname: number\nparameters: {max_new_tokens: many}\n---\nHi\n",
        "nan.md": "---\nname: nan\nparameters: {top_p: .nan}\n---\nHi\n",
        "missing.md": '---\nname: missing\n---\n{% include "nothing@1" %}\n',
        "other.md": '---\nname: other\nincludes: {good@1: "sha256:0"}\n---\n{% include "good@1" %}\n',
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "latin.md").write_bytes(b"---\nname: latin\n---\nGr\xfc\xdfe\n")
    (folder / "link.md").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.md")
    (folder / "folder.md").mkdir()
    report = notebook.run("%prompts import .")
    outcomes = {file.file: file.outcome for file in report.files}
    assert outcomes.pop("README.md") == "skipped"
    taken = {file for file, outcome in outcomes.items() if outcome == "new"}
    assert taken == {"good.md", "needs.md"}
    assert {outcome for file, outcome in outcomes.items() if file not in taken} == {"problem"}
    assert {p.name for p in notebook.run("%prompts")} == {"good", "aneeds"}
    notes = {file.file: file.note for file in report.files}
    assert "Line 4" in notes["bad.md"]
    assert "Line 4: it is not UTF-8" in notes["latin.md"]
    assert "Line 1 of the template" in notes["broken.md"]
    assert "good.md is the prompt 'good' too" in notes["twice.md"]
    assert "another prompt" in notes["other.md"]
    assert "it is a link" in notes["link.md"]
    assert all("\n" not in note for note in notes.values())
    assert SECRET not in "".join(notes.values())
    assert SECRET not in notebook.shown(report)
    for path in notebook.workspace.location.folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_an_old_versions_file_never_becomes_the_newest(notebook: Notebook, folder: Path) -> None:
    for version, text in ((1, "old"), (2, "new")):
        (folder / f"{version}.md").write_text(f"---\nname: p\nversion: {version}\n---\n{text}\n")
    for text in ("theirs", "theirs too", "theirs at last"):
        notebook.workspace.save_prompt("p", text)
    report = notebook.run("%prompts import .")
    assert [(file.file, file.outcome, file.version) for file in report.files] == [
        ("1.md", "problem", 0),
        ("2.md", "new version", 4),
    ]
    assert "p@1 is another prompt here" in report.files[0].note
    assert notebook.run("%prompt p").text == "new"


def test_an_export_writes_over_nothing_else(notebook: Notebook, folder: Path) -> None:
    notebook.run("%%prompt -s README\nHi")
    notebook.run("%%prompt -s linked\nHi")
    (folder / "README.md").write_text("# mine")
    target = folder.parent / "outside.txt"
    target.write_text("keep")
    (folder / "linked.md").symlink_to(target)
    report = notebook.run("%prompts export .")
    assert {file.outcome for file in report.files} == {"problem"}
    assert (folder / "README.md").read_text() == "# mine"
    assert target.read_text() == "keep"
    (folder / "file").write_text("x")
    assert isinstance(notebook.fail("%prompts export file"), UsageError)
    assert isinstance(notebook.fail("%prompts export out nothing"), UnknownNameError)
    assert isinstance(notebook.fail("%prompts import nowhere"), UsageError)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("%prompts diff", "Two versions"),
        ("%prompts diff a b c", "Two versions"),
        ("%prompts promote p", "ALIAS"),
        ("%prompts history", "A name is missing"),
        ("%prompts export", "A folder is missing"),
        ("%prompts import", "FOLDER"),
        ("%prompts find", "nothing to look for"),
        ("%prompts find ''", "nothing to look for"),
        ("%prompts publsh p", "publish"),
        ("%prompts show p@", "NAME@3"),
        ("%prompts show @prod", "NAME@3"),
        ("%prompts show nothing@prod", "no prompt named"),
    ],
)
def test_bad_lines_say_how_it_is_typed(notebook: Notebook, line: str, part: str) -> None:
    error = notebook.fail(line)
    assert isinstance(error, UsageError), repr(error)
    assert part in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("show", "Hi"),
        ("a@b", "Hi"),
        ("", "Hi"),
        ("-s", "Hi"),
        ("p", "  "),
        ("p", "x" * 10_000_001),
        ("p", "\ud800"),
    ],
)
def test_what_can_not_be_saved_is_refused_whole(notebook: Notebook, name: str, template: str) -> None:
    with pytest.raises(LLMOpsError) as caught:
        notebook.workspace.save_prompt(name, template)
    assert len(str(caught.value)) < 300
    assert len(notebook.run("%prompts")) == 0


def test_names_may_be_of_any_script_but_not_differ_by_case_only(notebook: Notebook) -> None:
    for name in ("Größe", "摘要", "a b", "..", "C:\\x"):
        notebook.workspace.save_prompt(name, "Hi")
        assert notebook.workspace.saved_prompt(name).template == "Hi"
    assert notebook.workspace.saved_prompt("Gro\u0308ße").name == "Größe"
    with pytest.raises(UsageError, match="differs from 'größe' by case only"):
        notebook.workspace.save_prompt("größe", "Hi")
    for _ in range(2):
        with pytest.raises(UsageError, match=r"top_p|can't be saved"):
            notebook.workspace.save_prompt("n", "Hi", parameters={"top_p": float("nan")})


def test_a_short_prompt_is_added_in_one_line(notebook: Notebook) -> None:
    saved = notebook.run('%prompts add greet "Hello {{ name }}" --tag short --description "For tests"')
    assert (saved.template, saved.tags, saved.description) == ("Hello {{ name }}", ("short",), "For tests")
    assert notebook.run("%prompts add greet Bye --private").private
    assert "%%prompt -s NAME" in str(notebook.fail("%prompts add greet"))
    assert notebook.run("%prompts retire greet --why done").retired
    assert "done" in notebook.shown(notebook.run("%prompts history greet"))


def test_a_chat_is_listed_with_its_first_words(notebook: Notebook) -> None:
    notebook.run("%%prompt -s chat\nsystem:\nBe brief.\nuser:\nHi")
    assert "system: Be brief." in notebook.shown(notebook.run("%prompts"))


def test_publishing_says_what_else_the_team_can_read_now(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run("%prompts add inner Secret --private")
    notebook.run("%prompts add outer '{% include \"inner@1\" %}' --private")
    capsys.readouterr()
    notebook.run("%prompts publish outer")
    assert capsys.readouterr().out.splitlines()[:2] == [
        "Published as inner@1 in the team's catalog.",
        "Published as outer@1 in the team's catalog.",
    ]


def test_tab_knows_names_aliases_and_variables(notebook: Notebook) -> None:
    notebook.run('%%prompt -s page --declare "n: int = 3" --declare "who: str = \'me\'"\n{{ n }} {{ who }}')
    notebook.run("%prompts promote page prod")

    def offered(magic: str, line: str) -> set[str]:
        return set(candidates(notebook.workspace, notebook.shell, magic, line))

    assert {"n=", "who=", "--model"} <= offered("prompt", "%prompt page ")
    assert {"n=", "who="} <= offered("prompt", "%prompt page@prod n=5 w")
    assert {"page", "page@prod"} <= offered("prompt", "%prompt ")
    assert {"diff", "history", "promote", "import"} <= offered("prompts", "%prompts ")
    assert {"page", "page@prod"} <= offered("prompts", "%prompts show ")
    assert "prod" in offered("prompts", "%prompts promote page ")
    assert "page" in offered("prompts", "%prompts retire ")
    assert offered("prompt", "%%prompt --format ") == {"json", "text"}
    assert "map" in offered("runs", "%runs --kind ")
    assert offered("budget", "%budget 5USD --per ") == {"session", "day", "month"}
    notebook.run("class Ticket: pass\nlines = ['a']\nwanted = {'type': 'object'}")
    assert {"Ticket", "wanted"} <= offered("prompt", "%%prompt --schema ")
    assert "lines" not in offered("prompt", "%%prompt --schema ")
    assert offered("prompt", "%prompt nothing ") == offered("prompt", "%%prompt ")
