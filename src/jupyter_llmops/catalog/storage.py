"""What lies below a catalog: a folder of this machine, or a bucket that the standard AWS environment reaches.

Environment of a bucket: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_SESSION_TOKEN`` (or
``~/.aws``, or the machine's role), ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, and for MinIO and the like
``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``. Nothing of it is ever stored or shown.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_llmops.catalog.failures import damaged, unreachable, unwritable
from jupyter_llmops.catalog.schemas import ITEMS_PREFIX
from jupyter_llmops.errors import CatalogError
from jupyter_llmops.location import Location
from jupyter_llmops.settings import user_folder

if TYPE_CHECKING:
    import pyarrow.fs

T = TypeVar("T")

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
# What MinIO and the like answer to; Amazon itself says where a bucket is.
DEFAULT_REGION = "us-east-1"

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 60.0
# How long a writer queues behind others of the same host before it competes with them.
QUEUE_SECONDS = 5.0
# Each look at a bucket costs requests: a watcher that asks twice a second gets the last answer.
BUCKET_MARK_SECONDS = 5.0
_SECOND_NS = 1_000_000_000


def endpoint() -> str:
    """Return the address of the S3 server that the environment names, empty for Amazon's own.

    Raises
    ------
    CatalogError
        It is not an address.
    """
    for variable in ENDPOINT_VARIABLES:
        address = os.environ.get(variable, "").strip().rstrip("/")
        if not address:
            continue
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise CatalogError(
                f"{variable} is not the address of an S3 server.", "Set it to https://host:port."
            )
        return address
    return ""


def lance_options(location: Location) -> dict[str, str]:
    """Return what LanceDB must be told to open a location; nothing for a folder."""
    if location.is_local:
        return {}
    options = {
        "connect_timeout": f"{CONNECT_SECONDS:g}s",
        "timeout": f"{REQUEST_SECONDS:g}s",
        "client_max_retries": "3",
        "client_retry_timeout": "30",
    }
    address = endpoint()
    if address:
        options["aws_endpoint"] = address
        options["aws_region"] = _region() or DEFAULT_REGION
        # Only because the user wrote http: credentials go over it unencrypted.
        options["allow_http"] = str(address.startswith("http:")).lower()
    elif _region():
        options["aws_region"] = _region()
    return options


def s3_files() -> pyarrow.fs.FileSystem:
    """Return Arrow's view of the S3 server that the environment names."""
    from pyarrow import fs

    address = urllib.parse.urlsplit(endpoint())
    named = {"scheme": address.scheme, "endpoint_override": address.netloc} if address.netloc else {}
    region = _region() or (DEFAULT_REGION if named else None)
    return fs.S3FileSystem(
        region=region, connect_timeout=CONNECT_SECONDS, request_timeout=REQUEST_SECONDS, **named
    )


def check_endpoint(location: Location) -> None:
    """Make sure that something listens at the endpoint, else say so within seconds.

    LanceDB would try for up to a minute and a half before it said anything.

    Raises
    ------
    CatalogError
        Nothing does.
    """
    address = urllib.parse.urlsplit("" if location.is_local else endpoint())
    if not address.hostname or _by_proxy(address):
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise unreachable(location, error.strerror or str(error)) from None


def _by_proxy(address: urllib.parse.SplitResult) -> bool:
    from urllib.request import getproxies, proxy_bypass

    return address.scheme in getproxies() and not proxy_bypass(address.hostname or "")


def _region() -> str:
    return next((found for name in REGION_VARIABLES if (found := os.environ.get(name, "").strip())), "")


