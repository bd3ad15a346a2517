"""%%prompt, %prompt and %prompts as a user types them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from jupyter_llmops.errors import (
    InferenceError,
    Interrupted,
    SecretError,
    TemplateError,
    UnknownNameError,
    UsageError,
)

if TYPE_CHECKING:
    from magic_shell import Notebook


def no_encoder(name: str = "") -> None:
    raise InferenceError("There is no encoder.")


def test_the_answer_comes_from_the_model_then_from_the_cache(notebook: Notebook) -> None:
    notebook.run("topic = 'entropy'")
    first = notebook.run("%%prompt\nWhat is {{ topic }}?")
    second = notebook.run("%%prompt\nWhat is {{ topic }}?")
    assert (first.text, first.source) == ("What is entropy?", "model")
    assert (second.text, second.source) == ("What is entropy?", "cache")
    assert notebook.engine.asked == 1
    assert first.run_id != second.run_id
    assert "from the cache" in notebook.shown(second)
    assert "What is entropy?" in notebook.shown(first), "the answer is shown again when it is asked for"
    assert "from the model" in notebook.shown(first, "text/html")


def test_braces_and_dollars_reach_the_model_raw(notebook: Notebook) -> None:
    notebook.run("name = 'x'")
    assert notebook.run("%%prompt\n{name} $name {{ '{{' }} {{ name }}").text == "{name} $name {{ x"


def test_option_values_are_expanded(notebook: Notebook) -> None:
    notebook.run("size = 2\nwho = 'Ada'")
    completion = notebook.run('%%prompt -n {size} --var name="$who Lovelace"\nHi {{ name }} again')
    assert completion.text == "Hi Ada"


def test_every_option_is_part_of_the_request(notebook: Notebook) -> None:
    lines = [
        "%%prompt",
        "%%prompt -n 3",
        "%%prompt -t 0.5 --seed 1",
        "%%prompt -t 0.5 --seed 2",
        "%%prompt --system 'Be brief.'",
        "%%prompt --param repetition_penalty=1.1",
        "%%prompt --quant fp32",
    ]
    for line in lines:
        assert notebook.run(f"{line}\none two three").source == "model", line
    assert notebook.engine.asked == len(lines)


def test_no_cache_neither_reads_nor_writes(notebook: Notebook) -> None:
    for _ in range(2):
        assert notebook.run("%%prompt --no-cache\nHi").source == "model"
    assert notebook.run("%%prompt\nHi").source == "model"


def test_into_keeps_the_completion(notebook: Notebook) -> None:
    notebook.run("%%prompt --into answer\nHi there")
    assert notebook.shell.user_ns["answer"].text == "Hi there"


def test_dry_run_sends_nothing(notebook: Notebook) -> None:
    dry = notebook.run("%%prompt --dry-run\nHi there")
    assert (dry.tokens_in, dry.would_hit, notebook.engine.asked) == (2, False, 0)
    notebook.run("%%prompt\nHi there")
    again = notebook.run("%%prompt --dry-run\nHi there")
    assert again.would_hit
    assert "would hit the cache" in notebook.shown(again)


def test_saved_prompts_are_versions_that_run(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook.workspace, "encoder", no_encoder)  # words only
    notebook.run("topic = 'cats'")
    notebook.run("%%prompt -s about -n 4\nTell me about {{ topic }}")
    notebook.run("%%prompt -s about\nWrite about {{ topic }}")
    notebook.run("%%prompt -s about\nWrite about {{ topic }}")
    listing = notebook.run("%prompts")
    assert [(p.name, p.version) for p in listing] == [("about", 2)]
    assert notebook.run("%prompt about topic=dogs").text == "Write about dogs"
    assert notebook.run("%prompt about@1 topic='the sea of trees'").text == "Tell me about the"
    assert notebook.run("%prompt about").text == "Write about cats"
    assert "Write about" in notebook.shown(notebook.run("%prompts show about"))
    assert [p.name for p in notebook.run("%prompts find WRITE")] == ["about"]
    assert len(notebook.run("%prompts find zebra")) == 0
    assert list(listing.df["name"]) == ["about"]


def test_unknown_names_name_the_nearest(notebook: Notebook) -> None:
    notebook.run("%%prompt -s summary\nHi")
    error = notebook.fail("%prompt sumary")
    assert isinstance(error, UnknownNameError)
    assert "summary" in str(error)
    error = notebook.fail("%%prompt -m smollm2-135m-instrukt\nHi")
    assert isinstance(error, UnknownNameError)
    assert "smollm2-135m-instruct" in str(error)


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        ("%%prompt --flag\nHi", "--flag"),
        ("%%prompt -n many\nHi", "many"),
        ("%%prompt -n 0\nHi", "-n 60"),
        ("%%prompt -t -1\nHi", "-t"),
        ("%%prompt about\nHi", "goes below"),
        ("%%prompt --var nonsense\nHi", "name=value"),
        ("%%prompt --into 1x\nHi", "--into"),
        ("%%prompt --system 'open\nHi", "closing quotation"),
        ("%prompt", "%prompts lists them"),
        ("%prompts shwo x", "show"),
        ("%prompts show", "A name is missing"),
        ("%prompt about@", "NAME@3"),
        ("%prompt about@x", "no prompt named"),
        ("%models frobnicate", "%models show NAME"),
        ("%cache what", "why"),
        ("%cache clear", "--yes"),
        ("%gpus --free much", "not a size"),
        ("%llmops autoload maybe", "autoload on"),
        ("%runs -n 0", "%runs -n 20"),
        ("%audit everything", "verify"),
    ],
)
def test_bad_lines_say_how_it_is_typed(notebook: Notebook, cell: str, part: str) -> None:
    error = notebook.fail(cell)
    assert isinstance(error, UsageError), repr(error)
    assert part.lower() in str(error).lower()
    assert "\n" not in str(error)


def test_an_undefined_variable_is_named_on_one_line(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    error = notebook.fail("%%prompt\nAbout {{ nothing_here }}")
    assert isinstance(error, TemplateError)
    out = capsys.readouterr().out
    assert "nothing_here" in out
    assert "Traceback" not in out


def test_interruption_keeps_what_came(notebook: Notebook) -> None:
    notebook.engine.interrupt_after = 2
    error = notebook.shell.run_cell("%%prompt\none two three").error_in_exec
    assert isinstance(error, Interrupted)
    assert error.completion.text == "one two"
    run = notebook.workspace.run("-1", kind="prompt")
    assert run.status == "interrupted"
    assert notebook.workspace.content(run)["response"] == "one two"
    notebook.engine.interrupt_after = None
    assert notebook.run("%%prompt\none two three").source == "model", "an unfinished answer was cached"


def test_an_engine_error_is_recorded_and_shown(notebook: Notebook) -> None:
    notebook.engine.fail = InferenceError("The model is too large.", "Type -m smaller.")
    assert isinstance(notebook.fail("%%prompt\nHi"), InferenceError)
    run = notebook.workspace.run("-1", kind="prompt")
    assert (run.status, run.error_type) == ("error", "InferenceError")


SECRET = "sk-proj-" + "Ab3dEf6hIj9" * 5


def test_a_prompt_with_a_secret_is_answered_but_neither_cached_nor_kept(notebook: Notebook) -> None:
    for _ in range(2):
        completion = notebook.run(f"%%prompt\nMy key is {SECRET}")
        assert completion.source == "model"
    assert SECRET in completion.text
    notebook.workspace.runs()
    everything = [p for p in notebook.workspace.folder.parent.rglob("*") if p.is_file()]
    assert everything
    for path in everything:
        assert SECRET.encode() not in path.read_bytes(), path
    content = notebook.workspace.content(notebook.workspace.run("-1", kind="prompt"))
    assert "token_ids" not in content
    assert json.dumps(content)


def test_a_template_with_a_secret_is_not_saved(notebook: Notebook) -> None:
    assert isinstance(notebook.fail(f"%%prompt -s leak\nMy key is {SECRET}"), SecretError)
    assert len(notebook.run("%prompts")) == 0


def test_a_value_under_a_secret_name_is_not_kept(notebook: Notebook) -> None:
    notebook.shell.user_ns["api_key"] = "plainlookingvalue7731"
    completion = notebook.run("%%prompt\nUse {{ api_key }} now")
    assert completion.text == "Use plainlookingvalue7731 now"
    content = notebook.workspace.content(notebook.workspace.run("-1", kind="prompt"))
    assert "plainlookingvalue7731" not in json.dumps(content)
    assert notebook.run("%%prompt\nUse {{ api_key }} now").source == "model"


@pytest.mark.parametrize(
    "expression",
    [
        "cfg.password",
        "d['password']",
        "d.get('password')",
        "d.values()|first",
        "api_key",
        "api_key.decode()",
        "'{0.password}'.format(cfg)",
        "passwords.mail",
    ],
)
def test_a_secret_behind_an_attribute_an_item_or_bytes_is_not_kept(
    notebook: Notebook, expression: str
) -> None:
    secret = "plainlookingvalue7731"
    notebook.shell.user_ns |= {
        "cfg": SimpleNamespace(password=secret),
        "d": {"password": secret},
        "api_key": secret.encode(),
        "passwords": {"mail": secret},
    }
    for _ in range(2):
        completion = notebook.run(f"%%prompt\nUse {{{{ {expression} }}}} now")
        assert completion.source == "model"
        assert secret in completion.text
    notebook.workspace.runs()
    for path in notebook.workspace.folder.parent.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_an_ordinary_word_under_a_vague_name_is_no_secret(notebook: Notebook) -> None:
    notebook.shell.user_ns["keys"] = "animals"
    notebook.run("%%prompt\nSort {{ keys }}")
    for source in ("model", "cache"):
        assert notebook.run("%%prompt\nTell of animals").source == source
    content = notebook.workspace.content(notebook.workspace.run("-1", kind="prompt"))
    assert "animals" in json.dumps(content)


@pytest.mark.parametrize(
    "cell",
    [
        "%%prompt --var password=swordfish77 -m nosuch\nHi {{ password }}",
        "%%prompt --var password=swordfish77 --bogus\nHi",
        "%%prompt --var password=swordfish77\nHi {{ password }} {{ undefined_name }}",
        "%prompt nosuch api_key=swordfish77",
        "%%prompt --param api_key=swordfish77\nHi",
        "%%prompt --var password=swordfish77 --system 'open\nHi",
    ],
)
def test_a_secret_on_the_line_is_not_kept_when_the_prompt_fails(notebook: Notebook, cell: str) -> None:
    notebook.fail(cell)
    notebook.run("%runs")
    for path in notebook.workspace.folder.parent.rglob("*"):
        assert not path.is_file() or b"swordfish77" not in path.read_bytes(), path


def test_nothing_that_is_saved_with_a_prompt_may_hold_a_secret(notebook: Notebook) -> None:
    workspace = notebook.workspace
    for options in (
        {"parameters": {"note": SECRET}},
        {"parameters": {"api_key": "swordfish77"}},
        {"model": f"/models/{SECRET}"},
        {"system": SECRET},
        {"description": SECRET},
    ):
        with pytest.raises(SecretError) as raised:
            workspace.save_prompt("leak", "Hi", **options)  # type: ignore[arg-type]
        assert SECRET not in str(raised.value)
    with pytest.raises(SecretError) as raised:
        workspace.save_prompt(SECRET, "Hi")
    assert SECRET not in str(raised.value)


def test_a_prompt_that_can_not_be_decoded_is_not_saved(notebook: Notebook) -> None:
    for line in ("--param top_p=much -t 1", "--param no_such=1", "--seed -5"):
        assert isinstance(notebook.fail(f"%%prompt -s broken {line}\nHi"), UsageError), line
    assert len(notebook.run("%prompts")) == 0


def test_a_saved_seed_of_zero_is_a_seed(notebook: Notebook) -> None:
    notebook.run("%%prompt -s drawn -t 0.7 --seed 0\nHi")
    assert notebook.run("%prompts show drawn").parameters == (("seed", 0), ("temperature", 0.7))
    assert notebook.run("%prompt drawn").source == "cache"


def test_the_system_message_is_a_template_too(notebook: Notebook) -> None:
    notebook.run("role = 'pirate'")
    dry = notebook.run("%%prompt --system 'You are a {{ role }}' --dry-run\nHi")
    assert dry.request.messages[0].content == "You are a pirate"


def test_only_the_notebooks_variables_are_expanded(notebook: Notebook) -> None:
    notebook.run("word = 'hello'\nshell = 'fish'")
    assert notebook.run("%%prompt --var x=$word --var y={shell}\n{{ x }} {{ y }}").text == "hello fish"


def test_a_dry_run_without_the_cache_would_not_hit(notebook: Notebook) -> None:
    notebook.run("%%prompt\nHi")
    assert notebook.run("%%prompt --dry-run\nHi").would_hit
    assert not notebook.run("%%prompt --dry-run --no-cache\nHi").would_hit


def test_misspelt_options_are_not_passed_over(notebook: Notebook) -> None:
    for call in (notebook.workspace.prompt, notebook.workspace.dry_run):
        with pytest.raises(UsageError, match="temperature"):
            call("Hi", temperatur=1.0)  # type: ignore[call-arg,operator]
    with pytest.raises(UsageError, match="at least 1"):
        notebook.workspace.prompt("Hi", max_new_tokens=0)


def test_keywords_and_odd_versions_are_refused(notebook: Notebook) -> None:
    notebook.run("%%prompt -s about\nHi")
    assert isinstance(notebook.fail("%%prompt --into class\nHi"), UsageError)
    assert isinstance(notebook.fail("%prompt about@²"), UsageError)


class _Frontend:
    """What a kernel's shell has and a terminal's has not, with every message that is published."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shell: object) -> None:
        self.shown: list[str] = []
        self.cleared = 0
        monkeypatch.setattr(shell, "kernel", object(), raising=False)
        monkeypatch.setattr(shell.display_pub, "publish", self._publish)  # type: ignore[attr-defined]
        monkeypatch.setattr(shell.display_pub, "clear_output", self._clear)  # type: ignore[attr-defined]

    def _publish(self, data: dict[str, str], *_: object, **__: object) -> None:
        self.shown.append(data["text/plain"])

    def _clear(self, *_: object) -> None:
        self.cleared += 1


def test_what_the_cell_showed_before_stays(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    frontend = _Frontend(monkeypatch, notebook.shell)
    notebook.run("%%prompt\nHi there")
    assert any("pieces" in text or "Loading" in text for text in frontend.shown)
    assert frontend.shown[-1] == ""
    assert frontend.cleared == 0


@pytest.mark.parametrize(
    "options",
    [
        {"model": 3},
        {"parameters": None},
        {"parameters": {1: 2, "b": 3}},
        {"temperature": "hot"},
        {"max_new_tokens": "5"},
        {"variables": [("a", 1)]},
        {"seed": True},
    ],
)
def test_a_script_that_passes_another_type_is_told(notebook: Notebook, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        notebook.workspace.prompt("Hi", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="A template is a text"):
        notebook.workspace.prompt(5)  # type: ignore[arg-type]


def test_unstamped_answers_are_not_taken_for_each_other(notebook: Notebook) -> None:
    """In a terminal the result leaves out what was just written; without a run id that is nobody's."""
    notebook.run("%config LLMOps.audit = False")
    cached = notebook.workspace.prompt("first answer")
    notebook.run("_ = get_ipython().run_cell_magic('prompt', '', 'second answer')")
    assert "first answer" in notebook.shown(cached)
