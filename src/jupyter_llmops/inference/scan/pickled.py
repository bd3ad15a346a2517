"""joblib and pickle files: what they name, read as a list of instructions that nobody follows.

Unpickling runs whatever the file says; here `pickletools.genops` only spells the instructions out.
"""

from __future__ import annotations

import bz2
import io
import lzma
import pickletools
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.scan.card import read_card
from jupyter_llmops.inference.scan.reading import NotAModelError, Reading, name_of, one_line, reason
from jupyter_llmops.inference.sources import files_in
from jupyter_llmops.records.model import Model

_MOST_BYTES = 16 << 20
_MOST_STEPS = 1_000_000
_MOST_NAMES = 500
_LZ4 = b"\x04\x22\x4d\x18"
# What joblib writes where the raw bytes of an array follow: no instructions, so reading stops there.
_ARRAY_WRAPPERS = {"joblib.numpy_pickle.NumpyArrayWrapper", "joblib.numpy_pickle_compat.NDArrayWrapper"}
_DATA = frozenset(
    {
        "__builtin__", "array", "builtins", "codecs", "collections", "copy_reg", "copyreg", "datetime",
        "decimal", "enum", "fractions", "functools", "io", "joblib", "numpy", "operator", "pandas",
        "pathlib", "pickle", "polars", "pyarrow", "random", "re", "scipy", "types", "typing", "uuid",
        "zoneinfo",
    }
)  # fmt: skip
# Names that no model needs and that take over the process which unpickles them.
_RUNS_MODULES = frozenset(
    {
        "asyncio", "atexit", "code", "commands", "ctypes", "ftplib", "http", "httplib", "importlib",
        "marshal", "multiprocessing", "nt", "os", "pickle", "pip", "posix", "posixpath", "pty", "pydoc",
        "runpy", "shutil", "signal", "smtplib", "socket", "ssl", "subprocess", "sys", "tempfile",
        "threading", "timeit", "urllib", "webbrowser", "zipimport", "_posixsubprocess",
    }
)  # fmt: skip
_RUNS_BUILTINS = frozenset(
    {
        "__import__", "breakpoint", "compile", "eval", "exec", "execfile", "getattr", "input", "open",
        "setattr", "vars",
    }
)  # fmt: skip


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Contents:
    """What a pickle names.

    Parameters
    ----------
    names : tuple of str
        Dotted names of classes and functions, in order, each once.
    complete : bool
        Whether it was read to its end.
    note : str
        Why it was not, for people.
    """

    names: tuple[str, ...]
    complete: bool
    note: str = ""


def describe_pickle(path: Path, reading: Reading) -> Model:
    """Return what a joblib or pickle file says it holds; it is never unpickled.

    Parameters
    ----------
    path : Path
        The file.
    reading : Reading
        How files are read.

    Raises
    ------
    InferenceError
        It is no pickle, it would run a command, or it holds data rather than a model.
    OSError
        It can't be read.
    """
    contents = read_names(path)
    dangerous = next((name for name in contents.names if runs_code(name)), "")
    if dangerous:
        raise InferenceError(
            f"The file {path} is a pickle that calls {one_line(dangerous)} when it is loaded; it is left out.",
            "Do not load it.",
        )
    models = estimators(contents.names)
    if not models and contents.complete:
        raise NotAModelError(f"The file {path} is a pickle of data, not of a model.")
    manifest, digest, size = reading.manifest(path.parent, files_in(path).files)
    said = f"Names {', '.join(models)}" if models else "Its classes are not known"
    return Model(
        name=name_of(path),
        kind="classic",
        source=f"folder:{path}",
        digest=digest,
        family=models[0] if models else "",
        license=read_card(path.parent).license,
        size_bytes=size,
        format="joblib",
        files=manifest,
        description=one_line(f"{said}{f' ({contents.note})' if contents.note else ''}"),
    )


