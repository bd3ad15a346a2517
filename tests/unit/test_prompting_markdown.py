"""Prompts as Markdown files: the same back, whatever they hold, and a line for what is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jupyter_llmops.errors import UsageError
from jupyter_llmops.prompting.markdown import file_names, file_stem, from_markdown, to_markdown
from jupyter_llmops.records.prompt import Example, Prompt, Variable

TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False)
)


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    pairs = st.dictionaries(WORDS, SCALARS, max_size=3).map(lambda found: tuple(sorted(found.items())))
    declared = st.builds(
        lambda name, value, text: Variable(name, "any", value, has_default=True, description=text),
        WORDS,
        SCALARS,
        TEXTS,
    )
    return Prompt(
        name=draw(WORDS),
        version=0,
        digest="",
        template=draw(TEXTS),
        system=draw(TEXTS),
        model=draw(TEXTS),
        parameters=draw(pairs),
        description=draw(TEXTS),
        declarations=tuple(
            sorted(draw(st.lists(declared, max_size=2, unique_by=lambda v: v.name)), key=lambda v: v.name)
        ),
        tags=tuple(draw(st.lists(TEXTS, max_size=3))),
        examples=tuple(draw(st.lists(st.builds(Example, pairs, TEXTS), max_size=2))),
    )


@given(prompts())
@example(Prompt("p", 0, "", "---\nbody\n---\n\n\n"))
@example(Prompt("p", 0, "", "a\r\nb\r", system="---\n---", description="x\n---\ny"))
@example(Prompt("no", 0, "", "\ufeff", tags=("yes", "1", "2024-01-01", "null", "~", "<<", "a: b")))
@example(Prompt("p", 0, "", "t", description="a\n|\x85b", system="\x85c\u2028", tags=("\\\x85",)))
@example(Prompt("1.0", 0, "", "", system=" \n x\n  y \n\n", description="\x85\u2028\x00\ufffe\U0001f642"))
def test_a_prompt_comes_back_as_it_was(prompt: Prompt) -> None:
    text = to_markdown(prompt)
    assert from_markdown(text).prompt == prompt
    assert to_markdown(from_markdown(text).prompt) == text
    assert from_markdown("\ufeff" + text).prompt == prompt


def test_a_file_reads_well_and_ends_with_a_line_end() -> None:
    prompt = Prompt(
        "summary",
        3,
        "sha256:x",
        "Summarize {{ text }}.",
        system="Be brief.\nBe kind.",
        description="Für den Vorstand: kurz",
        parameters=(("seed", 1), ("temperature", 0.5)),
        declarations=(Variable("text", "str"),),
        tags=("board",),
        created_by="ada",
    )
    assert to_markdown(prompt) == (
        "---\nname: summary\ndescription: 'Für den Vorstand: kurz'\ntags:\n- board\n"
        "parameters:\n  seed: 1\n  temperature: 0.5\nvariables:\n  text:\n    type: str\n"
        "system: |-\n  Be brief.\n  Be kind.\n---\nSummarize {{ text }}.\n"
    )
    numbered = to_markdown(prompt, with_version=True, includes={"b@1": "sha256:b", "a@2": "sha256:a"})
    assert from_markdown(numbered).prompt.version == 3
    assert from_markdown(numbered).include_digests == {"a@2": "sha256:a", "b@1": "sha256:b"}


def test_another_systems_line_ends_and_a_missing_last_one_are_read() -> None:
    assert from_markdown("---\r\nname: a\r\n---\r\none\r\ntwo\r\n").prompt.template == "one\ntwo"
    assert from_markdown("---\nname: a\n---\none").prompt.template == "one"
    assert from_markdown("---\nname: a\n---").prompt.template == ""


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Hello", "Line 1: it does not begin"),
        ("---\nname: a\n", "no end"),
        ("---\nname: a\ntags: [x\n---\nb", "Line 4: it is not valid YAML"),
        ("---\nname: a\n\tb: 1\n---\nb", "Line 3: it is not valid YAML"),
        ("---\n- a\n---\nb", "holds no name"),
        ("---\ndescription: a\n---\nb", "the name is missing"),
        ("---\nname: 12\n---\nb", "Line 2: name is not a text. Put it into quotes."),
        ("---\nname: a\ndescription: 2024-01-01\n---\nb", "Line 3: description is not a text"),
        ("---\nname: a\nname: b\n---\nb", "Line 3: the key 'name' stands there twice"),
        ("---\nname: a\nparameters:\n  seed: 1\n  seed: 2\n---\nb", "Line 5"),
        ("---\nname: a\n\nparameters:\n  stop: [a]\n---\nb", "Line 5: 'stop' is not a text, a number"),
        ("---\nname: a\ntag: x\n---\nb", "Line 3: there is no key 'tag'"),
        ("---\nname: a\ntags: x\n---\nb", "Line 3: tags is not a list"),
        ("---\nname: a\nvariables:\n  n: int\n---\nb", "Line 4: the variable 'n' is not described"),
        ("---\nname: a\nvariables:\n  n: {type: number}\n---\nb", "Line 4: 'number' is not a type"),
        ("---\nname: a\nvariables:\n  n: {type: int, default: x}\n---\nb", "not of the type int"),
        ("---\nname: a\nexamples:\n- 3\n---\nb", "Line 3: an example has"),
        ("---\nname: a\nversion: -1\n---\nb", "the version is not"),
        ("---\nname: !!python/object/apply:os.system [id]\n---\nb", "Line 2: it is not valid YAML"),
        ("---\nname: a\ndescription: &x [*x]\n---\nb", "Line 3: description is not a text"),
        ("---\nname: a\nversion: .inf\n---\nb", "the version is not"),
        ("---\nname: a\ndescription: " + "[" * 3000 + "\n---\nb", "not valid YAML"),
        ("---\nname: a\n? [x]\n: 1\n---\nb", "Line 3: it is not valid YAML: found unhashable key"),
    ],
)  # fmt: skip
def test_a_problem_is_one_line_that_names_the_line(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_markdown(text)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_yaml_bomb_is_refused_at_once() -> None:
    bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    for key in ("version", "name", "tags", "parameters", "examples"):
        with pytest.raises(UsageError):
            from_markdown(f"---\na0: &a0 x\n{bomb}{key}: *a11\n---\nb")


@given(st.sets(WORDS, min_size=1, max_size=8))
@example({"../../etc/passwd", "..", ".", "/", "C:\\x", "con", "NUL", "com1.x", "a/b", "a\\b", "~", "-rf"})
@example({"Name", "name", "NAME", "ﬀ", "ff", "ß", "ss", "é", "e\u0301"})
def test_every_name_has_a_file_of_its_own_inside_the_folder(names: set[str]) -> None:
    files = file_names(names)
    assert set(files) == names
    folded = [file.casefold() for file in files.values()]
    assert len(set(folded)) == len(names)
    for file in files.values():
        assert file.endswith(".md")
        assert file[0] not in ".-~"
        assert not set(file) & set('/\\:*?"<>|\x00\n')
        assert file.partition(".")[0].casefold() not in {"con", "nul", "aux", "prn", "com1"}
        assert len(file.encode()) < 120
    assert files == file_names(sorted(names, reverse=True)), "the order does not matter"


def test_a_plain_name_is_the_files() -> None:
    assert file_stem("summary-v2.final") == "summary-v2.final"
    assert file_stem("zusammenfassung_größe") == "zusammenfassung_größe"
    assert file_stem("a b").startswith("a-b-")


def test_only_content_and_what_is_said_of_it_is_written() -> None:
    prompt = Prompt(
        "p", 7, "sha256:x", "t", created_by="ada", site="lab", aliases=("prod",), variables=("x",)
    )
    assert to_markdown(prompt) == to_markdown(replace(prompt, version=8, created_by="bob", aliases=()))
