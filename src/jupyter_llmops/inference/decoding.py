"""The request's parameters, checked, as transformers' GenerationConfig; the request alone decides."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jupyter_llmops.errors import UsageError, nearest
from jupyter_llmops.records.request import GenerationParameters, Scalar


class Bounds(NamedTuple):
    """Type and inclusive limits of one decoding parameter, and whether it only matters when sampling."""

    type: type
    low: float = 0.0
    high: float = float("inf")
    sampling_only: bool = False


# Fields of transformers.GenerationConfig that change an answer and need nothing but a scalar.
ALLOWED: dict[str, Bounds] = {
    "top_p": Bounds(float, 0.0, 1.0, sampling_only=True),
    "top_k": Bounds(int, 0, sampling_only=True),
    "min_p": Bounds(float, 0.0, 1.0, sampling_only=True),
    "typical_p": Bounds(float, 0.001, 1.0, sampling_only=True),
    "repetition_penalty": Bounds(float, 0.01, 100.0),
    "no_repeat_ngram_size": Bounds(int, 0),
    "min_new_tokens": Bounds(int, 0),
    "num_beams": Bounds(int, 1, 64),
    "length_penalty": Bounds(float, -100.0, 100.0),
    "early_stopping": Bounds(bool),
    "renormalize_logits": Bounds(bool),
}
# What endpoints know: OpenAI's own fields, and those of vLLM, SGLang and llama.cpp.
ENDPOINT_ALLOWED: dict[str, Bounds] = {
    **{name: ALLOWED[name] for name in ("top_p", "top_k", "min_p", "repetition_penalty")},
    "frequency_penalty": Bounds(float, -2.0, 2.0),
    "presence_penalty": Bounds(float, -2.0, 2.0),
}
_OWN_FLAGS = {
    "temperature": "-t",
    "max_new_tokens": "-n",
    "max_tokens": "-n",
    "max_length": "-n",
    "seed": "--seed",
    "do_sample": "-t",
}


def check_parameters(parameters: GenerationParameters, allowed: Mapping[str, Bounds] | None = None) -> None:
    """Refuse what can't be decoded with, before anything is computed or looked up.

    Parameters
    ----------
    parameters : GenerationParameters
        As asked for.
    allowed : mapping, optional
        The further parameters that there are: those of transformers by default.

    Raises
    ------
    UsageError
        A parameter is unknown (the nearest is named), of a wrong type, or out of its range.
    """
    if isinstance(parameters.max_new_tokens, bool) or parameters.max_new_tokens < 1:
        raise UsageError(f"-n needs at least 1 token, not {parameters.max_new_tokens}.", "Type -n 256.")
    temperature = parameters.temperature
    if temperature != 0 and not 0.001 <= temperature <= 100:
        raise UsageError(
            f"The temperature {temperature} can't be used.",
            "0 is greedy; to sample, type one from 0.001 to 100, e.g. -t 0.7.",
        )
    seed = parameters.seed
    if seed is not None and not 0 <= seed < 2**63:
        raise UsageError(f"The seed {seed} can't be used.", "Type one from 0 to 9223372036854775807.")
    for name, value in parameters.extra:
        _check_extra(name, value, ALLOWED if allowed is None else allowed, sampled=parameters.sampled)


def generation_config(parameters: GenerationParameters, stop_ids: list[int], pad_id: int) -> Any:
    """Return a GenerationConfig in which every field that changes an answer is set by the request.

    A field left None would be filled from the model folder's generation_config.json, so the
    neutral value of each is written down. Greedy is greedy; sampling draws from the whole
    distribution unless the request narrows it.

    Parameters
    ----------
    parameters : GenerationParameters
        As asked for.
    stop_ids : list of int
        Tokens that end an answer.
    pad_id : int
        Token that fills up a batch.
    """
    from transformers import GenerationConfig

    check_parameters(parameters)
    values: dict[str, Any] = {
        "max_new_tokens": parameters.max_new_tokens,
        "min_new_tokens": 0,
        "do_sample": parameters.sampled,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "length_penalty": 1.0,
        "early_stopping": False,
        "use_cache": True,
        "eos_token_id": stop_ids,
        "pad_token_id": pad_id,
    }
    if parameters.sampled:
        values |= {"temperature": parameters.temperature, "top_k": 0, "top_p": 1.0, "typical_p": 1.0}
    values.update(parameters.extra)
    return GenerationConfig(**values)


@contextlib.contextmanager
def own_random_state(seed: int | None, device: str) -> Iterator[None]:
    """Seed the sampler inside; the notebook's own random state is untouched.

    Parameters
    ----------
    seed : int or None
        None draws a fresh one from the operating system.
    device : {"cpu", "cuda"}
        Where tokens are drawn.
    """
    import secrets

    import torch

    cards = list(range(torch.cuda.device_count())) if device == "cuda" else []
    with torch.random.fork_rng(devices=cards):
        torch.manual_seed(secrets.randbits(63) if seed is None else seed)
        yield


def _check_extra(name: str, value: Scalar, allowed: Mapping[str, Bounds], *, sampled: bool) -> None:
    if name not in allowed:
        if name in _OWN_FLAGS:
            hint = f"Use {_OWN_FLAGS[name]} instead."
        else:
            near = nearest(name, allowed)
            hint = f"Did you mean {near[0]}? " if near else ""
            hint += f"Valid are {', '.join(allowed)}."
        raise UsageError(f"There is no decoding parameter named {name!r}.", hint)
    bounds = allowed[name]
    fits = isinstance(value, bool) if bounds.type is bool else _is_number(value, bounds.type)
    if not fits:
        kinds = {float: "a number", int: "a whole number", bool: "true or false"}
        raise UsageError(f"{name} needs {kinds[bounds.type]}, not {value!r}.", f"Type --param {name}=…")
    if isinstance(value, (int, float)) and not bounds.low <= value <= bounds.high:
        limits = (
            f"from {bounds.low:g} to {bounds.high:g}"
            if bounds.high < float("inf")
            else f"at least {bounds.low:g}"
        )
        raise UsageError(f"{name}={value} is out of range.", f"It has to be {limits}.")
    if bounds.sampling_only and not sampled:
        raise UsageError(
            f"{name} only matters when tokens are drawn at random; temperature 0 is greedy.",
            f"Add -t 0.7, or leave {name} out.",
        )


def _is_number(value: Scalar, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (kind is float and isinstance(value, float))
