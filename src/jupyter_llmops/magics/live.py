"""What stands below a cell while it works: the answer as it is written, and a line of progress."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Self

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import DisplayHandle, display

# Redrawing more often only makes the browser work.
SECONDS_BETWEEN_DRAWS = 0.08
# A log file or a pipe keeps every line, so it gets few.
SECONDS_BETWEEN_LINES = 5.0


class LiveAnswer:
    """Shows an answer while it comes; leaves nothing behind when the result is shown.

    Parameters
    ----------
    shell : InteractiveShell
        A kernel gets HTML that is redrawn in place; a terminal gets the text as it comes.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._notebook = hasattr(shell, "kernel")
        self._text = ""
        self._line = ""
        self._fraction: float | None = None
        self._pieces = 0
        self._first_piece = 0.0
        self._drawn = 0.0
        self._handle: DisplayHandle | None = None
        self._mid_line = False
        self._drawn_line = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._notebook:
            self._wipe_line()
            if self._mid_line:
                sys.stdout.write("\n")
            return
        if self._handle is None:
            return
        if error is not None and self._text:
            self._line = f"stopped after {self._pieces} pieces"
            self._draw()  # what had come stays on the screen, above the error's line
        else:
            # Only what was drawn here: clear_output would take with it what the cell's other lines
            # and warnings have shown.
            self._handle.update({"text/plain": "", "text/html": ""}, raw=True)

    def progress(self, sentence: str, fraction: float | None = None) -> None:
        """Show a sentence and, where one is known, how far it is (0 to 1)."""
        self._line, self._fraction = sentence, fraction
        self._refresh()

    def write(self, piece: str) -> None:
        """Add a piece of the answer."""
        from jupyter_llmops.display.elements import duration

        now = time.perf_counter()
        if not self._pieces:
            self._first_piece = now
        self._pieces += 1
        self._text += piece
        self._fraction = None
        elapsed = now - self._first_piece
        rate = f" · {(self._pieces - 1) / elapsed:.0f} pieces/s" if elapsed > 0.5 else ""
        self._line = f"{self._pieces} pieces in {duration(elapsed)}{rate}"
        if not self._notebook:
            self._wipe_line()
            sys.stdout.write(piece)
            sys.stdout.flush()
            self._mid_line = not piece.endswith("\n")
            return
        self._refresh()

    @property
    def written_out(self) -> bool:
        """Whether a terminal has shown the answer already, so that its result need not."""
        return not self._notebook and self._pieces > 0

    def _refresh(self) -> None:
        now = time.perf_counter()
        if not self._notebook:
            if not self._pieces:
                self._write_line(now)
            return
        if now - self._drawn >= SECONDS_BETWEEN_DRAWS:
            self._draw()
            self._drawn = now

    def _write_line(self, now: float) -> None:
        """Show the progress of a terminal: one line that changes, or now and then one of a log."""
        percent = f" {100 * self._fraction:.0f} %" if self._fraction is not None else ""
        if sys.stderr.isatty():
            if self._drawn_line and now - self._drawn < SECONDS_BETWEEN_DRAWS:
                return
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{self._line[: width - len(percent)]}{percent}")
            sys.stderr.flush()
        elif not self._drawn_line or now - self._drawn >= SECONDS_BETWEEN_LINES:
            sys.stderr.write(f"{self._line}{percent}\n")
        else:
            return
        self._drawn, self._drawn_line = now, self._line

    def _wipe_line(self) -> None:
        if self._drawn_line and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._drawn_line = ""

    def _draw(self) -> None:
        from jupyter_llmops.display.completion import progress_html
        from jupyter_llmops.display.elements import bar

        line = bar(self._fraction, self._line) if self._fraction is not None else self._line
        bundle = {
            "text/plain": f"{self._text}\n[{self._line}]",
            "text/html": progress_html(self._text, line),
        }
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
