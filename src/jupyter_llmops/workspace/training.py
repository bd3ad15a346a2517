"""Recording a training: data, seeds and settings at its start, losses and weights at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from jupyter_llmops.errors import UsageError
from jupyter_llmops.workspace.environment import Environment

if TYPE_CHECKING:
    from jupyter_llmops.audit.training_group import TrainingGroup
    from jupyter_llmops.records.run import RunStatus
    from jupyter_llmops.records.training import Training

MOST_LOSSES: Final = 1000
MOST_NAMES: Final = 100
_SEED_LIMIT: Final = 2**32
_OFF: Final = "this is in no record, as the audit trail is off: %config LLMOps.audit = True"


class Trainings(Environment):
    """What a workspace records of trainings."""

    def training(
        self,
        name: str = "",
        *,
        data: Any = None,
        seed: int | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> TrainingRun:
        """Record what a ``with`` block trains; also each rank of a training under torch.distributed.

        Parameters
        ----------
        name : str
            What you call it; the same on each rank.
        data : object, optional
            What it learns from: a mapping of names to values, files or folders, or one of these. Arrays, frames,
            tables and tensors are digested as they are at the start; a `Path`, or a text in a mapping that is the
            path of something, by the content that lies there.
        seed : int, optional
            Seeds `random`, and NumPy's and torch's own generators where they are loaded, from 0 to 2**32 - 1.
        hyperparameters : mapping, optional
            Plain values; what looks like a secret is cut out.

        Returns
        -------
        TrainingRun
            Tell it the result with ``weights(model)``; what it recorded is its ``record``.

        Raises
        ------
        UsageError
            The seed is no such number, or the hyperparameters are no mapping.
        """
        if seed is not None and (type(seed) is not int or not 0 <= seed < _SEED_LIMIT):
            raise UsageError(f"{seed!r} is not a seed.", "Give a whole number from 0 to 4294967295.")
        if hyperparameters is not None and not isinstance(hyperparameters, Mapping):
            raise UsageError(
                "The hyperparameters are no mapping of names to values.",
                'Give e.g. {"lr": 0.001, "epochs": 3}.',
            )
        return TrainingRun(self, str(name), _named(data), seed, dict(hyperparameters or {}))


class TrainingRun:
    """A training that is being recorded; a context manager, made by `Workspace.training`."""

    def __init__(
        self,
        workspace: Environment,
        name: str,
        data: dict[str, Any],
        seed: int | None,
        settings: dict[str, Any],
    ) -> None:
        from jupyter_llmops.audit.leaf import new_salt

        self._workspace = workspace
        self._name = name
        self._given = data
        self._seed = seed
        self._settings = settings
        self._salt = new_salt()
        self._weights: dict[str, str] = {}
        self._losses: list[tuple[int, float]] = []
        self._every = 1
        self._told = 0
        self._last: tuple[int, float] | None = None
        self._notes: list[str] = []
        self._began: tuple[datetime, float] | None = None
        self.record: Training | None = None

    def __enter__(self) -> Self:
        if self._began is not None:
            raise UsageError(
                "This training was recorded already.", "Make a new one: with ws.training(…) as run:"
            )
        from jupyter_llmops.audit.training_group import join_group
        from jupyter_llmops.audit.values import random_states

        self._id = self._workspace.journal.new_id() if self._workspace.settings.audit else ""
        self._data = {name: self._digest(value, self._salt) for name, value in self._given.items()}
        self._given = {}  # a recorder keeps nobody's data alive
        if self._seed is not None:
            _seed_generators(self._seed)
        self._states = random_states()
        self._group = join_group(self._id, self._name)
        self._workspace.stamp_environment()
        self._began = (datetime.now(UTC), time.perf_counter())
        return self

    def weights(self, result: Any, name: str = "weights") -> str:
        """Record what came out, as it is now, and return its digest or why it has none.

        Parameters
        ----------
        result : object
            A `torch.nn.Module`, a state dict, a fitted scikit-learn estimator, an array; or the path of a file or
            folder. Of a module every parameter and kept buffer counts.
        name : str
            For a training with several results, such as checkpoints.

        Returns
        -------
        str
            ``sha256:…``, or ``skipped: REASON``.
        """
        if len(self._weights) >= MOST_NAMES and name not in self._weights:
            raise UsageError(f"A training has {MOST_NAMES} results at most.", "Record the last ones only.")
        value = Path(result) if type(result) is str else result
        said = self._weights[str(name)] = self._digest(value, "")
        return said

    def try_weights(self, result: Any, name: str = "weights") -> None:
        """Record what came out as `weights` does; what can't be read is said in the record and raises nothing."""
        try:
            self.weights(result, name)
        except UsageError as error:
            self.lacks_weights(name, error.message.rstrip("."))

    def lacks_weights(self, name: str, reason: str) -> None:
        """Record that a result was expected and why it is not there."""
        if len(self._weights) < MOST_NAMES:
            self._weights[name] = f"skipped: {reason}"
        else:
            self.note(f"{name} is not recorded: a training has {MOST_NAMES} results at most")

    def note(self, sentence: str) -> None:
        """Record what could not be said of this training."""
        self._notes.append(sentence)

    def loss(self, value: Any, step: int | None = None) -> None:
        """Record a loss, of which 1,000 are kept at most: every second, every fourth … and the last.

        Parameters
        ----------
        value : float
            A number, or a tensor of one.
        step : int, optional
            Counted from 0 by default.
        """
        try:
            detach = getattr(value, "detach", None)  # PyTorch warns of a number from a tensor with a gradient
            number = float(detach() if callable(detach) else value)
        except Exception:  # noqa: BLE001 - each library's arrays refuse in their own way
            raise UsageError(
                f"A loss is a number, not {type(value).__name__}.", "Give e.g. loss.item()."
            ) from None
        try:
            at = self._told if step is None else int(step)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(
                f"{step!r} is not a step.", "Give a whole number, or nothing to count from 0."
            ) from None
        self._last = (at, number)
        if self._told % self._every == 0:
            self._losses.append(self._last)
            if len(self._losses) >= MOST_LOSSES:
                del self._losses[1::2]
                self._every *= 2
        self._told += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._began is None:
            return
        status: RunStatus = "ok"
        if kind is not None:
            status = "interrupted" if _is_interruption(kind) else "error"
        if status == "ok" and not self._weights:
            self._notes.append(
                "no weights were recorded: name them, with -w or by weights(model) in the block"
            )
        self._stamp(status, kind.__name__ if kind is not None else "")

    def _stamp(self, status: RunStatus, error_type: str) -> None:
        from jupyter_llmops.records.training import Training

        assert self._began is not None
        started_at, began = self._began
        seconds = time.perf_counter() - began
        losses = list(self._losses)
        if self._last is not None and losses[-1] != self._last:
            losses.append(self._last)
        group = self._group
        off = "" if self._workspace.settings.audit else _OFF
        notes = tuple(filter(None, (*self._notes, group.note, off)))
        if self._workspace.settings.audit:
            self._leave(status, error_type, started_at, seconds, losses, notes)
        self.record = Training(
            run_id=self._id, group=group.id, name=self._name, status=status, started_at=started_at,
            seconds=seconds, data=dict(self._data), weights=dict(self._weights),
            hyperparameters=self._shown(), seed=self._seed, random_states=self._states,
            losses=tuple(losses), rank=group.rank, world_size=group.world_size, backend=group.backend,
            notes=notes,
        )  # fmt: skip

    def _leave(
        self, status: str, error_type: str, started_at: datetime, seconds: float,
        losses: list[tuple[int, float]], notes: tuple[str, ...],
    ) -> None:  # fmt: skip
        """Append the leaf to this session's journal."""
        workspace = self._workspace
        fields: dict[str, Any] = {
            **workspace.place(),
            "name": self._name,
            # Their values stand in the content, which can be forgotten; its salted digest covers them.
            "hyperparameters": [str(key) for key in self._settings],
            "seed": self._seed,
            **_group_fields(self._group),
            **({"notes": list(notes)} if notes else {}),
            **({"error_type": error_type} if error_type else {}),
            **({"model": self._name} if self._name else {}),
        }
        if losses:
            told = {"first": losses[0], "last": losses[-1]}
            numbers = [loss for loss in losses if not math.isnan(loss[1])]
            if numbers:
                told["lowest"] = min(numbers, key=lambda loss: loss[1])
            fields["loss"] = {"count": self._told} | {
                # As a text: a float in a leaf has a form that people don't expect.
                name: {"step": step, "value": repr(value)}
                for name, (step, value) in told.items()
            }
        content = {"training": _as_text(self._name, self._settings)}
        if losses:
            content["losses"] = "\n".join(f"{step} {value!r}" for step, value in losses)
        # A rank's leaf belongs to rank 0's; that one to the cell that it ran in.
        parent = self._group.id if self._group.rank else ""
        cell = workspace.stamper.current_cell_id() if workspace.stamper else ""
        workspace.journal.stamp(
            "training",
            id=self._id,
            parent=parent or cell,
            status=status,
            started_at=started_at,
            seconds=seconds,
            fields=fields,
            content=content,
            facts={"data": _plain(self._data), "weights": _plain(self._weights), "random": self._states},
            salt=self._salt,
        )
        workspace.announce("runs")

    def _shown(self) -> dict[str, Any]:
        """Return the hyperparameters without secrets, as the record may stand in a notebook's output."""
        from jupyter_llmops.audit.leaf import plain

        redact = self._workspace.redactor.redact

        def cleaned(name: str, value: Any) -> Any:
            if isinstance(value, dict):
                return {inner: cleaned(inner, item) for inner, item in value.items()}
            if isinstance(value, list):
                return [cleaned(name, item) for item in value]
            return "[redacted]" if type(value) is str and redact(f'{name} = "{value}"')[1] else value

        shown: dict[str, Any] = cleaned("", plain(self._settings))
        return shown

    def _digest(self, value: Any, salt: str) -> str:
        from jupyter_llmops.audit.values import digest_value
        from jupyter_llmops.audit.values.files import digest_path

        if isinstance(value, Path):
            path = value.expanduser()
            try:
                return digest_path(path, salt)
            except OSError as error:
                raise UsageError(
                    f"{path} can't be read: {error.strerror}.", "Give the path of a file or a folder."
                ) from error
        return digest_value(value, salt)


