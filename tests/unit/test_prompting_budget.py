"""Prices and budgets: known ones add up, unknown ones stay unknown, and nothing runs beyond the limit."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import genai_prices
import pytest

from cache_answers import REQUEST
from jupyter_llmops.errors import BudgetError, UsageError
from jupyter_llmops.prompting.budget import Budget
from jupyter_llmops.prompting.pricing import Pricing
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.cost import UNKNOWN_COST, Cost
from jupyter_llmops.workspace.money import parse_amount

ANSWER = Generation("yes", (1, 2), 1000, 36.0, "stop")
REMOTE = replace(
    REQUEST,
    model="theirs",
    engine="endpoint",
    device="",
    engine_options=(("served_name", "gpt-5-mini"), ("url", "https://api.openai.com/v1")),
)


def pricing(per_hour: dict[str, float] | None = None, **per_million: tuple[float, float]) -> Pricing:
    return Pricing(
        lambda: per_hour or {}, lambda: per_million, lambda: "EUR", lambda device: (device, "site")
    )


def test_a_local_answer_costs_its_seconds():
    cost = pricing({"cpu": 0.5}).cost(REQUEST, ANSWER)
    assert (cost.amount, cost.currency) == (pytest.approx(0.005), "EUR")
    assert "36.00 s of cpu" in cost.basis


def test_the_worker_that_served_it_has_its_own_price():
    prices = pricing({"cpu": 0.5, "big": 5.0})
    assert prices.cost(REQUEST, replace(ANSWER, served_by="big")).amount == pytest.approx(0.05)


def test_without_a_price_the_cost_stays_unknown():
    cost = pricing().cost(REQUEST, ANSWER)
    assert cost.amount is None
    assert "price_per_hour" in cost.basis


def test_a_remote_answer_costs_what_the_public_list_says():
    answer = replace(ANSWER, tokens_out=100, served_by="https://api.openai.com/v1")
    cost = pricing().cost(REMOTE, answer)
    listed = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=1000, output_tokens=100), "gpt-5-mini", provider_id="openai"
    )
    assert cost.amount == pytest.approx(float(listed.total_price))
    assert cost.currency == "USD"


def test_a_host_that_no_list_knows_has_no_price_though_its_models_name_is_known():
    elsewhere = replace(REMOTE, engine_options=(("served_name", "gpt-5-mini"), ("url", "http://10.0.0.7/v1")))
    assert pricing().cost(elsewhere, replace(ANSWER, served_by="http://10.0.0.7/v1")).amount is None


def test_of_a_pool_the_settings_price_each_endpoint_by_its_name():
    options = (("served_name", "big"), ("url1", "https://a/v1"), ("url2", "https://b/v1"))
    pool = replace(REMOTE, model="a=3,b", engine_options=options)
    prices = Pricing(
        dict,
        lambda: {"a": (1.0, 0.0), "b": (5.0, 0.0)},
        lambda: "EUR",
        lambda device: (device,),
        lambda name: f"https://{name}/v1",
    )
    answer = replace(ANSWER, tokens_in=1000)
    assert prices.cost(pool, replace(answer, served_by="https://a/v1")).amount == pytest.approx(0.001)
    assert prices.cost(pool, replace(answer, served_by="https://b/v1")).amount == pytest.approx(0.005)
    assert prices.cost(pool, replace(answer, served_by="https://c/v1")).amount is None
    alone = prices.estimate(replace(pool, model="b")).amount
    assert prices.estimate(pool).amount == alone
    assert alone


def test_of_a_pool_whoever_served_has_its_price_and_a_budget_counts_with_the_dearest():
    options = (
        ("served_name1", "gpt-5-mini"),
        ("served_name2", "gpt-5"),
        ("url1", "https://api.openai.com/v1"),
        ("url2", "https://api.openai.com/v1/"),
    )
    pool = replace(REMOTE, engine_options=options)
    answer = replace(ANSWER, tokens_out=100)
    cheap = pricing().cost(pool, replace(answer, served_by="https://api.openai.com/v1")).amount
    dear = pricing().cost(pool, replace(answer, served_by="https://api.openai.com/v1/")).amount
    assert cheap
    assert dear
    assert cheap < dear
    estimate, alone = pricing().estimate(pool), pricing().estimate(REMOTE)
    assert estimate.amount
    assert alone.amount
    assert estimate.amount > alone.amount


def test_an_endpoint_that_does_not_say_its_tokens_has_no_price():
    assert pricing(None, theirs=(1.0, 2.0)).cost(REMOTE, replace(ANSWER, tokens_in=0)).amount is None


def test_prices_of_the_settings_come_first():
    cost = pricing(None, theirs=(1.0, 2.0)).cost(REMOTE, replace(ANSWER, tokens_out=500_000))
    assert cost.amount == pytest.approx(0.001 + 1.0)


def test_what_an_answer_may_cost_is_learnt_from_the_last_ones():
    prices = pricing({"cpu": 3600.0})
    assert prices.estimate(REQUEST).amount is None
    prices.cost(REQUEST, replace(ANSWER, seconds=2.0, tokens_out=20))
    assert prices.estimate(REQUEST).amount == pytest.approx(REQUEST.parameters.max_new_tokens / 10)


def budget(folder: Path, each: float | None = None) -> Budget:
    return Budget(folder, lambda _: Cost(each, "USD"), "USD")


def test_nothing_runs_beyond_the_limit(tmp_path: Path):
    purse = budget(tmp_path, each=2.0)
    purse.set(5.0, "USD")
    purse.check([REQUEST, REQUEST])
    with pytest.raises(BudgetError, match="may cost up to 6"):
        purse.check([REQUEST] * 3)
    purse.add(Cost(4.0, "USD"))
    with pytest.raises(BudgetError, match="has 1 left"):
        purse.check([REQUEST])
    purse.add(Cost(1.0, "USD"))
    with pytest.raises(BudgetError, match="is spent"):
        purse.check([])


@pytest.mark.parametrize("limit", [2e-5, 0.29, 1.1, 100.0, 123_456.0])
@pytest.mark.parametrize("spent", [0.1, 1.0, 3.0])
def test_the_budget_that_a_refusal_names_can_be_typed_and_is_enough(
    tmp_path: Path, limit: float, spent: float
):
    each = limit / 1000 if spent < 1 else limit
    purse = budget(tmp_path, each=each)
    purse.set(limit, "USD")
    purse.add(Cost(limit * spent, "USD"))
    with pytest.raises(BudgetError) as raised:
        purse.check([REQUEST] * 1001)
    typed = re.search(r"%budget (\S+USD)", str(raised.value))
    assert typed
    amount, currency = parse_amount(typed[1], "EUR")
    assert currency == "USD"
    assert amount > limit * max(spent, 1.0)
    assert "e-" not in str(raised.value)


def test_unknown_prices_and_other_currencies_are_said_not_summed(tmp_path: Path):
    purse = budget(tmp_path)
    purse.set(1.0, "USD")
    purse.add(UNKNOWN_COST)
    purse.add(Cost(7.0, "EUR"))
    purse.check([REQUEST])
    status = purse.status()
    assert (status.spent, status.unpriced, status.left) == (0.0, 1, 1.0)
    assert [(cost.amount, cost.currency) for cost in status.elsewhere] == [(7.0, "EUR")]


def test_a_day_counts_every_kernel_and_a_session_only_its_own(tmp_path: Path):
    first, second = budget(tmp_path), budget(tmp_path)
    first.add(Cost(3.0, "USD"))
    second.set(2.0, "USD", "day")
    with pytest.raises(BudgetError, match="is spent"):
        second.check([REQUEST])
    second.set(2.0, "USD", "session")
    second.check([REQUEST])


def test_an_old_day_a_torn_line_and_foreign_lines_do_not_count(tmp_path: Path):
    now = datetime.now(UTC)
    file = tmp_path / f"{now:%Y-%m}.jsonl"
    other = "01" if now.day != 1 else "02"
    file.write_text(
        f'{{"at": "{now:%Y-%m}-{other}T00:00:00+00:00", "amount": 9, "currency": "USD"}}\n'
        'nonsense\n[1]\n{"at": 3, "amount": 1, "currency": "USD"}\n'
        f'{{"at": "{now.isoformat()}", "amount": 1, "currency": "USD"}}\n{{"at": "2026'
    )
    purse = budget(tmp_path)
    purse.set(100.0, "USD", "day")
    assert purse.status().spent == 1.0
    purse.set(100.0, "USD", "month")
    assert purse.status().spent >= 10.0


def test_a_folder_that_cannot_be_made_keeps_no_answer_from_its_caller(tmp_path: Path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    purse = budget(in_the_way / "below")
    purse.add(Cost(1.0, "USD"))
    assert purse.status().spent == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5USD", (5.0, "USD")),
        ("5 eur", (5.0, "EUR")),
        ("$5", (5.0, "USD")),
        ("2.5€", (2.5, "EUR")),
        (".5", (0.5, "CHF")),
        (7, (7.0, "CHF")),
    ],
)
def test_amounts(text: str | float, expected: tuple[float, str]):
    assert parse_amount(text, "CHF") == expected


@pytest.mark.parametrize("text", ["", "much", "-5USD", "0USD", "$5USD", "5USDT", "1e3", "nan", "5 5"])
def test_what_is_no_amount_is_refused(text: str):
    with pytest.raises(UsageError, match=r"%budget 5USD|refuse everything"):
        parse_amount(text, "USD")