class Watched:
    """What a watcher was last told of a bucket; it is asked anew only every few seconds, also in vain."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[float, Any]] = {}
        self._failed_at = float("-inf")

    def ask(self, what: str, default: T, question: Callable[[], T]) -> T:
        """Return the answer to a question, or the last one, or `default`; never raises what storage says."""
        asked_at, known = self._answers.get(what, (float("-inf"), default))
        answer: T = known
        if time.monotonic() - max(asked_at, self._failed_at) > BUCKET_MARK_SECONDS:
            try:
                answer = question()
            except CatalogError:  # whoever reads or writes is told
                # Other questions would fare the same, seconds each.
                self._failed_at = time.monotonic()
            self._answers[what] = (time.monotonic(), answer)
        return answer


@contextlib.contextmanager
def writers_queue(location: Location) -> Iterator[None]:
    """Wait for this host's other writers of a catalog, but never for long.

    Correctness does not rest on it: with it the worst wait of 8 concurrent writers is a fifth. Of a
    bucket, only this user's writers can be waited for.
    """
    from filelock import FileLock, Timeout

    # A stopped writer, someone else's lock file, a file system without locks: go on without it.
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Timeout, OSError, NotImplementedError):
            lock = FileLock(
                _queue_file(location), timeout=QUEUE_SECONDS, poll_interval=0.01, mode=_shared_mode(location)
            )
            lock.acquire()
            stack.callback(lock.release)
        yield


def _queue_file(location: Location) -> Path:
    if location.folder is not None:
        return location.folder / ".writers.lock"
    folder = user_folder() / "queues"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(location.uri.encode()).hexdigest()[:16]}.lock"


def _shared_mode(location: Location) -> int:
    """Return the permissions for a file that everyone who may write here must be able to write."""
    try:
        return stat.S_IMODE(location.folder.stat().st_mode) & 0o666 | 0o600 if location.folder else 0o600
    except OSError:
        return 0o600


def make_folder(location: Location) -> None:
    """Make the folder of a local catalog where it is not there.

    Raises
    ------
    CatalogError
        It can't be made.
    """
    folder = location.folder
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if folder.exists() and not folder.is_dir():
            raise damaged(location, "it is a file where a folder should be") from error
        raise unwritable(location, error.strerror or str(error)) from error


def folder_has_table(folder: Path, table: str) -> bool:
    """Return whether a folder holds a table.

    Raises
    ------
    CatalogError
        Something is there that is not a table, e.g. a file, or rows without a list of versions.
    OSError
        It can't be looked at.
    """
    path = folder / f"{table}.lance"
    if folder.exists() and not folder.is_dir():
        raise damaged(folder, "it is a file where a folder should be")
    if not path.exists():
        return False
    if not path.is_dir():
        raise damaged(path, "it is a file where a folder should be")
    if any((path / "_versions").glob("*.manifest")):
        return True
    # Lance would take this for a free name and begin anew above the rows.
    if any((path / "data").glob("*")):
        raise damaged(path, "it holds rows, but the list of its versions is gone")
    return False


def folder_items(folder: Path) -> list[str]:
    """Return the names of the tables of collections, sorted; needs no LanceDB."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name.removesuffix(".lance") for entry in found if entry.name.endswith(".lance")]
    except OSError:
        return []
    return sorted(name for name in names if name.startswith(ITEMS_PREFIX))


def folder_old_versions(folder: Path, table: str, age: timedelta) -> int:
    """Return how many lists of a table's versions are older than `age`; needs no LanceDB."""
    until = time.time() - age.total_seconds()
    try:
        with os.scandir(folder / f"{table}.lance" / "_versions") as found:
            return sum(entry.name.endswith(".manifest") and entry.stat().st_mtime < until for entry in found)
    except OSError:
        return 0


def folder_mark(folder: Path | str, table: str) -> int:
    """Return when the list of a table's versions last changed, in ns; 0 where there is none.

    File systems that know whole seconds only are asked for the list itself: its digest takes the place
    of the nanoseconds, so that two commits of one second differ.
    """
    # Text, not paths: a cached prompt asks for six of these, and a Path costs more than the look.
    versions = f"{folder}/{table}.lance/_versions"
    try:
        changed = os.stat(versions).st_mtime_ns  # noqa: PTH116
        if changed % _SECOND_NS:
            return changed
        listed = "\0".join(sorted(os.listdir(versions)))  # noqa: PTH208
        return changed + zlib.crc32(listed.encode()) % _SECOND_NS
    except OSError:
        return 0
