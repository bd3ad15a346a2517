"""What reuse saved in several passes over the same rows, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jupyter_llmops.display.elements import (
    COLOR_BRAND,
    COLOR_OK,
    Html,
    card,
    duration,
    html,
    text_table,
)
from jupyter_llmops.records.map import MapResult

_ROW, _BAR, _LABEL, _WIDTH, _ROOM = 44, 14, 150, 640, 130


@dataclass(frozen=True)
class SavingsChart:
    """Two bars for each pass: what it took, and what its reused answers once took to compute.

    Parameters
    ----------
    passes : mapping of str to MapResult
        By name, in the order in which they are drawn.
    """

    passes: Mapping[str, MapResult]

    def __repr__(self) -> str:
        return text_table(("pass", "took", "saved", "cost"), [_words(*item) for item in self.passes.items()])

    def _repr_html_(self) -> str:
        longest = max([1e-9, *(max(r.seconds, r.seconds_saved) for r in self.passes.values())])
        rows = [_bars(*item, position, longest) for position, item in enumerate(self.passes.items())]
        height = _ROW * len(rows)
        words = "; ".join(f"{name}: took {took}, saved {saved}" for name, took, saved, _ in self._said())
        picture = (
            f'<svg viewBox="0 0 {_WIDTH} {height}" style="width:100%;max-width:{_WIDTH}px" role="img" '
            f'aria-label="{html(words)}">{"".join(rows)}</svg>'
        )
        legend = (
            f'<span style="color:{COLOR_BRAND}">■</span> took &nbsp; '
            f'<span style="color:{COLOR_OK}">■</span> saved by reuse: what computing the same answers took'
        )
        return card(Html(f"{picture}<div>{legend}</div>"), title="Savings")

    def _said(self) -> list[list[str]]:
        return [_words(*item) for item in self.passes.items()]


def savings_chart(passes: Mapping[str, MapResult]) -> SavingsChart:
    """Return a picture of what each pass took and what reuse saved in it.

    Parameters
    ----------
    passes : mapping of str to MapResult
        By name, e.g. ``{"first pass": first, "second pass": second}``.
    """
    return SavingsChart(dict(passes))


def _words(name: str, result: MapResult) -> list[str]:
    amount = result.cost.amount
    cost = "unknown" if amount is None else f"{amount:.2g} {result.cost.currency}"
    return [name, duration(result.seconds), duration(result.seconds_saved), cost]


def _bars(name: str, result: MapResult, position: int, longest: float) -> str:
    top = position * _ROW + 6
    label = f'<text x="{_LABEL - 10}" y="{top + 20}" text-anchor="end" font-size="13" fill="currentColor">{html(name)}</text>'
    pairs = ((result.seconds, COLOR_BRAND), (result.seconds_saved, COLOR_OK))
    return label + "".join(
        _bar(seconds, color, top + i * (_BAR + 2), longest) for i, (seconds, color) in enumerate(pairs)
    )


def _bar(seconds: float, color: str, top: int, longest: float) -> str:
    width = max(1.0, (_WIDTH - _LABEL - _ROOM) * seconds / longest)
    return (
        f'<rect x="{_LABEL}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2" style="fill:{color}"/>'
        f'<text x="{_LABEL + width + 6:.1f}" y="{top + _BAR - 3}" font-size="12" fill="currentColor">'
        f"{html(duration(seconds))}</text>"
    )
