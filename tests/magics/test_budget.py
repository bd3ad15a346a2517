"""%budget in a shell: set, spent, refused before anything runs, lifted."""

from __future__ import annotations

import pytest

from magic_shell import Notebook

CELL = "%%prompt --no-cache\nSay {{ word }}."


@pytest.fixture
def priced(notebook: Notebook) -> Notebook:
    notebook.workspace.settings.price_per_hour = {"cpu": 3600.0}  # one a second: FastEngine takes 0.25 s
    notebook.run("word = 'yes'")
    return notebook


def test_over_the_budget_a_prompt_stops_before_it_runs(priced: Notebook):
    priced.run("%budget 1USD")
    priced.run("%%prompt --no-cache -n 1\nSay {{ word }}.")
    asked = priced.engine.asked
    error = priced.fail("%%prompt --no-cache -n 9\nSay {{ word }}.")
    assert "may cost up to 2.25 USD" in str(error)
    assert priced.engine.asked == asked
    priced.run("%budget off")
    priced.run("%%prompt --no-cache -n 9\nSay {{ word }}.")


def test_a_hit_costs_nothing_and_says_what_it_saved(priced: Notebook):
    priced.run("%%prompt\nSay {{ word }}.")
    priced.run("%budget 0.26USD")
    hit = priced.run("%%prompt\nSay {{ word }}.")
    assert (hit.source, hit.cost.amount) == ("cache", 0.0)
    assert hit.saved.amount == pytest.approx(0.25)
    status = priced.run("%budget")
    assert (status.spent, status.saved) == (pytest.approx(0.25), pytest.approx(0.25))
    assert "saved by reuse" in priced.shown(status)
    assert "0.25 USD of 0.26 USD" in priced.shown(status, "text/html")


@pytest.mark.parametrize("line", ["%budget much", "%budget 5USD --per week", "%budget --per day"])
def test_bad_amounts_and_periods_are_one_sentence(notebook: Notebook, line: str):
    assert type(notebook.fail(line)).__name__ == "UsageError"


@pytest.mark.parametrize("amount", ["-5USD", "-.5", "-$5", "--per day -5USD", "'- 5 EUR'", "-- -5USD"])
def test_an_amount_below_zero_is_no_option(notebook: Notebook, amount: str):
    said = str(notebook.fail(f"%budget {amount}"))
    assert said.startswith("A budget is an amount above 0, not -")
    assert said.endswith("Type %budget 5USD, or %budget off.")


def test_an_answer_says_what_it_cost(priced: Notebook):
    assert "0.25 USD" in priced.shown(priced.run("%%prompt --no-cache\nSay {{ word }}."))
