"""Names that a cell reads and writes, as Python's own scopes have them."""

from __future__ import annotations

import pytest

from jupyter_llmops.audit.names import MOST_NAMES, names_of


@pytest.mark.parametrize(
    ("source", "read", "written"),
    [
        ("x = y + len(z)", "y z", "x"),
        ("x += 1", "x", "x"),
        ("table['a'] = value\ntable.rows = 2", "table value", ""),
        ("import a.b as c, d.e\nfrom f import g as h, i", "", "c d h i"),
        ("for i in rows: pass\nwith file as f: pass\ndel old", "file rows", "f i old"),
        ("def f(p, k=default):\n    local = p + outer\n    return local", "default outer", "f"),
        ("def f():\n    global count\n    count = step", "step", "count f"),
        ("def f():\n    def g():\n        return deep\n    return g", "deep", "f"),
        (
            "class C(Base):\n    size = start\n    def m(self):\n        return self.a + far",
            "Base far start",
            "C",
        ),
        ("[n * m for n in many]", "m many", ""),
        ("(found := 3)", "", "found"),
        ("await job\n[x async for x in stream]", "job stream", ""),
        ("list = 3\nprint(list)", "list", "list"),
        ("print('nothing')", "", ""),
        ("größe = ähnlich", "ähnlich", "größe"),
    ],
)
def test_what_is_read_and_written(source: str, read: str, written: str) -> None:
    names = names_of(source)
    assert (" ".join(names.read), " ".join(names.written), names.unknown) == (read, written, "")


@pytest.mark.parametrize("source", ["def f(:", "x = 1\n\0", "(" * 500, "%time x"])
def test_what_is_no_python_says_so(source: str) -> None:
    assert names_of(source).unknown == "the source is no Python"


def test_a_huge_source_is_not_looked_at() -> None:
    names = names_of("x = 1\n" * 100_000)
    assert (names.read, names.written) == ((), ())
    assert "600000 characters" in names.unknown


def test_very_many_names_are_bounded_and_counted() -> None:
    names = names_of("\n".join(f"n{number} = 1" for number in range(500)))
    assert len(names.written) == MOST_NAMES
    assert names.left_out == 500 - MOST_NAMES
