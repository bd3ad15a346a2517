"""What a local engine says of given answers: how likely each is."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jupyter_llmops.errors import UsageError
from jupyter_llmops.inference.answering import check_context
from jupyter_llmops.inference.boundary import boundary
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import Message

if TYPE_CHECKING:
    from jupyter_llmops.inference.loading import LoadedWeights


class ChoiceScoring(ABC):
    """The part of an engine that weighs choices; the engine brings the weights."""

    _lock: threading.RLock

    @abstractmethod
    def _load(self, model: Model, quantization: str, progress: Progress | None) -> LoadedWeights: ...

    def score(
        self,
        model: Model,
        quantization: str,
        messages: Sequence[Message],
        choices: Sequence[str],
        *,
        prior: Sequence[float] | None = None,
    ) -> list[float]:
        """Return the probability of each choice as the answer to one chat; see `score_many`."""
        return self.score_many(model, quantization, [messages], choices, prior=prior)[0]

    def score_many(
        self,
        model: Model,
        quantization: str,
        chats: Sequence[Sequence[Message]],
        choices: Sequence[str],
        *,
        prior: Sequence[float] | None = None,
        progress: Progress | None = None,
    ) -> list[list[float]]:
        """Return the probability of each choice as the answer to each chat.

        Parameters
        ----------
        model : Model
            A language model.
        quantization : {"auto", "nf4", "int8", "bf16", "fp32"}
            Precision of the weights.
        chats : sequence of chats
            What is asked; chats that begin alike (the same instruction) cost less.
        choices : sequence of str
            At least two different answers, each as the model would write it; "The review is
            positive" ranks better than "positive".
        prior : sequence of float, optional
            From `prior`: how likely the model finds each choice anyway, which is taken off.
        progress : callable, optional
            Told how far it is, 0 to 1.

        Returns
        -------
        list of list of float
            One row per chat, one probability per choice; each row sums to 1.

        Raises
        ------
        UsageError
            The choices can't be told apart, or the prior is for other choices.
        InferenceError
            A chat does not fit the context.
        """
        from jupyter_llmops.inference import scoring

        scoring.check_choices(choices, prior)
        found, lengths = self._likelihoods(model, quantization, chats, choices, progress)
        return [scoring.probabilities(row, lengths, prior) for row in found]

    def prior(
        self,
        model: Model,
        quantization: str,
        chats: Sequence[Sequence[Message]],
        choices: Sequence[str],
        *,
        progress: Progress | None = None,
    ) -> tuple[float, ...]:
        """Return how likely the model finds each choice anyway: the mean log-likelihood, nats.

        Parameters
        ----------
        model, quantization, choices, progress
            As in `score_many`.
        chats : sequence of chats
            The question about nothing, e.g. with the text "N/A" (contextual calibration, Zhao et
            al. 2021), or, better, about a few dozen unlabelled texts of all classes (batch
            calibration, Zhou et al. 2024).

        Raises
        ------
        UsageError
            There is no chat, or the choices can't be told apart.
        """
        from jupyter_llmops.inference import scoring

        scoring.check_choices(choices)
        if not chats:
            raise UsageError("A prior needs at least one chat.", "Give the question about the text 'N/A'.")
        found, _ = self._likelihoods(model, quantization, chats, choices, progress)
        return tuple(sum(column) / len(found) for column in zip(*found, strict=True))

    def _likelihoods(
        self,
        model: Model,
        quantization: str,
        chats: Sequence[Sequence[Message]],
        choices: Sequence[str],
        progress: Progress | None,
    ) -> tuple[list[list[float]], list[int]]:
        from jupyter_llmops.inference import scoring

        if not chats:
            return [], []
        with self._lock:
            weights = self._load(model, quantization, progress)
            prompts = [weights.chat.encode(messages) for messages in chats]
            answers = scoring.answer_tokens(weights, choices)
            longest = max(map(len, answers))
            check_context(max(map(len, prompts)), longest, weights.context_length)

            def on_done(done: int) -> None:
                if progress is not None:
                    progress("Weighing the choices", done / len(prompts))

            with boundary("Answering with", model, weights.entry.device):
                found = scoring.log_likelihoods(weights, prompts, answers, on_done)
        return found, scoring.scored_lengths(answers)
