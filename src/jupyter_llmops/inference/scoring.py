"""How likely each of a few answers is: a classifier made of a language model.

The score of a choice is the log-likelihood of its tokens where the model's answer begins. With a
prior, the log-likelihood of the same choice after a content-free input is taken off: what the
model would say anyway does not count (contextual calibration, Zhao et al. 2021; the same as
domain-conditional PMI, Holtzman et al. 2021, "Surface form competition"). A softmax over the
choices makes probabilities of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jupyter_llmops.errors import UsageError
from jupyter_llmops.inference.loading import LoadedWeights
from jupyter_llmops.inference.quiet import quiet

# Rows of a forward pass: beyond it a CPU gains nothing, and a GPU is not needed for 135 M weights.
_ROWS = 16


def check_choices(choices: Sequence[str], prior: Sequence[float] | None = None) -> None:
    """Refuse choices that can't be told apart, and a prior of other choices.

    Raises
    ------
    UsageError
        There are fewer than two, one is empty, one is there twice, or the prior has another length.
    """
    if prior is not None and len(prior) != len(choices):
        raise UsageError(
            f"The prior is for {len(prior)} choices, not for these {len(choices)}.",
            "Measure it again with prior(…, choices).",
        )
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(choice.strip() for choice in choices):
        raise UsageError(
            f"These choices can't be told apart: {list(choices)!r}.", "Give at least two different words."
        )


def probabilities(
    likelihoods: Sequence[float], lengths: Sequence[int], prior: Sequence[float] | None = None
) -> list[float]:
    """Return the probability of each choice; they sum to 1.

    Only what tells the choices apart is scored: "The review is" in front of each of them makes the
    model commit to a sentence (SmolLM2 then ranks better than by a bare word) and costs nothing.
    Without a prior, a choice of more tokens would lose only by being longer, so the mean per
    token counts (Brown et al. 2020, section 2.4), scaled to the mean length of the choices: where
    all are equally long it is exactly the model's own conditional probability. With a prior the
    length cancels out.

    Parameters
    ----------
    likelihoods : sequence of float
        Log-likelihood of each choice, nats.
    lengths : sequence of int
        Tokens of each choice, without what all begin with.
    prior : sequence of float, optional
        Log-likelihood of each choice after a content-free input, nats, or its mean over many
        inputs (batch calibration, Zhou et al. 2024).
    """
    if prior is None:
        mean_length = sum(lengths) / len(lengths)
        scores = [score / length * mean_length for score, length in zip(likelihoods, lengths, strict=True)]
    else:
        scores = [score - before for score, before in zip(likelihoods, prior, strict=True)]
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    return [weight / sum(weights) for weight in weights]


def log_likelihoods(
    weights: LoadedWeights,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[int]],
    on_done: Callable[[int], None] | None = None,
) -> list[list[float]]:
    """Return the log-likelihood of each choice after each prompt, nats, in the order given.

    What all prompts begin with (the instruction) is computed once and its attention cache shared;
    the rest runs in batches of prompts of like length.

    Parameters
    ----------
    weights : LoadedWeights
        The model.
    prompts : sequence of token ids
        Each ends where the answer begins.
    choices : sequence of token ids
        The answers.
    on_done : callable, optional
        Gets the number of prompts done after each batch.
    """
    import torch

    # What all choices begin with is the same for each of them: it is the end of the prompt.
    opening = _shared_length(choices)
    prompts = [[*prompt, *choices[0][:opening]] for prompt in prompts]
    choices = [choice[opening:] for choice in choices]
    shared = _shared_length(prompts)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found: list[list[float]] = [[] for _ in prompts]
    done = 0
    with quiet(), torch.inference_mode():
        prefix = _prefix_cache(weights, prompts[0][:shared]) if shared else None
        for rows in _batches(order):
            batch = [prompts[row][shared:] for row in rows]
            for row, scores in zip(rows, _score_batch(weights, prefix, shared, batch, choices), strict=True):
                found[row] = scores
            done += len(rows)
            if on_done is not None:
                on_done(done)
    return found


def _batches(order: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(order), _ROWS):
        yield order[start : start + _ROWS]


def answer_tokens(weights: LoadedWeights, choices: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each choice as an answer.

    Where one begins like another ("good", "good enough"), the end of the answer belongs to each:
    only that tells them apart.
    """
    answers = [weights.chat.encode_answer(choice) for choice in choices]
    if any(a is not b and b[: len(a)] == a for a in answers for b in answers):
        answers = [[*ids, weights.stop_ids[0]] for ids in answers]
    return answers


def scored_lengths(choices: Sequence[Sequence[int]]) -> list[int]:
    """Return the number of tokens of each choice that are scored."""
    opening = _shared_length(choices)
    return [len(choice) - opening for choice in choices]


def _shared_length(sequences: Sequence[Sequence[int]]) -> int:
    if len(sequences) < 2:
        return 0
    shortest = min(len(ids) for ids in sequences)
    first = sequences[0]
    for position in range(shortest):
        if any(ids[position] != first[position] for ids in sequences):
            return position
    return shortest - 1  # each keeps a token of its own: something has to be fed, or scored


def _prefix_cache(weights: LoadedWeights, ids: Sequence[int]) -> Any:
    import torch

    tokens = torch.tensor([list(ids)], device=weights.entry.device)
    return weights.net(input_ids=tokens, use_cache=True, logits_to_keep=1).past_key_values


def _score_batch(
    weights: LoadedWeights,
    prefix: Any,
    shared: int,
    batch: list[Sequence[int]],
    choices: Sequence[Sequence[int]],
) -> list[list[float]]:
    import copy

    import torch

    device = weights.entry.device
    longest = max(len(rest) for rest in batch)
    ids = torch.full((len(batch), longest), weights.pad_id, device=device)
    mask = torch.zeros((len(batch), shared + longest), dtype=torch.long, device=device)
    mask[:, :shared] = 1
    for row, rest in enumerate(batch):  # padded on the left: the answer begins in one column
        ids[row, longest - len(rest) :] = torch.tensor(list(rest), device=device)
        mask[row, shared + longest - len(rest) :] = 1
    cache = copy.deepcopy(prefix) if prefix is not None else None
    if cache is not None:
        cache.batch_repeat_interleave(len(batch))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
    answer = weights.net(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    first = answer.logits[:, -1].float().log_softmax(-1)
    columns = [
        first[:, choice[0]] + _continuation(weights, answer.past_key_values, mask, positions[:, -1:], choice)
        for choice in choices
    ]
    return [[float(value) for value in row] for row in torch.stack(columns, dim=1).tolist()]


def _continuation(weights: LoadedWeights, cache: Any, mask: Any, last: Any, choice: Sequence[int]) -> Any:
    """Return the log-likelihood of a choice's tokens after its first, per row; the cache stays as it was."""
    import torch

    more = len(choice) - 1
    if more == 0:
        return torch.zeros(mask.shape[0], device=mask.device)
    fed = torch.tensor([list(choice[:-1])], device=mask.device).expand(mask.shape[0], -1)
    wanted = torch.tensor([list(choice[1:])], device=mask.device).expand(mask.shape[0], -1)
    answer = weights.net(
        input_ids=fed,
        attention_mask=torch.cat([mask, mask.new_ones((mask.shape[0], more))], dim=1),
        position_ids=last + 1 + torch.arange(more, device=mask.device),
        past_key_values=cache,
        use_cache=True,
    )
    cache.crop(-more)
    logs = answer.logits.float().log_softmax(-1)
    return logs.gather(-1, wanted.unsqueeze(-1)).squeeze(-1).sum(-1)
