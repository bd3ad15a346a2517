"""Templates: what they may read, what they may not do, and who wrote which part of the result."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_llmops.errors import TemplateError
from jupyter_llmops.prompting.rendering import render, variables_of


class Bomb:
    """An object of the notebook whose method must never be called by a template."""

    def __init__(self) -> None:
        self.exploded = False
        self.value = 7

    def explode(self) -> str:
        self.exploded = True
        return "boom"


def test_only_the_named_variables_are_read() -> None:
    rendered = render("Hi {{ name }}!", {"name": "Ada", "other": Bomb()})
    assert rendered.text == "Hi Ada!"
    assert rendered.variables == ("name",)


def test_spans_say_who_wrote_what() -> None:
    rendered = render("a {{ x }} b {{ x|upper }}", {"x": "v"})
    assert rendered.text == "a v b V"
    assert [(rendered.text[s.start : s.end], s.origin) for s in rendered.spans] == [
        ("a ", "template"),
        ("v", "variable"),
        (" b ", "template"),
        ("V", "variable"),
    ]


def test_a_template_that_measures_itself_renders_as_without_marks() -> None:
    rendered = render("{% set q %}a{{ x }}{% endset %}{{ q|length }}", {"x": "bcd"})
    assert rendered.text == "4"
    assert [span.origin for span in rendered.spans] == ["variable"]


@given(st.text(min_size=1), st.text(min_size=1))
def test_spans_cover_every_character_of_any_text(first: str, second: str) -> None:
    rendered = render("<{{ a }}|{{ b }}>", {"a": first, "b": second})
    assert rendered.text == f"<{first}|{second}>"
    covered = [i for span in rendered.spans for i in range(span.start, span.end)]
    assert covered == list(range(len(rendered.text)))
    assert rendered.spans[0].origin == "template"
    by_variable = "".join(rendered.text[s.start : s.end] for s in rendered.spans if s.origin == "variable")
    assert by_variable == first + second


def test_undefined_variable_is_named_with_the_nearest() -> None:
    with pytest.raises(TemplateError, match="'toppic'") as caught:
        render("About {{ toppic }}", {"topic": "cats"})
    assert "Did you mean topic?" in caught.value.hint


def test_default_makes_a_variable_optional() -> None:
    assert render("{{ x|default('none') }}", {}).text == "none"
    assert render("{% if x is defined %}a{% else %}b{% endif %}", {}).text == "b"


def test_missing_attribute_is_an_error_not_an_empty_text() -> None:
    with pytest.raises(TemplateError, match="nothing"):
        render("{{ d.nothing }}", {"d": {"a": 1}})


def test_syntax_error_names_the_line() -> None:
    with pytest.raises(TemplateError, match="Line 2"):
        render("fine\n{% if %}", {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ bomb.explode() }}",
        "{% for x in [bomb.explode()] %}{{ x }}{% endfor %}",
        "{% set y = bomb.explode() %}{{ y }}",
        "{{ [bomb]|map(attribute='explode')|map('string')|list }}{{ bomb.explode() }}",
    ],
)
def test_nothing_of_the_notebook_is_called(template: str) -> None:
    bomb = Bomb()
    with pytest.raises(TemplateError, match="can only read values"):
        render(template, {"bomb": bomb})
    assert not bomb.exploded


def test_modules_functions_and_classes_are_refused() -> None:
    for value in (os, os.system, Bomb, print):
        with pytest.raises(TemplateError, match="'thing'"):
            render("{{ thing }}", {"thing": value})


@pytest.mark.parametrize(
    "template",
    [
        "{{ name.__class__ }}",
        "{{ name|attr('__class__') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ name['__class__'] }}",
        "{{ self.__init__.__globals__ }}",
        "{{ range.__self__ }}",
        "{{ '{0.__class__}'.format(name) }}",
        "{{ ('{0.__class__}')|format(name) ~ '{0.__class__.__mro__}'.format(name) }}",
    ],
)
def test_the_interpreter_is_out_of_reach(template: str) -> None:
    try:
        text = render(template, {"name": "Ada"}).text
    except TemplateError:
        return
    assert "class" not in text.replace("__class__", "")
    assert "<" not in text


@pytest.mark.parametrize(
    "template", ["{{ 'a' * 10**9 }}", "{{ 9**99999 }}", "{{ 9**64**64**64 }}", "{{ range(10**9)|list }}"]
)
def test_bombs_are_refused(template: str) -> None:
    with pytest.raises(TemplateError):
        render(template, {})


def test_a_shared_list_can_not_be_changed() -> None:
    shared = [1]
    with pytest.raises(TemplateError):
        render("{{ shared.append(2) }}", {"shared": shared})
    assert shared == [1]


def test_a_value_whose_text_raises_is_one_clear_error() -> None:
    class Shy:
        def __str__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(TemplateError, match="RuntimeError: no"):
        render("{{ shy }}", {"shy": Shy()})


def test_variables_of_ignores_what_the_template_sets_itself() -> None:
    assert variables_of("{% for x in xs %}{{ x }}{{ loop.index }}{% endfor %}{% set y = z %}{{ y }}") == (
        "xs",
        "z",
    )


def test_what_claims_to_equal_everything_is_not_called() -> None:
    class Agreeable:
        called = False

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

        def __call__(self) -> str:
            Agreeable.called = True
            return ""

    with pytest.raises(TemplateError, match="only read values"):
        render("{{ thing() }}", {"thing": Agreeable()})
    assert not Agreeable.called


def test_a_variable_may_have_the_name_of_a_function_of_jinja() -> None:
    rendered = render("{{ namespace }} {{ range(2)|list }}", {"namespace": "prod", "range": "A4"})
    assert rendered.text == "prod [0, 1]"
    assert rendered.variables == ("namespace",)
    assert render("{% set ns = namespace(n=1) %}{{ ns.n }}", {"namespace": "prod"}).text == "1"


def test_an_unknown_filter_is_said_with_one_full_stop() -> None:
    with pytest.raises(TemplateError, match=r"nofilter'\. "):
        render("{{ x|nofilter }}", {"x": 1})
