"""Parameters of a request: what is valid, and that nothing else decides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jupyter_llmops.errors import UsageError
from jupyter_llmops.inference.decoding import ALLOWED, check_parameters, generation_config, own_random_state
from jupyter_llmops.inference.sources import resolve
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.request import GenerationParameters
from model_fixtures import make_request


def sampled(**extra: object) -> GenerationParameters:
    return GenerationParameters(temperature=0.7, extra=tuple(sorted(extra.items())))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"top_pp": 0.5}, "Did you mean top_p"),
        ({"xyzzy": 1}, "Valid are top_p"),
        ({"temperature": 1.0}, "Use -t instead"),
        ({"top_p": "high"}, "needs a number"),
        ({"top_p": True}, "needs a number"),
        ({"top_p": 1.5}, "from 0 to 1"),
        ({"top_p": float("nan")}, "out of range"),
        ({"top_k": 1.5}, "whole number"),
        ({"top_k": -1}, "at least 0"),
        ({"early_stopping": 1}, "true or false"),
    ],
)
def test_a_bad_parameter_is_named(extra: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_parameters(sampled(**extra))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (GenerationParameters(max_new_tokens=0), "at least 1 token"),
        (GenerationParameters(temperature=-1.0), "0 is greedy"),
        (GenerationParameters(temperature=float("nan")), "0 is greedy"),
        (GenerationParameters(seed=-1), "seed -1"),
        (GenerationParameters(extra=(("top_p", 0.9),)), "Add -t 0.7"),
    ],
)
def test_a_bad_value_is_named(parameters: GenerationParameters, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_parameters(parameters)


def test_every_allowed_parameter_is_one_of_transformers() -> None:
    from transformers import GenerationConfig

    known = GenerationConfig().to_dict()
    assert set(ALLOWED) <= set(known) | set(vars(GenerationConfig()))


def test_nothing_that_changes_an_answer_is_left_open() -> None:
    greedy = generation_config(GenerationParameters(), [2], 0)
    assert (greedy.do_sample, greedy.num_beams, greedy.repetition_penalty) == (False, 1, 1.0)
    drawn = generation_config(sampled(top_p=0.9), [2], 0)
    assert (drawn.do_sample, drawn.temperature, drawn.top_k, drawn.top_p) == (True, 0.7, 0, 0.9)


def test_defaults_of_the_folder_decide_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    """The same weights with wild defaults in generation_config.json answer the same."""
    wild = shutil.copytree(tiny_folder, tmp_path / "wild")
    defaults = {
        "do_sample": True,
        "temperature": 50.0,
        "repetition_penalty": 30.0,
        "top_k": 3,
        "num_beams": 3,
    }
    (wild / "generation_config.json").write_text(json.dumps({**defaults, "eos_token_id": 2}))
    engine = TransformersEngine(tmp_path / "models", offline=True)
    plain = engine.with_digest(resolve(str(tiny_folder)))
    likely = engine.generate(make_request(engine, plain, "abc", "fp32", max_new_tokens=1), plain).token_ids
    defaults["suppress_tokens"] = list(likely)  # no parameter of ours, and yet it must not count
    (wild / "generation_config.json").write_text(json.dumps({**defaults, "eos_token_id": 2}))
    answers = []
    for folder in (tiny_folder, wild):
        model = engine.with_digest(resolve(str(folder)))
        for sampling in ({}, {"temperature": 1.5, "seed": 3}):
            request = make_request(engine, model, "abc", "fp32", max_new_tokens=20, **sampling)
            answers.append(engine.generate(request, model).token_ids)
    assert answers[:2] == answers[2:]
    assert answers[0] != answers[1]


@pytest.mark.parametrize("seed", [None, 11])
def test_the_notebooks_own_random_state_is_untouched(seed: int | None) -> None:
    import torch

    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    with own_random_state(seed, "cpu"):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.equal(inside, expected)
