"""How much a template may write: a colleague's template must not fill this notebook's memory.

Two things keep it small. What one step can multiply (a width, a replacement, the text of a list that
holds the same text a million times) is computed before it is done; and every text that a step made
is charged to the rendering's budget, so that many steps can't do what one can't.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from itertools import chain
from typing import Any, NoReturn

from jupyter_llmops.errors import TemplateError

LONGEST_TEXT = 10_000_000  # characters of a prompt, and of any text on the way to it
LARGEST_BUDGET = 100_000_000  # characters of all the texts on the way together
LARGEST_WIDTH = 100_000
LARGEST_REPETITION = 1_000_000
LARGEST_INTEGER_BITS = 4096
_LARGEST_INDENTATION = 100
_LONGEST_LINK_ATTRIBUTE = 1000
_COST_OF_A_REFERENCE = 8
_COST_OF_AN_ITEM = 64

_PERCENT = re.compile(
    r"%(?:\((?P<key>[^)]*)\))?[#0\- +]*(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d+)?)?[hlL]?(?P<kind>.)?",
    re.DOTALL,
)
_NUMBER = re.compile(r"\d+")
_WIDTH_METHODS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "to_bytes"})
_WIDTH_FILTERS = frozenset({"center", "batch", "slice", "round"})
_WIDTH_OPTIONS = frozenset({"width", "linecount", "slices", "precision"})
# Filters that write the text of what they get.
_TEXT_FILTERS = frozenset(
    ("capitalize", "center", "e", "escape", "forceescape", "format", "indent", "join", "lower", "pprint", "replace",
     "safe", "string", "striptags", "title", "tojson", "trim", "truncate", "upper", "urlencode", "urlize", "wordcount",
     "wordwrap", "xmlattr")
)  # fmt: skip
_LIST_FILTERS = frozenset({"list", "sort", "dictsort", "sum", "groupby"})


class Budget:
    """What one rendering may still write."""

    def __init__(self) -> None:
        self._left = LARGEST_BUDGET

    def charge(self, value: Any, *, new_items: bool = False) -> Any:
        """Return a value that a step of the template made, after counting it.

        Parameters
        ----------
        value : object
            Texts and containers are counted.
        new_items : bool
            Whether the items of a container may be new too, and not only their list.

        Raises
        ------
        TemplateError
            It is too long, or all of them together are.
        """
        if isinstance(value, str | bytes):
            self.spend(len(value))
        elif isinstance(value, list | tuple | dict | set | frozenset):
            self._left -= (_COST_OF_AN_ITEM if new_items else _COST_OF_A_REFERENCE) * len(value)
            self.spend(0)
        return value

    def spend(self, size: int) -> None:
        """Count a text of `size` characters."""
        if size > LONGEST_TEXT:
            refuse_length()
        self._left -= size
        if self._left < 0:
            refuse_length()

    def joined(self, pieces: Iterable[str]) -> str:
        """Return the pieces as one text, and stop reading them when it gets too long."""
        kept: list[str] = []
        size = 0
        for piece in pieces:
            size += len(piece)
            if size > LONGEST_TEXT:
                refuse_length()
            if piece:
                kept.append(piece)
        return "".join(kept)


class Buffer(list[str]):
    """Where the pieces of a captured block or a macro gather.

    Parameters
    ----------
    budget : Budget
        Of the rendering.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget
        self._size = 0

    def append(self, piece: str) -> None:
        """Add a piece."""
        self._size += len(piece)
        if self._size > LONGEST_TEXT:
            refuse_length()
        if piece:
            self._budget.spend(len(piece) + _COST_OF_A_REFERENCE)
            super().append(piece)

    def extend(self, pieces: Iterable[str]) -> None:
        """Add pieces."""
        for piece in pieces:
            self.append(piece)


def refuse_length() -> NoReturn:
    """Raise the error of a template that writes too much."""
    raise TemplateError(
        f"The template writes more than {LONGEST_TEXT // 1_000_000} million characters.",
        "Shorten the values in a cell first.",
    )


