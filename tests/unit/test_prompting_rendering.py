"""Templates: what they may read, what they may not do, and who wrote which part of the result."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a'.zfill(10**8) }}",
        "{{ 'a'.ljust(10**8)|length }}",
        "{{ 'a'.rjust(10**8)|length }}",
        "{{ 'a'.center(10**8)|length }}",
        "{{ 'a'|center(10**8) }}",
        "{{ 'a'|center(width=100000000)|length }}",
        "{{ ('\t' * 1000).expandtabs(100000)|length }}",
        "{{ ('a' * 10**5).replace('a', 'b' * 1000)|length }}",
        "{{ ('a' * 10**5)|replace('a', 'b' * 1000)|length }}",
        "{{ ('a' * 10**4).join('b' * 10**4)|length }}",
        "{{ range(10**4)|join('a' * 10**4)|length }}",
        "{{ ('a' * 10**5).translate({97: 'b' * 1000})|length }}",
        "{{ ('a\n' * 10**4)|indent(10**4)|length }}",
        "{{ ('a ' * 10**4)|wordwrap(1, wrapstring='b' * 10**4)|length }}",
        "{{ [[[]]]|tojson(indent=10**8)|length }}",
        "{{ [1]|batch(10**8, 0)|first|length }}",
        "{{ '%99999999d'|format(1)|length }}",
        "{{ ('%99999999d' % 1)|length }}",
        "{{ ('%*d' % (99999999, 1))|length }}",
        "{{ ('%(a)s' * 10**4 % {'a': 'b' * 10**4})|length }}",
        "{{ '{:99999999}'.format(1)|length }}",
        "{{ '{:{}}'.format(1, 99999999)|length }}",
        "{{ ('{0}' * 10**4).format('b' * 10**4)|length }}",
        "{{ (1).to_bytes(10**8, 'big')|length }}",
        "{{ ['a' * 10**5] * 1000 }}",
        "{{ (['a' * 10**5] * 1000)|string|length }}",
        "{{ (['a' * 10**5] * 1000)|join|length }}",
        "{{ (['a' * 10**5] * 1000)|select|join|length }}",
        "{{ ([{'t': 'a' * 10**5}] * 1000)|join(attribute='t')|length }}",
        "{{ ((['a' * 10**5] * 1000) ~ '')|length }}",
        "{{ ('%s' % [['a' * 10**5] * 1000])|length }}",
        "{{ '{}'.format(['a' * 10**5] * 1000)|length }}",
        "{% set n = namespace(x=['a' * 10**5] * 1000) %}{{ n }}",
        "{% set n = namespace(x='aa') %}{% for i in range(26) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x|length }}",
        "{% set n = namespace(x='aa') %}{% for i in range(26) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x|length }}",
        "{% set n = namespace(x=1) %}{% for i in range(26) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
        "{% set n = namespace(x=9) %}{% for i in range(26) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x > 1 }}",
        ("{% set n = namespace(x='a') %}"
         "{% for i in range(26) %}{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}{% endfor %}{{ n.x|length }}"),
        "{% for i in range(10**4) %}{% for j in range(10**4) %}"+"a"*100+"{% endfor %}{% endfor %}",
        "{% for i in range(10**4) %}{% for j in range(10**4) %}{{ [j] * 50 }}{% endfor %}{% endfor %}",
        "{% set q %}{% for i in range(10**4) %}{% for j in range(10**4) %}"+"a"*100+"{% endfor %}{% endfor %}{% endset %}",
        "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% else %}{{ 'a' * 1000 }}{% endif %}{% endmacro %}{{ m(14) }}",
        "{{ range(10**4)|map('string')|map('center', 10**5)|list|length }}",
        ("{% set n = namespace(x=[], t='a' * 10**6) %}"
         "{% for i in range(1000) %}{% set n.x = n.x + [n.t[1:]] %}{% endfor %}{{ n.x|length }}"),
    ],
)  # fmt: skip
def test_no_template_fills_the_memory(template: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template, {})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_long_prompt_is_no_bomb() -> None:
    text = "word " * 200_000
    template = (
        "{{ doc }}{{ doc|replace('word', 'words')|upper|trim }}{{ docs|join('\n') }}{{ docs }}"
        "{{ '%-10s|%5.1f'|format('a', 2) }}{{ 'a'.center(80) }}{{ huge|truncate(20) }}{{ huge|length }}"
        "{% for i in range(10**5) %}{{ i }}{% endfor %}{{ rows|length }}{{ rows|sum }}{{ rows|first }}"
    )
    variables = {"doc": text, "docs": [text] * 2, "huge": "a" * 11_000_000, "rows": range(10**6)}
    assert len(render(template, variables).text) > 5 * len(text)
    with pytest.raises(TemplateError, match="more than 10 million characters"):
        render("{{ huge }}", variables)


def test_lists_that_hold_themselves_are_written() -> None:
    ring: list[object] = [1]
    ring.append(ring)
    assert render("{{ ring }}", {"ring": ring}).text == "[1, [...]]"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ '{}'.format(x) }}", "3.14159"),
        ("{{ '{0:.2f}'.format(x) }}", "3.14"),
        ("{{ '{who[name]:>5}|{0!r:<4}|'.format('a', who=who) }}", "  Ada|'a' |"),
        ("{{ '{name}'.format_map(who) }}", "Ada"),
        ("{{ '{:{}}'.format(x, 9) }}", "  3.14159"),
        ("{{ ('{}'|safe).format('<') }}", "<"),
        ("{{ 'a' ~ x ~ ['b'] }}", "a3.14159['b']"),
        ("{% autoescape true %}{{ ('<b>'|safe) ~ '<' }}{% endautoescape %}", "<b>&lt;"),
        ("{{ [1, 2, 3][1:] }}{{ 'abc'[::-1] }}{{ [{'a': 1}]|join(attribute='a') }}", "[2, 3]cba1"),
        (
            "{% filter upper %}a{{ who.name }}{% endfilter %}{{ [3, 1]|sort|map('string')|join('-') }}",
            "aAda1-3",
        ),
    ],
)
def test_what_is_harmless_works(template: str, text: str) -> None:
    rendered = render(template, {"x": 3.14159, "who": {"name": "Ada"}})
    assert rendered.text.lower() == text.lower()


@pytest.mark.parametrize(
    "template",
    [
        "{{ '{0.__class__}'.format(thing) }}",
        "{{ '{0.__class__!r}'.format(thing) }}",
        "{{ '{0.__class__!s:>9}'.format(thing) }}",
        "{{ '{0[__class__]}'.format(thing) }}",
        "{{ '{a.__init__.__globals__}'.format(a=thing) }}",
        "{{ '{a.__class__}'.format_map({'a': thing}) }}",
        "{{ '{:{0.__class__}}'.format(thing) }}",
        "{{ '{0._private}'.format(thing) }}",
        "{{ ('{0.__class__}'|attr('format'))(thing) }}",
        "{{ '{0.__class__}'['format'](thing) }}",
        "{{ ('{0.__class__}'|safe).format(thing) }}",
        "{% set f = '{0.__class__}'.format %}{{ f(thing) }}",
        "{{ ['{0.__class__}']|map('attr', 'format')|first(thing) }}",
        "{{ own.format(thing) }}",
        "{{ own['format_map']({'0': thing}) }}",
        "{{ kept.write(thing) }}",
    ],
)
def test_format_reaches_no_private_attribute(template: str) -> None:
    thing = Bomb()
    thing._private = "hidden"  # type: ignore[attr-defined]
    variables = {"thing": thing, "own": "{0.__class__}", "kept": {"write": "{0.__class__}".format}}
    with pytest.raises(TemplateError):
        render(template, variables)


@dataclass
class Settings:
    """What a notebook may keep its secrets in."""

    password: object
    inner: object = None


@pytest.mark.parametrize(
    "template",
    [
        "{{ cfg.password }}",
        "{{ cfg['password'] }}",
        "{{ cfg|attr('password') }}",
        "{{ d['password'] }}",
        "{{ d.password }}",
        "{{ d.get('password') }}",
        "{{ '{0.password}'.format(cfg) }}",
        "{{ '{password}'.format_map(d)}}{{ '{d[password]}'.format(d=d) }}",
        "{{ [cfg]|map(attribute='password')|first }}",
        "{{ [d]|join(attribute='password') }}",
        "{{ cfg.inner[0].password }}",
        "{% for name, value in d.items() %}{{ value }}{% endfor %}",
        "{% for value in d.values() %}{{ value }}{% endfor %}",
        "{% for name, value in d|items %}{{ value }}{% endfor %}",
        "{% for name, value in d|dictsort %}{{ value }}{% endfor %}",
        "{{ d.password }}{{ undefined_name }}",
        "{{ {}[cfg.password] }}",
    ],
)
def test_what_is_read_under_a_name_is_told(template: str) -> None:
    secret = "violet-8-meadow"
    told: list[tuple[str, object]] = []
    variables = {"cfg": Settings(secret, [Settings(secret)]), "d": {"password": secret, "city": "Chur"}}
    with contextlib.suppress(TemplateError):
        render(template, variables, lambda name, value: told.append((name, value)))
    missed = "undefined_name" in template  # refused before anything is read
    assert (("password", secret) in told) is not missed


def test_every_rendering_tells_its_own_reads() -> None:
    def read(number: int) -> list[object]:
        told: list[object] = []
        for _ in range(20):
            render("{{ d.password }}", {"d": {"password": number}}, lambda name, value: told.append(value))
        return [value for value in told if isinstance(value, int)]

    with ThreadPoolExecutor(4) as threads:
        for number, told in enumerate(threads.map(read, range(8))):
            assert told == [number] * 20


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
