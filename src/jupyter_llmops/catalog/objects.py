"""Files beside the tables of a catalog: whole or absent, never changed, named by plain relative names."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from jupyter_llmops.catalog.failures import read_failure, unwritable, write_failure
from jupyter_llmops.catalog.storage import check_endpoint, s3_files
from jupyter_llmops.errors import CatalogError, LLMOpsError, UsageError
from jupyter_llmops.location import Location

if TYPE_CHECKING:
    import pyarrow.fs

PIECE_BYTES = 1 << 20
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=-]{0,127}")
_UNFINISHED = ".unfinished-"


class Objects(ABC):
    """Files by name; open them with `open_objects`.

    A name is one or more parts of letters, digits and ``._+=-`` with slashes between, such as
    ``files/<sha256>``; no part begins with a dot, so that no name leads out of the place.

    Parameters
    ----------
    location : Location
        Below it they lie.
    """

    def __init__(self, location: Location) -> None:
        self.location = location

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return self.size(name) is not None

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return how many bytes a file has, None when it is not there.

        Raises
        ------
        CatalogError
            The place can't be read.
        """

    @abstractmethod
    def read(self, name: str) -> Iterator[bytes]:
        """Yield a file in pieces of about a mebibyte.

        Raises
        ------
        CatalogError
            It is not there or can't be read.
        """

    @abstractmethod
    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Store a file: it is there whole or not at all, and one that is there stays as it is.

        Parameters
        ----------
        name : str
            Should follow from the content, as two writers at once may both believe to be the first.
        chunks : iterable of bytes
            Read only when the file is not there; what it raises passes through, nothing is stored.

        Raises
        ------
        CatalogError
            It can't be written; nothing was stored.
        """

    @abstractmethod
    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names of all files whose name begins with `prefix`, as ``files/``, in no order."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""

    def _missing(self, name: str) -> CatalogError:
        return CatalogError(
            f"The file {name} is not in the catalog {self.location}.", "Whoever has it must push it again."
        )


def open_objects(location: Location) -> Objects:
    """Return the files below a location; nothing is opened or created before the first use."""
    return _FolderObjects(location) if location.is_local else _BucketObjects(location)


def checked_name(name: str) -> str:
    """Return `name` when it is plain and relative.

    Raises
    ------
    UsageError
        It could lead elsewhere.
    """
    if len(name) > 500 or not name or not all(_PART.fullmatch(part) for part in name.split("/")):
        raise UsageError(
            f"{name[:80]!r} is not the name of a file of the catalog.", "A plain one is files/<sha256>."
        )
    return name


class _FolderObjects(Objects):
    """Files of a local folder."""

    def size(self, name: str) -> int | None:
        path = self._path(name)
        try:
            return path.stat().st_size if path.is_file() else None
        except OSError as error:
            self._fail_reading(error)

    def read(self, name: str) -> Iterator[bytes]:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece
        except FileNotFoundError:
            raise self._missing(name) from None
        except OSError as error:
            self._fail_reading(error)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        path = self._path(name)
        if self.exists(name):
            return
        unfinished = path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
        try:
            with self._created(unfinished) as file:
                for chunk in chunks:
                    self._written(file, chunk)
                self._finished(file)
            self._published(unfinished, path)
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def names(self, prefix: str) -> Iterator[str]:
        for path in self._path(_folder_of(prefix)).rglob("*"):
            name = path.relative_to(self._folder).as_posix()
            if name.startswith(prefix) and _is_object(name) and path.is_file():
                yield name

    def delete(self, name: str) -> None:
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.location, error.strerror or str(error)) from error

    @property
    def _folder(self) -> Path:
        assert self.location.folder is not None
        return self.location.folder

    def _path(self, name: str) -> Path:
        path = self._folder / checked_name(name)
        # A link in the folder may lead out of it, whoever made it.
        if not path.parent.resolve().is_relative_to(self._folder):
            raise UsageError(
                f"The file {name} would lie outside of the catalog.", "Remove the link in its way."
            )
        return path

    # Only the storage's own errors are translated: those of `chunks` are their maker's.

    @contextlib.contextmanager
    def _created(self, path: Path) -> Iterator[IO[bytes]]:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        except OSError as error:
            self._fail_writing(error)
        with contextlib.closing(file):
            yield file

    def _written(self, file: IO[bytes], chunk: bytes) -> None:
        try:
            file.write(chunk)
        except OSError as error:
            self._fail_writing(error)

    def _finished(self, file: IO[bytes]) -> None:
        try:
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            self._fail_writing(error)

    def _published(self, unfinished: Path, path: Path) -> None:
        try:
            # Unlike a rename, a link never replaces what is there.
            os.link(unfinished, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            try:
                if not path.exists():
                    unfinished.replace(path)
            except OSError as error:
                self._fail_writing(error)
        _sync_folder(path.parent)

    def _fail_reading(self, error: OSError) -> NoReturn:
        raise read_failure(error, self.location) or error from error

    def _fail_writing(self, error: OSError) -> NoReturn:
        raise write_failure(error, self.location) or error from error


class _BucketObjects(Objects):
    """Files of a bucket."""

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._opened: pyarrow.fs.FileSystem | None = None

    def size(self, name: str) -> int | None:
        from pyarrow import fs

        path = self._path(name)
        with self._told():
            info = self._files().get_file_info(path)
        return int(info.size) if info.type == fs.FileType.File else None

    def read(self, name: str) -> Iterator[bytes]:
        path = self._path(name)
        if not self.exists(name):
            raise self._missing(name)
        with self._told():
            source = self._files().open_input_stream(path)
        with source:
            while True:
                with self._told():
                    piece = source.read(PIECE_BYTES)
                if not piece:
                    return
                yield piece

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        path = self._path(name)
        if self.exists(name):
            return
        with self._told(writing=True):
            stream = self._files().open_output_stream(path)
        try:
            for chunk in chunks:
                with self._told(writing=True):
                    stream.write(chunk)
        except BaseException:
            _abandon(stream)
            raise
        with self._told(writing=True):
            stream.close()

    def names(self, prefix: str) -> Iterator[str]:
        from pyarrow import fs

        below = fs.FileSelector(self._path(_folder_of(prefix)), allow_not_found=True, recursive=True)
        with self._told():
            found = self._files().get_file_info(below)
        for info in found:
            name = info.path.removeprefix(f"{self._root}/")
            if info.type == fs.FileType.File and name.startswith(prefix) and _is_object(name):
                yield name

    def delete(self, name: str) -> None:
        path = self._path(name)
        if self.exists(name):
            with self._told(writing=True):
                self._files().delete_file(path)

    @property
    def _root(self) -> str:
        return self.location.uri.removeprefix("s3://")

    def _path(self, name: str) -> str:
        return f"{self._root}/{checked_name(name)}"

    def _files(self) -> pyarrow.fs.FileSystem:
        if self._opened is None:
            check_endpoint(self.location)
            self._opened = s3_files()
        return self._opened

    @contextlib.contextmanager
    def _told(self, *, writing: bool = False) -> Iterator[None]:
        """Say what Arrow raises within in a sentence."""
        try:
            yield
        except LLMOpsError:
            raise
        except Exception as error:  # Arrow raises OSError and its own
            explain = write_failure if writing else read_failure
            failure = explain(error, self.location)
            if failure is None:
                raise
            raise failure from None  # what S3 said may hold the id of an access key


def _folder_of(prefix: str) -> str:
    """Return the folder that `prefix` begins with: whoever asks for all would get the tables, too."""
    folder, slash, _ = prefix.rpartition("/")
    if not slash:
        raise UsageError(f"{prefix[:80]!r} names no folder of the catalog.", "A plain one is files/.")
    return folder


def _is_object(name: str) -> bool:
    return all(_PART.fullmatch(part) for part in name.split("/"))


def _abandon(stream: Any) -> None:
    """Give up an upload, so that it is never published.

    Arrow can't abort one: closing its stream publishes what has come so far, and so does freeing it,
    which at the end of a program waits for ever besides. So it is never freed.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))


def _sync_folder(folder: Path) -> None:
    """Let a new name survive a power loss, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