def text_size(value: Any) -> int:
    """Return about how many characters the text of a value has; for what holds others, never under it.

    Raises
    ------
    TemplateError
        It has more than `LONGEST_TEXT`; then no more than that was looked at.
    """
    if isinstance(value, str | bytes):
        return len(value)
    return 0 if _parts(value) is None else _Measure().size(value)


class _Measure:
    """Measures a container; what stands in it many times is looked at once."""

    def __init__(self) -> None:
        self._above: set[int] = set()
        # With the object, so that its id stays its own.
        self._known: dict[int, tuple[object, int]] = {}

    def size(self, value: Any) -> int:
        if isinstance(value, str | bytes):
            return len(value)
        if isinstance(value, int):
            return value.bit_length() // 3 + 1
        known = self._known.get(id(value))
        if known is None:
            parts = _parts(value)
            size = _written_size_of_leaf(value) if parts is None else self._size_of_parts(value, parts)
            known = self._known[id(value)] = (value, size)
        return known[1]

    def _size_of_parts(self, value: Any, parts: Iterable[Any]) -> int:
        if id(value) in self._above:
            return 5  # written as "[...]"
        self._above.add(id(value))
        size = 2
        for part in parts:
            size += self.size(part) + 2
            _check_size(size)
        self._above.discard(id(value))
        return size


def _written_size_of_leaf(value: Any) -> int:
    try:
        return len(repr(value))
    except Exception:  # noqa: BLE001 - of the notebook; what writes it will say so
        return 0


def _parts(value: Any) -> Iterable[Any] | None:
    """Return what is written when a container is, None for what is no container."""
    if isinstance(value, dict):
        return chain(value.keys(), value.values())
    if isinstance(value, list | tuple | set | frozenset | KeysView | ValuesView):
        return value
    if isinstance(value, ItemsView):
        return chain.from_iterable(value)
    if type(value).__module__ == "jinja2.utils" and type(value).__name__ == "Namespace":
        attributes: dict[str, Any] = object.__getattribute__(value, "_Namespace__attrs")
        return chain(attributes.keys(), attributes.values())
    return None


