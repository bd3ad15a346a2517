"""What may be spent and what was, as text and as a card with a bar."""

from __future__ import annotations

from jupyter_llmops.display.elements import COLOR_OK, COLOR_WARN, Html, bar, card, html
from jupyter_llmops.records.budget import BudgetStatus

_BAR_WIDTH = 20
_NEARLY = 0.8


def money(amount: float, currency: str) -> str:
    """Return an amount for people: two digits after the point, more where it is less than a cent."""
    if amount == 0 or abs(amount) >= 1:
        return f"{amount:,.2f} {currency}"
    return f"{float(f'{amount:.2g}'):.12f}".rstrip("0") + f" {currency}"


def budget_text(budget: BudgetStatus) -> str:
    """Return the budget for a terminal."""
    facts = _facts(budget)
    width = max(len(name) for name, _ in facts)
    lines = [f"{name.ljust(width)}  {value}" for name, value in facts]
    share = _share(budget)
    if share is not None:
        filled = round(_BAR_WIDTH * share)
        lines[0] += f"  {'█' * filled}{'░' * (_BAR_WIDTH - filled)}"
    return "\n".join(lines)


def budget_html(budget: BudgetStatus) -> str:
    """Return the budget as a card, what was spent as a bar."""
    share = _share(budget)
    near = share is not None and share >= _NEARLY
    rows = []
    for position, (name, value) in enumerate(_facts(budget)):
        shown = bar(share, value, color=COLOR_WARN if near else COLOR_OK) if position == 0 else html(value)
        rows.append(
            f'<tr><td style="padding:2px 14px 2px 0;text-align:left;opacity:.75;white-space:nowrap">{html(name)}</td>'
            f'<td style="text-align:left;font-variant-numeric:tabular-nums">{shown}</td></tr>'
        )
    return card(
        Html(f'<table style="border-collapse:collapse">{"".join(rows)}</table>'),
        title="Budget",
        footer="%budget 5USD sets it, --per day or month counts all kernels, %budget off lifts it",
        accent=COLOR_WARN if near else COLOR_OK,
    )


def _facts(budget: BudgetStatus) -> list[tuple[str, str]]:
    spent = money(budget.spent, budget.currency)
    of = f" of {money(budget.limit, budget.currency)}" if budget.limit is not None else ", no limit"
    facts = [(f"spent this {budget.period}", spent + of)]
    if budget.left is not None:
        facts.append(("left", money(budget.left, budget.currency)))
    facts += [
        ("also spent", money(cost.amount or 0.0, cost.currency) + ", not limited")
        for cost in budget.elsewhere
    ]
    if budget.saved:
        facts.append(("saved by reuse", money(budget.saved, budget.currency)))
    if budget.unpriced:
        answers = "answer has" if budget.unpriced == 1 else "answers have"
        facts.append(
            (
                "unknown",
                f"{budget.unpriced} {answers} no known price: set LLMOps.price_per_hour, for endpoints LLMOps.price_per_million_tokens",
            )
        )
    return facts


def _share(budget: BudgetStatus) -> float | None:
    return None if not budget.limit else min(1.0, budget.spent / budget.limit)
