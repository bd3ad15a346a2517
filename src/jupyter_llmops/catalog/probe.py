"""What is only known by trying: whether a catalog can be written, and how old its newest commit is."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jupyter_llmops.catalog.failures import read_failure, unwritable, write_failure
from jupyter_llmops.catalog.objects import open_objects
from jupyter_llmops.catalog.storage import check_endpoint, folder_mark, s3_files
from jupyter_llmops.location import Location

_CONTENT = b"written to find out whether it can be"


def try_writing(location: Location) -> None:
    """Write a file, read it again and remove it; a folder that is not there is not made.

    Raises
    ------
    CatalogError
        It can't be done; the message says why.
    """
    if location.folder is not None:
        _try_folder(location, location.folder)
        return
    objects, name = open_objects(location), f"probes/{uuid.uuid4().hex}"
    objects.write(name, [_CONTENT])
    try:
        if b"".join(objects.read(name)) != _CONTENT:
            raise unwritable(location, "what was written came back as something else")
    finally:
        objects.delete(name)


def _try_folder(location: Location, folder: Path) -> None:
    nearest = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not nearest.is_dir():
        raise unwritable(location, f"{nearest} is a file")
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(_CONTENT)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_failure(error, location) or error from error


def newest_commit(location: Location, tables: Sequence[str]) -> datetime | None:
    """Return when one of the tables was last committed to; None when none is there.

    Raises
    ------
    CatalogError
        The bucket can't be read.
    """
    if location.folder is not None:
        mark = max((folder_mark(location.folder, table) for table in tables), default=0)
        return datetime.fromtimestamp(mark / 1e9, UTC) if mark else None
    from pyarrow import fs

    root = location.uri.removeprefix("s3://")
    try:
        check_endpoint(location)
        files = s3_files()
        found = [
            info.mtime
            for table in tables
            for info in files.get_file_info(
                fs.FileSelector(f"{root}/{table}.lance/_versions", allow_not_found=True)
            )
            if info.mtime is not None
        ]
    except Exception as error:  # noqa: BLE001 - Arrow raises OSError and its own
        raise read_failure(error, location) or error from None
    return max(found, default=None)
