"""What comes from a notebook as texts and labels, checked row by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jupyter_llmops.errors import UsageError


def check_text(text: object) -> str:
    """Return one text that can be asked about.

    Raises
    ------
    UsageError
        It is no text, or empty.
    """
    if not isinstance(text, str):
        raise UsageError(
            f"A cascade is asked about a text, not about {_what(text)}.",
            "For many texts type: runner.run_many(texts)",
        )
    if not text.strip():
        raise UsageError("The text is empty.", 'Type e.g. %cascade run NAME "some text"')
    return str(text)


def check_texts(texts: Iterable[str]) -> list[str]:
    """Return texts as a list after checking each.

    Raises
    ------
    UsageError
        It is a single text or a whole data frame, or a row is no text or empty.
    """
    if isinstance(texts, str):
        raise UsageError(
            "Many texts were expected, a single one was given.", "Put it in a list: [text], or use run(text)."
        )
    if hasattr(texts, "columns"):
        names = ", ".join(map(str, getattr(texts, "columns", ())))
        raise UsageError(
            "A data frame was given, not one of its columns.", f"Type df[COLUMN]; it has: {names}."
        )
    try:
        given = list(texts)
    except TypeError:
        raise UsageError(
            f"Many texts were expected, not {_what(texts)}.", "Give a list or a data frame's column."
        ) from None
    for row, text in enumerate(given):
        if not isinstance(text, str):
            raise UsageError(
                f"Row {row} is not a text but {_what(text)}.",
                "Drop such rows first, e.g. df.dropna(subset=[COLUMN]).",
            )
        if not text.strip():
            raise UsageError(
                f"Row {row} is empty.", "Drop empty rows first, e.g. df[df.text.str.strip() != '']."
            )
    return [str(text) for text in given]


def check_labels(labels: Iterable[str], rows: int, known: Sequence[str]) -> list[str]:
    """Return the right answers as a list after checking each.

    Raises
    ------
    UsageError
        There are not as many as rows, or one is not the cascade's.
    """
    given = [str(label) for label in labels]
    if len(given) != rows:
        raise UsageError(f"There are {rows} texts and {len(given)} labels.", "Give one label for each text.")
    for row, label in enumerate(given):
        if label not in known:
            raise UsageError(
                f"Row {row} has the label {label!r}, which the cascade does not have.",
                f"Its labels are {', '.join(known)}.",
            )
    return given


def _what(value: object) -> str:
    return f"{type(value).__name__} ({str(value)[:40]})"
