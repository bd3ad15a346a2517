"""What a cell showed, as salted digests by MIME type; nothing that is shown is touched.

The calls by which a shell shows something are watched on its own objects: `publish` of its display
publisher, `write_format_data` of its display hook, `_showtraceback`, and, while a cell runs, `write` of
the two streams that were there when it began. So the same is seen in ipykernel and in a terminal, from every thread,
and what a cell captures (``%%capture``, ``redirect_stdout``) was not shown and is not digested.
What bypasses them (a program that writes to the terminal's file itself) is not seen.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MOST_BYTES = 8 << 20
MOST_TYPES = 32
_MOST_SEARCHED = 16_384  # characters of a cell's outputs that are searched for secrets: 0.5 ms
_FOLD_CHARACTERS = 1 << 16
_LONGEST_TYPE = 100
_OTHER = "other"

Redact = Callable[[str], str]


class _Digest:
    """The digest of all outputs of one type, fed as they come."""

    def __init__(self, salt: bytes, name: str) -> None:
        self._hash = hashlib.sha256(salt + b"output\0" + name.encode("utf-8", "replace") + b"\0")
        self.count = 0
        self.size = 0
        self.searched = True

    def add(self, data: bytes, *, framed: bool, searched: bool) -> None:
        self.count += 1
        self.searched &= searched
        room = MOST_BYTES - self.size
        self.size += len(data)
        if framed:
            self._hash.update(len(data).to_bytes(8, "big"))
        if room > 0:
            self._hash.update(data if len(data) <= room else memoryview(data)[:room])

    def to_leaf(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "count": self.count, "size": self.size, "digest": "sha256:" + self._hash.hexdigest()
        }  # fmt: skip
        if self.size > MOST_BYTES:
            found["cut"] = MOST_BYTES
        if not self.searched:
            found["unsearched"] = True
        return found


class CellOutputs:
    """The outputs of one cell; many threads may add to them.

    Parameters
    ----------
    salt : str
        32 hexadecimal digits; the leaf's own.
    redact : callable
        Takes secrets out of a text: digests are over what is left, as those of the source are. Of a
        cell's text the first 16,384 characters are searched; a digest over more says ``unsearched``.
    """

    def __init__(self, salt: str, redact: Redact) -> None:
        self._salt = bytes.fromhex(salt)
        self._redact = redact
        self._left = _MOST_SEARCHED
        self._digests: dict[str, _Digest] = {}
        self._streams: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._waiting: dict[str, int] = {"stdout": 0, "stderr": 0}
        self._lock = threading.RLock()

    def write(self, stream: str, text: str) -> None:
        """Take what was written to "stdout" or "stderr"."""
        self._streams[stream].append(text)
        self._waiting[stream] += len(text)
        if self._waiting[stream] > _FOLD_CHARACTERS:
            self._fold(stream)

    def show(self, data: Mapping[Any, Any]) -> None:
        """Take one display_data or execute_result: what it has by MIME type."""
        with self._lock:
            for kind, value in data.items():
                if type(kind) is str and kind.isascii():
                    self._add(kind[:_LONGEST_TYPE], value)

    def error(self, text: str) -> None:
        """Take a traceback as it was shown."""
        with self._lock:
            self._add("error", text)

    def to_leaf(self) -> dict[str, dict[str, Any]]:
        """Return what the leaf keeps: by MIME type, "stdout", "stderr" or "error" how many, how large, and digests.

        A digest is SHA-256 over salt ‖ "output" ‖ 0x00 ‖ type ‖ 0x00, then for each output its length in
        8 bytes and its bytes; of a stream only its bytes, as how it was cut into writes means nothing.
        Texts count as UTF-8, JSON in its canonical form.
        """
        with self._lock:
            for stream in self._streams:
                if self._streams[stream]:
                    self._fold(stream)
            return {name: digest.to_leaf() for name, digest in self._digests.items()}

    def _fold(self, stream: str) -> None:
        with self._lock:
            parts = self._streams[stream]
            count = len(parts)
            text = str.__str__("".join(parts[:count]))
            del parts[:count]
            self._waiting[stream] = 0
            clean, searched = self._searched(text)
            self._of(stream).add(clean.encode("utf-8", "surrogatepass"), framed=False, searched=searched)

    def _add(self, kind: str, value: Any) -> None:
        exact = type(value)
        if exact is str:
            clean, searched = (
                (value, True) if kind.startswith("image/") and kind[6:9] != "svg" else self._searched(value)
            )
            data = clean.encode("utf-8", "surrogatepass")
        elif exact is bytes:
            data, searched = value, False
        else:
            data, searched = self._plain(value)
        self._of(kind).add(data, framed=True, searched=searched)

    def _plain(self, value: Any) -> tuple[bytes, bool]:
        from jupyter_llmops.audit.leaf import canonical, plain

        data = canonical({"": plain(value)})[4:-1]
        clean, searched = self._searched(data.decode())
        return clean.encode(), searched

    def _of(self, kind: str) -> _Digest:
        found = self._digests.get(kind)
        if found is None:
            if len(self._digests) >= MOST_TYPES:
                kind = _OTHER
            found = self._digests.get(kind) or self._digests.setdefault(kind, _Digest(self._salt, kind))
        return found

    def _searched(self, text: str) -> tuple[str, bool]:
        if len(text) > self._left:
            return text, False
        self._left -= len(text)
        return self._redact(text), True


def _never() -> bool:
    return False


class OutputWatch:
    """Sees what a shell shows and hands it to whoever takes it.

    Parameters
    ----------
    shell : InteractiveShell
        Whose outputs are watched.
    takers : callable
        Returns the `CellOutputs` that an output of this thread belongs to: those of the cell and of
        the cells that it runs in.
    """

    def __init__(self, shell: Any, takers: Callable[[], Sequence[CellOutputs]]) -> None:
        self._shell = shell
        self._takers = takers
        self._undo: list[Callable[[], None]] = []
        self._streams: list[Callable[[], None]] = []

    def start(self) -> None:
        """Begin to watch what is displayed."""
        self._undo += [
            self._watch(self._shell.display_pub, "publish", self._published),
            self._watch(self._shell.displayhook, "write_format_data", self._shown),
            self._watch(self._shell, "_showtraceback", self._failed),
        ]

    def stop(self) -> None:
        """Stop watching; what others put over our watch meanwhile stays."""
        self.cell_ended()
        while self._undo:
            self._undo.pop()()

    def cell_began(self) -> None:
        """Watch the streams of now; IPython itself puts others in place for the time of each cell."""
        if not self._streams:
            self._streams += [self._watch_stream("stdout"), self._watch_stream("stderr")]

    def cell_ended(self) -> None:
        """Watch the streams no more."""
        while self._streams:
            self._streams.pop()()

    def _watch_stream(self, stream: str) -> Callable[[], None]:
        takers = self._takers
        # In a terminal what is displayed is printed, too; it is taken where it is displayed.
        displaying = _never if hasattr(self._shell, "parent_header") else self._displaying

        def written(text: Any = "", *_: Any, **__: Any) -> None:
            if isinstance(text, str) and not displaying():
                for outputs in takers():
                    outputs.write(stream, text)

        return self._watch(getattr(sys, stream), "write", written)

    def _displaying(self) -> bool:
        shell = self._shell
        return bool(
            getattr(shell.displayhook, "is_active", False)
            or getattr(shell.display_pub, "is_publishing", False)
            or getattr(shell, "showing_traceback", False)
        )

    def _published(self, data: Any = None, *_: Any, **__: Any) -> None:
        self._shown(data)

    def _shown(self, format_dict: Any = None, *_: Any, **__: Any) -> None:
        if isinstance(format_dict, dict):
            for outputs in self._takers():
                outputs.show(format_dict)

    def _failed(self, _kind: Any = None, _error: Any = None, shown: Any = None, *_: Any, **__: Any) -> None:
        lines = shown if type(shown) is list else [shown]
        text = "\n".join(line for line in lines if isinstance(line, str))
        for outputs in self._takers():
            outputs.error(text)

    @staticmethod
    def _watch(owner: Any, name: str, seen: Callable[..., None]) -> Callable[[], None]:
        """Put a call of `seen` before a method of one object and return what takes it away.

        Where that can't be (a stream of the user's own making may refuse it), nothing is seen.
        """
        try:
            method = getattr(owner, name)
            own = vars(owner).get(name)

            def watched(*arguments: Any, **named: Any) -> Any:
                # Not `suppress`, which costs as much as all of this: a cell may print a million lines.
                try:  # noqa: SIM105
                    seen(*arguments, **named)
                except Exception:  # noqa: BLE001, S110 - what is shown matters more than its digest
                    pass
                return method(*arguments, **named)

            setattr(owner, name, watched)
        except Exception:  # noqa: BLE001 - as said
            return lambda: None

        def undo() -> None:
            try:
                if vars(owner).get(name) is watched:
                    if own is None:
                        delattr(owner, name)
                    else:
                        setattr(owner, name, own)
            except Exception:  # noqa: BLE001 - as above
                return

        return undo