def check_method(owner: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the arguments for a method of a text, a number or a container, unless it would write too much."""
    given = (*args, *kwargs.values())
    if name in _WIDTH_METHODS:
        _check_widths(given)
    if name == "expandtabs":
        size = max((item for item in given if isinstance(item, int)), default=8)
        _check_size(owner.count("\t" if isinstance(owner, str) else b"\t") * size)
    elif name == "replace" and isinstance(owner, str | bytes) and len(args) >= 2:
        _check_replacement(owner, *args[:2])
    elif name == "translate" and isinstance(owner, str | bytes):
        tables = [table for table in given if isinstance(table, dict)]
        longest = max((text_size(text) for table in tables for text in table.values()), default=1)
        _check_size(len(owner) * longest)
    elif name == "join" and args:
        return _for_join(owner, args[0]), *args[1:]
    return args


def check_filter(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the arguments for a filter (the first is the value), unless it would write too much."""
    value, *others = args
    options = (*others, *kwargs.values())
    if name in _WIDTH_FILTERS:
        _check_widths((*others[:1], *(item for option, item in kwargs.items() if option in _WIDTH_OPTIONS)))
    if name == "join":
        text = others[0] if others else kwargs.get("d", "")
        args = (_for_join(str(text), value), *others)
    if name in _TEXT_FILTERS:
        for item in (args[0], *options):
            text_size(item)
    if name == "sum" and (len(others) > 1 or "start" in kwargs):
        args = (_listed(value), *others)
        text_size(args[0])
    elif name == "format":
        check_percent(str(value), kwargs or tuple(others))
    elif name == "replace" and len(others) >= 2:
        _check_replacement(str(value), str(others[0]), str(others[1]))
    elif name == "indent":
        _check_size((len(str(value).splitlines()) + 1) * _longest(options))
    elif name == "wordwrap":
        _check_size(
            (len(str(value)) + 1) * max((len(item) for item in options if isinstance(item, str)), default=0)
        )
    elif (name == "tojson" and _longest(options) > _LARGEST_INDENTATION) or (
        name == "urlize"
        and _longest(item for item in options if isinstance(item, str)) > _LONGEST_LINK_ATTRIBUTE
    ):
        _refuse_width()
    return args


def makes_text(filter_name: str) -> bool:
    """Return whether a filter makes a new text or list, and not one to be had one by one."""
    return filter_name in _TEXT_FILTERS or filter_name in _LIST_FILTERS


def check_operator(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation whose result would be too large."""
    if operator == "%" and isinstance(left, str | bytes):
        text = left if isinstance(left, str) else left.decode("latin-1")
        check_percent(text, right if isinstance(right, tuple | Mapping) else (right,))
    elif isinstance(left, int) and isinstance(right, int):
        if operator == "**" and left.bit_length() * abs(right) > LARGEST_INTEGER_BITS:
            raise TemplateError("The template computes a power that is too large.")
        if operator == "*" and left.bit_length() + right.bit_length() > 2 * LARGEST_INTEGER_BITS:
            raise TemplateError("The template computes a product that is too large.")
    elif operator == "*":
        for sequence, count in ((left, right), (right, left)):
            if (
                isinstance(sequence, str | bytes | list | tuple)
                and isinstance(count, int)
                and len(sequence) * count > LARGEST_REPETITION
            ):
                raise TemplateError("The template repeats a text too many times.")


def check_percent(text: str, values: tuple[Any, ...] | Mapping[str, Any]) -> None:
    """Refuse a ``%`` format whose result would be too long."""
    size = len(text) if isinstance(values, Mapping) else len(text) + sum(map(_written_size, values))
    known: dict[str, int] = {}
    for spec in _PERCENT.finditer(text):
        key = spec["key"]
        if key is not None and "(" in key:
            raise TemplateError("The template formats with a name in brackets within brackets.")
        for width in (spec["width"], spec["precision"]):
            if width == "*":
                _check_widths(tuple(values))
                size += LARGEST_WIDTH if isinstance(values, tuple) else 0
            elif width:
                size += _width(width)
        if key is not None and isinstance(values, Mapping):
            if key not in known:
                known[key] = _written_size(values[key]) if key in values else 0
            size += known[key]
        _check_size(size)


def check_format(value: Any, specification: str) -> None:
    """Refuse one field of ``'{:…}'.format(…)`` that would be too long."""
    for number in _NUMBER.findall(specification):
        _width(number)
    text_size(value)


def _written_size(value: Any) -> int:
    return (
        text_size(value) if isinstance(value, str | bytes) or _parts(value) is not None else len(str(value))
    )


def _width(digits: str) -> int:
    # Ten thousand digits are no number that Python reads.
    if len(digits.lstrip("0")) > len(str(LARGEST_WIDTH)) or int(digits) > LARGEST_WIDTH:
        _refuse_width()
    return int(digits)


def _check_widths(given: Iterable[Any]) -> None:
    if any(isinstance(item, int) and abs(item) > LARGEST_WIDTH for item in given):
        _refuse_width()


def _refuse_width() -> NoReturn:
    raise TemplateError(
        "The template makes a text far wider than any prompt.",
        f"A width of up to {LARGEST_WIDTH:,} is allowed.",
    )


def _check_size(size: int) -> None:
    if size > LONGEST_TEXT:
        refuse_length()


def _longest(options: Iterable[Any]) -> int:
    return max((len(i) if isinstance(i, str) else i for i in options if isinstance(i, str | int)), default=4)


def _check_replacement(text: Any, old: Any, new: Any) -> None:
    if isinstance(old, str | bytes) and isinstance(new, type(text)) and isinstance(old, type(text)):
        _check_size(len(text) + text.count(old) * max(0, len(new) - len(old)))


def _for_join(separator: Any, pieces: Any) -> Any:
    """Return what is to be joined, as a list that can be looked at before."""
    pieces = _listed(pieces)
    if isinstance(pieces, list | tuple | str | bytes | set | frozenset | dict) and isinstance(
        separator, str | bytes
    ):
        _check_size(text_size(pieces) + len(pieces) * len(separator))
    return pieces


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) or type(value) is range else value
