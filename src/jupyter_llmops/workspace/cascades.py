"""Cascades of this session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import UnknownNameError
from jupyter_llmops.location import Location
from jupyter_llmops.settings import LLMOps
from jupyter_llmops.workspace.parts import Parts, Progress

if TYPE_CHECKING:
    from jupyter_llmops.cascade.run import CascadeRunner
    from jupyter_llmops.records.cascade import Cascade, Stage
    from jupyter_llmops.records.request import Message


class Cascades(Parts):
    """What a workspace does with cascades."""

    def __init__(self, settings: LLMOps, location: Location | Path | str, snapshot: str = "") -> None:
        super().__init__(settings, location, snapshot)
        self._cascades: dict[str, tuple[Cascade, Mapping[str, Any]]] = {}

    def define_cascade(self, cascade: Cascade, classifiers: Mapping[str, Any]) -> Cascade:
        """Keep a cascade under its name for this session.

        Parameters
        ----------
        cascade : Cascade
            From ``cascade.specification.build_cascade``.
        classifiers : mapping
            The fitted classifier of each classic stage, by the stage's name.

        Raises
        ------
        UsageError
            A classifier is not fitted, gives no probabilities or knows other labels.
        """
        from jupyter_llmops.cascade.classic import classic_stages

        classic_stages(cascade, classifiers)  # what can't work is said now, not at the first text
        self._cascades[cascade.name] = (cascade, dict(classifiers))
        return cascade

    @property
    def cascades(self) -> tuple[Cascade, ...]:
        """The cascades of this session."""
        return tuple(cascade for cascade, _ in self._cascades.values())

    def cascade(self, name: str, progress: Progress | None = None) -> CascadeRunner:
        """Return what runs a cascade.

        Raises
        ------
        UnknownNameError
            No cascade of this session has that name.
        """
        from jupyter_llmops.cascade.run import CascadeRunner

        if name not in self._cascades:
            raise UnknownNameError(
                "cascade",
                name,
                self._cascades,
                "" if self._cascades else "Type %cascade new? for how to make one.",
            )
        cascade, classifiers = self._cascades[name]
        return CascadeRunner(
            cascade,
            classifiers,
            score=self._score,
            prepare=lambda stage: self._load_stage(stage, progress),
            stamp=self.stamp,
            progress=progress,
        )

    def _load_stage(self, stage: Stage, progress: Progress | None) -> dict[str, Any]:
        """Load a language stage's model and return what belongs in the record about it."""
        model = self.model(stage.name)
        identity = self.engine.identify_scorer(model, self.settings.quantization)
        self.engine.load(model, identity.quantization, progress)
        return {
            "model_digest": model.digest,
            "engine": identity.engine,
            "engine_version": identity.engine_version,
            "quantization": identity.quantization,
            "device": identity.device,
        }

    def _score(
        self, chats: Sequence[Sequence[Message]], choices: Sequence[str], stage: Stage
    ) -> list[list[float]]:
        return self.engine.score_many(self.model(stage.name), self.settings.quantization, chats, choices)
