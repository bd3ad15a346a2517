"""The one place that talks to LanceDB: opening, reading and writing the tables of a folder."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_llmops.catalog.failures import (
    damaged,
    is_contention,
    read_failure,
    unwritable,
    write_failure,
)
from jupyter_llmops.catalog.schemas import KEYS, schema_of
from jupyter_llmops.errors import CatalogError

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.db import DBConnection
    from lancedb.table import Table

T = TypeVar("T")
Row = dict[str, Any]

# LanceDB already retries a commit; this is for what it gives up on.
RETRY_SECONDS = 30.0
# How long a writer queues behind others of the same host before it competes with them.
QUEUE_SECONDS = 5.0


class Connection:
    """A folder of LanceDB tables, opened at the first read or write.

    Parameters
    ----------
    folder : Path
        It need not exist; only a write creates it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._database: DBConnection | None = None
        self._tables: dict[str, Table] = {}
        self._pid = os.getpid()

    def has(self, table: str) -> bool:
        """Return whether `table` is there; nothing is created.

        Raises
        ------
        CatalogError
            Something is there that is not a table, e.g. a file, or rows without a list of versions.
        """
        path = self.folder / f"{table}.lance"
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise damaged(self.folder, "it is a file where a folder should be")
            if not path.exists():
                return False
            if not path.is_dir():
                raise damaged(path, "it is a file where a folder should be")
            if any((path / "_versions").glob("*.manifest")):
                return True
            # Lance would take this for a free name and begin anew above the rows.
            if any((path / "data").glob("*")):
                raise damaged(path, "it holds rows, but the list of its versions is gone")
        except OSError as error:
            raise read_failure(error, self.folder, table) from error
        return False

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        where: str = "",
        newest_by: Sequence[str] = (),
        limit: int | None = None,
    ) -> pa.Table | None:
        """Return rows of `table` as they are now, every other process's commits included.

        Parameters
        ----------
        table : str
            Name of the table.
        columns : sequence of str, optional
            All by default; those that an older catalog lacks are left out.
        where : str
            A filter in SQL; quote values with `sql_text`.
        newest_by : sequence of str
            Columns to sort by, largest first.
        limit : int, optional
            Most rows.

        Returns
        -------
        pyarrow.Table or None
            None when the table does not exist yet.

        Raises
        ------
        CatalogError
            It can't be read.
        """

        def select(handle: Table) -> pa.Table:
            query = handle.search()
            if columns is not None:
                there = set(handle.schema.names)
                query = query.select([name for name in columns if name in there])
            if where:
                query = query.where(where)
            if newest_by:
                query = query.order_by([{"column_name": name, "ascending": False} for name in newest_by])
            if limit is not None:
                query = query.limit(limit)
            return query.to_arrow()

        return self._reading(table, select)

    def count(self, table: str) -> int | None:
        """Return how many rows `table` has, None when it does not exist yet."""
        return self._reading(table, lambda handle: handle.count_rows())

    def version(self, table: str) -> int:
        """Return the number of the last commit of `table`; 0 when it does not exist yet."""
        return self._reading(table, lambda handle: handle.version) or 0

    def mark(self, table: str) -> int:
        """Return when the list of the versions of `table` last changed, in ns; 0 where there is none."""
        try:
            return (self.folder / f"{table}.lance" / "_versions").stat().st_mtime_ns
        except OSError:
            return 0

    def fragments(self, table: str) -> int:
        """Return in how many pieces `table` lies on disk; each commit of new rows adds one."""
        count = self._reading(table, lambda handle: handle.stats()["fragment_stats"]["num_fragments"])
        return count or 0

    def reading(self, table: str, read: Callable[[Table], T]) -> T | None:
        """Return what `read` makes of a handle of `table` as it is now; None when it does not exist yet."""
        return self._reading(table, read)

    def writing(self, table: str, write: Callable[[Table], T]) -> T:
        """Return what `write` did with a handle of `table`; it must do no harm when it is repeated."""
        return self._writing(table, lambda: write(self._table(table)))

    def create(self, table: str, schema: pa.Schema | None = None) -> None:
        """Create `table` empty where it does not exist; safe when several processes do it at once.

        Parameters
        ----------
        table : str
            One of the keys of `KEYS`, or any other name with a `schema`.
        """
        self._make_folder()

        def make() -> None:
            if self.has(table):
                return
            # "create" commits the first version only where there is none.
            self._connect().create_table(
                table, schema=schema_of(table) if schema is None else schema, mode="create"
            )

        try:
            self._writing(table, make)
        except CatalogError:
            if not self.has(table):
                raise

    def add_missing_columns(self, table: str) -> None:
        """Give `table` the columns of this package's schema that it lacks, empty; safe when several do it."""
        import pyarrow as pa

        def add() -> None:
            self._forget(table)
            handle = self._table(table)
            known = set(handle.schema.names)
            missing = [field for field in schema_of(table) if field.name not in known]
            if missing:
                handle.add_columns(pa.schema(missing))

        self._writing(table, add)

    def insert_absent(self, table: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add those rows whose key is not there yet, in one commit; return how many were added.

        The primary key makes concurrent inserts of one key collide at the commit, and an index on
        the key must not be used: with one, Lance let 2-3 duplicates of 240 through.
        """
        import pyarrow as pa

        key = KEYS[table]
        # Lance keeps duplicates that lie within one batch.
        unique = list({row[key]: row for row in reversed(rows)}.values())[::-1]

        def insert() -> int:
            handle = self._table(table)
            known = set(handle.schema.names)
            schema = pa.schema([field for field in schema_of(table) if field.name in known])
            batch = pa.Table.from_pylist([dict(row) for row in unique], schema=schema)
            merge = handle.merge_insert(key).when_not_matched_insert_all().use_index(False)
            return int(merge.execute(batch).num_inserted_rows)

        return self._writing(table, insert)

    def update(self, table: str, where: str, values: Mapping[str, Any]) -> int:
        """Set `values` in the rows that fit `where`, atomically; return how many changed."""
        return self._writing(
            table, lambda: int(self._table(table).update(where=where, values=dict(values)).rows_updated)
        )

    def optimize(self, table: str, keep: timedelta) -> None:
        """Join the pieces of `table` and drop versions that are older than `keep`."""
        self._attempt(table, lambda: self._table(table).optimize(cleanup_older_than=keep))

    # -- within -------------------------------------------------------------------------------

    def _connect(self) -> DBConnection:
        with self._lock:
            if self._pid != os.getpid():  # LanceDB's threads do not survive a fork
                self._database, self._tables, self._pid = None, {}, os.getpid()
            if self._database is None:
                os.environ.setdefault("LANCEDB_LOG", "error")  # else it warns on stderr
                import lancedb

                self._database = lancedb.connect(
                    str(self.folder),
                    # A default handle never sees the commits of other processes.
                    read_consistency_interval=timedelta(0),
                )
            return self._database

    def _table(self, table: str) -> Table:
        database = self._connect()
        with self._lock:
            if table not in self._tables:
                self._tables[table] = database.open_table(table)
            return self._tables[table]

    def _forget(self, table: str) -> None:
        with self._lock:
            self._tables.pop(table, None)

    def _reading(self, table: str, read: Callable[[Table], T]) -> T | None:
        for last in (False, True):
            # A handle that works is proof enough; listing thousands of versions would take longer.
            if table not in self._tables and not self.has(table):
                return None
            try:
                return read(self._table(table))
            except Exception as error:  # LanceDB raises RuntimeError, ValueError and OSError alike
                # A handle may be older than an upkeep or than the folder itself: once more, afresh.
                self._forget(table)
                if last:
                    raise read_failure(error, self.folder, table) from error
        return None

    def _writing(self, table: str, write: Callable[[], T]) -> T:
        with self.queue():
            return self._attempt(table, write)

    def _attempt(self, table: str, write: Callable[[], T]) -> T:
        """Run `write`, again with jittered pauses while others are in the way.

        `write` must do no harm when it is repeated after a commit whose success was not reported.
        """
        deadline = time.monotonic() + RETRY_SECONDS
        pause = 0.05
        while True:
            try:
                return write()
            except Exception as error:
                self._forget(table)
                if not is_contention(error) or time.monotonic() > deadline:
                    raise write_failure(error, self.folder, table) from error
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            pause = min(pause * 2, 2.0)

    @contextlib.contextmanager
    def queue(self) -> Iterator[None]:
        """Wait for this host's other writers, but never for long.

        Correctness does not rest on it: with it the worst wait of 8 concurrent writers is a fifth.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(
            self.folder / ".writers.lock",
            timeout=QUEUE_SECONDS,
            poll_interval=0.01,
            mode=self._shared_mode(),
        )
        # A stopped writer, someone else's lock file, a file system without locks: go on without it.
        with contextlib.suppress(Timeout, OSError, NotImplementedError):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _shared_mode(self) -> int:
        """Return the permissions for a file that everyone who may write here must be able to write."""
        try:
            return stat.S_IMODE(self.folder.stat().st_mode) & 0o666 | 0o600
        except OSError:
            return 0o600

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if self.folder.exists() and not self.folder.is_dir():
                raise damaged(self.folder, "it is a file where a folder should be") from error
            raise unwritable(self.folder, error.strerror or str(error)) from error


def sql_text(value: str) -> str:
    """Return `value` as an SQL string literal."""
    return "'" + value.replace("'", "''") + "'"
