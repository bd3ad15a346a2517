"""Every cell of a shell becomes a leaf: the hooks before and after it."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jupyter_llmops.audit.actor import Request, notebook_of, request_of
from jupyter_llmops.audit.evidence import facts_of, random_facts
from jupyter_llmops.audit.hooks import ShellHooks
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.leaf import instant, new_salt
from jupyter_llmops.audit.names import NO_NAMES, Names
from jupyter_llmops.audit.outputs import CellOutputs, OutputWatch
from jupyter_llmops.audit.session import kernel_id

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

    from jupyter_llmops.audit.environment import EnvironmentWatch


@dataclass(slots=True, eq=False)
class _Frame:
    """A cell that is running; cells may run cells (``%%capture``), so frames are stacked."""

    info: Any
    run_id: str
    parent: str
    started_at: datetime
    started: float
    request: Request
    salt: str
    shown: tuple[CellOutputs, ...]
    random: dict[str, str]
    slot: int
    start_missed: bool = False
    silent_before: int = 0
    callbacks_before: int = 0
    silent_within: int = 0
    told: Names = NO_NAMES


# The cell that runs, or that made the task that runs; threads have none. A task may outlive its cell: what it
# shows later belongs to no leaf, and not to that of the cell which happens to run then.
_cell: ContextVar[_Frame | None] = ContextVar("cell", default=None)


class CellStamper:
    """Stamps each cell run of one IPython shell; an error in here never reaches the cell.

    As in IPython's own events, silent runs are no cells: frontends use them for their own
    questions. A cell's leaf says how many there were since the cell before, and how many messages came to
    widgets, which may have run callbacks; of those after the last cell an "observation" says it when the session
    ends. Silent runs within a cell (``%run other.ipynb``) are counted by themselves: no frontend asked for them.
    A cell that a cell runs (``%%capture``, ``run_cell`` in user code) is a leaf of its
    own whose parent is the outer one, as its source need not stand in the outer source.

    What a task shows after its cell has ended belongs to no leaf; what a thread shows counts for the newest cell,
    as where it came from can't be told. In a forked child nothing is done.

    Parameters
    ----------
    shell : InteractiveShell
        Whose cells are stamped.
    journal : Journal
        Where they go.
    notebook : str, optional
        Path of the notebook; by default what the Jupyter server told the kernel, VS Code the
        namespace, or a runner its command line; empty when unknown.
    on_stamp : callable, optional
        Is told the run id after each stamp.
    environment : EnvironmentWatch, optional
        Stamps what the cells run on, as long as they are stamped.
    kept_items : callable, optional
        Returns the stored values that the cell which has just ended kept or was given; they stand in its
        content, so that forgetting it finds them, and not in its leaf, as their names are digests of what they
        were made of.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        journal: Journal,
        *,
        notebook: str | None = None,
        on_stamp: Callable[[str], None] | None = None,
        environment: EnvironmentWatch | None = None,
        kept_items: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.shell = shell
        self._kept_items = kept_items
        self.journal = journal
        self.notebook = notebook
        self.on_stamp = on_stamp
        self.environment = environment
        # Subshells of a kernel run cells in threads of their own.
        self._running = threading.local()
        self._open: list[_Frame] = []
        self._process = os.getpid()
        self._kernel = ""
        self._silent = 0
        self._callbacks = 0
        self._watch = OutputWatch(shell, self._takers)
        self._hooks: ShellHooks | None = None

    def register(self) -> None:
        """Begin to stamp, with the cell that is running now (it loads the extension)."""
        if self._hooks is not None:
            return
        self._kernel = kernel_id()
        current = getattr(self.shell.displayhook, "exec_result", None)
        if current is not None and not self._frames():
            self._begin(current.info, start_missed=True)
        self._hooks = ShellHooks(
            self.shell.events,
            {"pre_execute": self._executes, "pre_run_cell": self._before, "post_run_cell": self._after},
        )
        self._hooks.register()
        # Registered after the journal's own, so called before it.
        atexit.register(self._say_silent)
        self._watch.start()
        if self.environment is not None:
            self.environment.start()

    def unregister(self) -> None:
        """Stop stamping."""
        if self._hooks is None:
            return
        self._hooks.unregister()
        self._hooks = None
        atexit.unregister(self._say_silent)
        self._say_silent()
        self._watch.stop()
        if self.environment is not None:
            self.environment.stop()
        self._end(self._frames(), 0)

    def current_cell_id(self) -> str:
        """Return the run id of the cell that is running in this thread, empty outside of one."""
        frames = self._frames()
        return frames[-1].run_id if frames else ""

    def tell_names(self, *, read: Iterable[str] = (), written: Iterable[str] = ()) -> None:
        """Take which of the notebook's names a magic in the running cell took or assigned.

        The cell's source does not show them: to Python a template is a text.

        Parameters
        ----------
        read, written : iterable of str
            The names; also those of values that the trail says to be skipped.
        """
        frames = self._frames()
        if frames:
            told = frames[-1].told
            frames[-1].told = Names((*told.read, *read), (*told.written, *written))

    def _frames(self) -> list[_Frame]:
        frames: list[_Frame] | None = getattr(self._running, "frames", None)
        if frames is None:
            frames = self._running.frames = []
        return frames

    def _begin(self, info: ExecutionInfo | None, *, start_missed: bool = False) -> _Frame:
        frames = self._frames()
        run_id, salt, started_at = self.journal.new_id(), new_salt(), datetime.now(UTC)
        cell = str(getattr(info, "cell_id", None) or "")
        mark = {
            "id": run_id,
            "started_at": instant(started_at),
            # IPython counts on before it tells of the cell.
            "execution_count": self.shell.execution_count - 1
            if getattr(info, "store_history", True)
            else None,
            "cell": cell,
            "kernel": self._kernel,
        }
        frame = _Frame(
            info=info,
            run_id=run_id,
            parent=frames[-1].run_id if frames else "",
            started_at=started_at,
            started=time.perf_counter(),
            request=request_of(self.shell, cell),
            salt=salt,
            shown=(*(frames[-1].shown if frames else ()), CellOutputs(salt, self.journal.redact)),
            random={} if start_missed else random_facts(),
            slot=self.journal.running.begin(mark),
            start_missed=start_missed,
        )
        frames.append(frame)
        self._open.append(frame)
        _cell.set(frame)
        self._watch.cell_began()
        return frame

    def _end(self, frames: list[_Frame], place: int) -> None:
        """Take frames off the stack, from one place on."""
        ended = frames[place:]
        for frame in ended:
            self.journal.running.end(frame.slot)
            if frame in self._open:
                self._open.remove(frame)
        del frames[place:]
        if _cell.get() in ended:
            # Here, not in the tasks that it made. The next cell may await: then it is set in a task only, while
            # what its frontend draws after it comes from here.
            _cell.set(frames[-1] if frames else None)
        if not self._open:
            self._watch.cell_ended()

    def _takers(self) -> tuple[CellOutputs, ...]:
        """Return what takes an output: the cell whose task this is, that of this thread, else the newest."""
        if os.getpid() != self._process:
            return ()
        if (own := _cell.get()) is not None:
            return own.shown  # also of a cell that is stamped already, where nobody looks any more
        frames = getattr(self._running, "frames", None) or self._open
        try:
            return frames[-1].shown
        except IndexError:
            return ()

    def _executes(self) -> None:
        # Fired for silent runs and messages to widgets, too, of which IPython says no more than that.
        request = getattr(self.shell, "parent_header", None)
        counted: tuple[CellStamper | _Frame, str] = (self, "_silent")
        if type(request) is dict and request.get("msg_type") == "comm_msg":
            counted = (self, "_callbacks")
        elif frames := self._frames():
            counted = (frames[-1], "silent_within")
        _count(*counted, 1)
        self._running.counted = counted

    def _say_silent(self) -> None:
        """Stamp how many silent runs and messages to widgets there were after the last cell."""
        told = _counted(silent_before=self._silent, callbacks_before=self._callbacks)
        self._silent = self._callbacks = 0
        if told:
            self.journal.stamp("observation", facts=told)

    def _before(self, info: ExecutionInfo) -> None:
        counter, name = getattr(self._running, "counted", None) or (None, "")
        if counter is not None:
            _count(counter, name, -1)  # it was this cell, which is not silent
            self._running.counted = None
        silent = callbacks = 0
        if not self._frames():
            silent, self._silent = self._silent, 0
            callbacks, self._callbacks = self._callbacks, 0
        try:
            # A prompt in this cell is stamped before the cell is: the redactor must have seen by
            # then what the cell's source says is a secret.
            self.journal.redact(str(info.raw_cell))
            frame = self._begin(info)
            frame.silent_before, frame.callbacks_before = silent, callbacks
        except Exception as error:  # noqa: BLE001 - whatever it is, the cell goes on
            self._complain(error)

    def _after(self, result: ExecutionResult | None) -> None:
        try:
            frame = self._finished(result)
            if frame is not None:
                self._stamp(frame, result)
        except Exception as error:  # noqa: BLE001 - whatever it is, the cell goes on
            self._complain(error)

    def _finished(self, result: ExecutionResult | None) -> _Frame | None:
        """Take the frame that has ended off the stack, with those above it that never said so."""
        frames = self._frames()
        info = result.info if result is not None else None
        place = next((n for n in range(len(frames) - 1, -1, -1) if frames[n].info is info), None)
        if place is None:
            if info is not None and not str(info.raw_cell or "").strip():
                return None  # an empty cell: IPython fires only the event after it
            same = frames and (info is None or frames[-1].info.raw_cell == info.raw_cell)
            if same:
                place = len(frames) - 1  # IPython made the result anew after an exception
            else:
                # Its start was missed: the cell that loaded the extension.
                place = len(frames)
                self._begin(info, start_missed=True)
        frame = frames[place]
        self._end(frames, place)
        return frame

    def _stamp(self, frame: _Frame, result: ExecutionResult | None) -> None:
        seconds = time.perf_counter() - frame.started
        status, error_type = _outcome(result)
        info = frame.info
        source = str(getattr(info, "raw_cell", "") or "")
        fields = {
            "notebook": notebook_of(self.shell.user_ns) if self.notebook is None else self.notebook,
            "cell": str(getattr(info, "cell_id", None) or ""),
        }
        if error_type:
            fields["error_type"] = error_type
        facts = facts_of(
            self.shell,
            info,
            self.journal,
            salt=frame.salt,
            outputs=frame.shown[-1],
            seconds=seconds,
            told=frame.told,
        )
        facts["execution_count"] = result.execution_count if result is not None else None
        if not getattr(info, "store_history", True):
            facts["store_history"] = False
        if frame.start_missed:
            facts["start_missed"] = True
        facts["actor"], facts["client"] = frame.request
        if frame.silent_before or frame.callbacks_before or frame.silent_within:
            facts |= _counted(
                silent_before=frame.silent_before,
                callbacks_before=frame.callbacks_before,
                silent_within=frame.silent_within,
            )
        if frame.random:
            facts["random"] = frame.random
        if self._hooks is not None and self._hooks.restored:
            facts["hooks_restored"], self._hooks.restored = self._hooks.restored, 0
        kept = self._kept_items()
        run_id = self.journal.stamp(
            "cell",
            id=frame.run_id,
            parent=frame.parent,
            status=status,
            started_at=frame.started_at,
            seconds=seconds,
            fields=fields,
            content={"source": source} | ({"kept_items": "\n".join(kept)} if kept else {}),
            facts=facts,
            salt=frame.salt,
        )
        if run_id and self.environment is not None:
            self.environment.cell_ended(source)
        if run_id and self.on_stamp is not None:
            self.on_stamp(run_id)

    def _complain(self, error: Exception) -> None:
        self.journal.complain(f"A cell could not be stamped: {type(error).__name__}: {error}")


def _count(counter: object, name: str, by: int) -> None:
    setattr(counter, name, getattr(counter, name) + by)


def _counted(**counts: int) -> dict[str, int]:
    """Return those of some counts that are not zero."""
    return {name: count for name, count in counts.items() if count > 0}


def _outcome(result: ExecutionResult | None) -> tuple[str, str]:
    """Return the status and the error's type of a cell that has ended."""
    if result is not None:
        error = result.error_before_exec or result.error_in_exec
    else:
        error = sys.exc_info()[1]  # ipykernel passes no result while a cancelled cell unwinds
        if error is None:
            return "error", ""
    if error is None:
        return "ok", ""
    kind = type(error)
    # asyncio takes 20 ms to import; where it is not loaded nothing can have been cancelled.
    cancelled = getattr(sys.modules.get("asyncio"), "CancelledError", KeyboardInterrupt)
    if issubclass(kind, (KeyboardInterrupt, cancelled)):
        return "interrupted", kind.__name__
    return "error", kind.__name__