def _named(data: Any) -> dict[str, Any]:
    """Return data by name; a text in a mapping that is the path of something is that path."""
    if data is None:
        return {}
    if type(data) is str:
        return {"data": Path(data)}
    if type(data) is not dict:
        return {"data": data}
    if len(data) > MOST_NAMES:
        raise UsageError(
            f"A training has {MOST_NAMES} sets of data at most.",
            "Give those of a kind as one list or folder.",
        )
    return {str(name): Path(value) if type(value) is str else value for name, value in data.items()}


def _is_interruption(kind: type[BaseException]) -> bool:
    """Return whether it is Ctrl-C, which in a cell that awaits cancels its task."""
    from asyncio import CancelledError

    return issubclass(kind, KeyboardInterrupt | CancelledError)


def _seed_generators(seed: int) -> None:
    import random
    import sys

    random.seed(seed)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def _group_fields(group: TrainingGroup) -> dict[str, Any]:
    fields: dict[str, Any] = {"rank": group.rank, "world_size": group.world_size}
    if group.backend:
        fields["backend"] = group.backend
    if group.id:
        fields["group"] = group.id
    return fields


def _as_text(name: str, settings: Mapping[str, Any]) -> str:
    from jupyter_llmops.audit.leaf import plain

    return "\n".join([name, *(f"{key} = {value}" for key, value in plain(settings).items())])


def _plain(digests: Mapping[str, str]) -> dict[str, str]:
    from jupyter_llmops.audit.leaf import plain

    found: dict[str, str] = plain(digests)
    return found