def read_names(path: Path) -> Contents:
    """Return the classes and functions that a pickle names, up to its first array.

    Parameters
    ----------
    path : Path
        A pickle, or one of joblib's, compressed or not; 16 MiB of it are looked at.

    Raises
    ------
    InferenceError
        It is no pickle.
    """
    with path.open("rb") as file:
        packed = file.read(_MOST_BYTES)
    if packed.startswith(_LZ4):
        return Contents((), False, "compressed with lz4, which is not looked into")
    try:
        data = _unpacked(packed)
    except (zlib.error, OSError, lzma.LZMAError, EOFError) as error:
        raise InferenceError(f"The file {path} is not a pickle: {reason(error)}") from error
    names: list[str] = []
    try:
        for name in _names(data):
            if name in _ARRAY_WRAPPERS:
                return Contents(tuple(names), False, "what follows the first array is not looked into")
            if name not in names:
                names.append(name)
            if len(names) >= _MOST_NAMES:
                return Contents(tuple(names), False, f"only the first {_MOST_NAMES} names")
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeError) as error:
        if len(data) >= _MOST_BYTES:
            return Contents(tuple(names), False, "only the first 16 MiB")
        raise InferenceError(f"The file {path} is not a pickle: {reason(error)}") from error
    return Contents(tuple(names), True)


def estimators(names: Iterable[str]) -> list[str]:
    """Return the names that belong to models and not to plain data, as users import them."""
    found = (public_name(name) for name in names if name.partition(".")[0] not in _DATA)
    return list(dict.fromkeys(found))


def public_name(name: str) -> str:
    """Return a class as users import it: sklearn.linear_model._logistic.X is sklearn.linear_model.X."""
    *modules, last = name.split(".")
    return ".".join([*(part for part in modules if not part.startswith("_")), last])


def runs_code(name: str) -> bool:
    """Return whether loading a pickle with this name in it can run any command."""
    module, _, last = name.partition(".")
    if module in {"builtins", "__builtin__"}:
        return last in _RUNS_BUILTINS
    return module in _RUNS_MODULES or name.startswith(("numpy.testing", "torch.hub", "pathlib.Path."))


def _unpacked(packed: bytes) -> bytes:
    """Return the first 16 MiB of what a file holds, decompressed where joblib compressed it."""
    tool: _Decompressor | None = None
    if packed.startswith(b"\x1f\x8b"):
        tool = zlib.decompressobj(31)
    elif packed[:1] == b"\x78":
        tool = zlib.decompressobj()
    elif packed.startswith(b"BZh"):
        tool = bz2.BZ2Decompressor()
    elif packed.startswith((b"\xfd7zXZ", b"\x5d\x00")):
        tool = lzma.LZMADecompressor()
    return packed if tool is None else tool.decompress(packed, _MOST_BYTES)


def _names(data: bytes) -> Iterator[str]:
    """Yield the dotted names in a pickle's instructions; strings are followed through its memo."""
    strings: list[str] = []  # the last ones pushed: a name is made of two of them
    memo: dict[Any, str] = {}
    last = ""
    for step, (operation, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
        if step > _MOST_STEPS:
            raise ValueError("it is too long")
        code = operation.name
        if code in {"GLOBAL", "INST"}:
            last = str(argument).replace(" ", ".", 1)
            yield last
        elif code == "STACK_GLOBAL":
            last = ".".join(strings[-2:]) if len(strings) > 1 else "?.?"
            yield last
        elif "UNICODE" in code or code.endswith("STRING"):
            strings = [*strings[-1:], str(argument)]
            last = strings[-1]
        elif code == "MEMOIZE":
            memo[len(memo)] = last
        elif code.endswith("PUT"):
            memo[argument] = last
        elif code.endswith("GET"):
            last = memo.get(argument, "")
            strings = [*strings[-1:], last]
        elif code not in {"FRAME", "PROTO"}:
            last = ""
