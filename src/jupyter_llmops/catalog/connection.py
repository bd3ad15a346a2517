"""The one place that talks to LanceDB: opening, reading and writing the tables of a folder or bucket."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_llmops.catalog.failures import is_contention, read_failure, write_failure
from jupyter_llmops.catalog.lance_import import spare_the_client
from jupyter_llmops.catalog.schemas import ITEMS_PREFIX, KEYS, schema_of
from jupyter_llmops.catalog.storage import (
    Watched,
    check_endpoint,
    folder_has_table,
    folder_items,
    folder_mark,
    folder_old_versions,
    lance_options,
    make_folder,
    writers_queue,
)
from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.location import Location

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.db import DBConnection
    from lancedb.table import Table

T = TypeVar("T")
Row = dict[str, Any]

# LanceDB already retries a commit; this is for what it gives up on.
RETRY_SECONDS = 30.0
# On a bucket LanceDB itself gives up after these seconds, and then deserves another try.
BUCKET_RETRY_SECONDS = 90.0
# LanceDB takes seconds to be refused; whoever asks again within these hears the same at once.
REFUSED_SECONDS = 5.0


class Connection:
    """The LanceDB tables of a catalog, opened at the first read or write.

    Parameters
    ----------
    location : Location, Path or str
        A folder, which need not exist as only a write creates it; or a prefix of a bucket.
    """

    def __init__(self, location: Location | Path | str) -> None:
        self.location = Location.parse(location)
        self._lock = threading.RLock()
        self._database: DBConnection | None = None
        self._tables: dict[str, Table] = {}
        self._watched = Watched()
        self._refusal: tuple[float, Exception] | None = None
        self._pid = os.getpid()

    def has(self, table: str) -> bool:
        """Return whether `table` is there; nothing is created.

        Raises
        ------
        CatalogError
            It can't be looked for, or something is there that is not a table.
        """
        try:
            if self.location.folder is not None:
                return folder_has_table(self.location.folder, table)
            self._forget(table)
            self._table(table)
        except Exception as error:  # noqa: BLE001 - LanceDB raises RuntimeError, ValueError and OSError alike
            if str(error) == f"Table '{table}' was not found":
                return False
            raise _said(error, read_failure(error, self.location, table)) from self._cause(error)
        return True

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
        """Return a number that differs after each commit to `table`, 0 where there is none; never raises.

        Of a folder it costs a file look-up; of a bucket a request, at most every five seconds.
        """
        if self.location.is_local:
            return folder_mark(self.location.uri, table)
        return self._watched.ask(table, 0, lambda: self.version(table))

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
        make_folder(self.location)

        def make() -> None:
            if self.has(table):
                return
            # "create" commits the first version only where there is none.
            self._connect().create_table(
                table, schema=schema_of(table) if schema is None else schema, mode="create"
            )

        try:
            self._writing(table, make)
        except Exception:  # another process was first: Lance says so with a ValueError
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

        def has_all() -> bool:
            self._forget(table)
            return set(schema_of(table).names) <= set(self._table(table).schema.names)

        try:
            self._writing(table, add)
        except Exception:  # another process was first
            if not has_all():
                raise

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
        # LanceDB warns of 0 as of something that nobody should do.
        keep = max(keep, timedelta(milliseconds=1))
        self._attempt(table, lambda: self._table(table).optimize(cleanup_older_than=keep))

    def tables(self) -> list[str]:
        """Return the names of all tables that are there, those of collections included, sorted."""
        if self.location.folder is not None and not self.location.folder.exists():
            return []  # connecting would create it
        names: list[str] = []
        token = None
        while True:
            try:
                page = self._connect().list_tables(page_token=token, limit=1000)
            except Exception as error:  # noqa: BLE001 - LanceDB raises RuntimeError, ValueError and OSError alike
                raise _said(error, read_failure(error, self.location)) from self._cause(error)
            names += page.tables
            token = page.page_token
            if not token:
                return sorted(names)

    def items(self) -> list[str]:
        """Return the names of the collections' tables, as cheaply and as calmly as `mark`."""
        if self.location.folder is not None:
            return folder_items(self.location.folder)
        return self._watched.ask(
            "", [], lambda: [name for name in self.tables() if name.startswith(ITEMS_PREFIX)]
        )

    def branch(self, table: str, name: str) -> int:
        """Give the rows of `table` as they are now a name, which upkeep then keeps; return their version."""
        return self._writing(table, lambda: int(self._table(table).branches.create(name).version))

    def branches(self, table: str) -> list[str]:
        """Return the names of what `branch` named, of a table that is there."""
        return list(self._reading(table, lambda handle: handle.branches.list()) or ())

    def drop_branch(self, table: str, name: str) -> None:
        """Let upkeep clean what only the branch `name` still kept."""
        self._attempt(table, lambda: self._table(table).branches.delete(name))

    def old_versions(self, table: str, age: timedelta) -> int:
        """Return how many lists of versions of `table` are older than `age`; needs no LanceDB.

        Of a bucket 0 is said: there the answer would cost a request.
        """
        folder = self.location.folder
        return 0 if folder is None else folder_old_versions(folder, table, age)

    def check_writable(self) -> None:
        """Refuse what can only be read; a catalog itself never does."""

    def beside(self, table: str, write: Callable[[Table], T]) -> T:
        """Do with the open table what takes long and never makes this host's writers wait.

        Parameters
        ----------
        write : callable
            Repeated when others were in the way, so doing it twice must do no harm.

        Raises
        ------
        CatalogError
            It can't be written.
        """
        return self._attempt(table, lambda: write(self._table(table)))

    # -- within -------------------------------------------------------------------------------

    def _connect(self) -> DBConnection:
        with self._lock:
            if self._pid != os.getpid():  # LanceDB's threads do not survive a fork
                self._database, self._tables, self._pid = None, {}, os.getpid()
            if self._database is None:
                if self._refusal is not None and time.monotonic() - self._refusal[0] < REFUSED_SECONDS:
                    raise self._refusal[1]
                try:
                    self._database = self._connected()
                except Exception as error:
                    self._refusal = None if self.location.is_local else (time.monotonic(), error)
                    raise
            return self._database

    def _connected(self) -> DBConnection:
        os.environ.setdefault("LANCEDB_LOG", "error")  # else it warns on stderr
        check_endpoint(self.location)
        spare_the_client()
        import lancedb

        # A default handle never sees the commits of other processes.
        fresh, options = timedelta(0), lance_options(self.location) or None
        return lancedb.connect(str(self.location), storage_options=options, read_consistency_interval=fresh)

    def _table(self, table: str) -> Table:
        database = self._connect()
        with self._lock:
            if table not in self._tables:
                self._tables[table] = self._open(database, table)
            return self._tables[table]

    def _open(self, database: DBConnection, table: str) -> Table:
        return database.open_table(table)

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
            except Exception as error:  # noqa: BLE001 - LanceDB raises RuntimeError, ValueError and OSError alike
                # A handle may be older than an upkeep or than the folder itself: once more, afresh.
                self._forget(table)
                if last:
                    raise _said(error, read_failure(error, self.location, table)) from self._cause(error)
                check_endpoint(self.location)  # else the same seconds would pass once more
        return None

    def _writing(self, table: str, write: Callable[[], T]) -> T:
        with self.queue():
            return self._attempt(table, write)

    def _attempt(self, table: str, write: Callable[[], T]) -> T:
        """Run `write`, again with jittered pauses while others are in the way.

        `write` must do no harm when it is repeated after a commit whose success was not reported.
        """
        patience = RETRY_SECONDS if self.location.is_local else BUCKET_RETRY_SECONDS
        deadline = time.monotonic() + patience
        pause = 0.05
        while True:
            try:
                return write()
            except Exception as error:  # noqa: BLE001 - LanceDB raises RuntimeError, ValueError and OSError alike
                self._forget(table)
                if not is_contention(error) or time.monotonic() > deadline:
                    raise _said(error, write_failure(error, self.location, table)) from self._cause(error)
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            pause = min(pause * 2, 2.0)

    def queue(self) -> contextlib.AbstractContextManager[None]:
        """Wait for this host's other writers, but never for long."""
        return writers_queue(self.location)

    def _cause(self, error: Exception) -> Exception | None:
        """Return what a traceback may show: what S3 said may hold the id of an access key."""
        return error if self.location.is_local else None


def _said(error: Exception, failure: LLMOpsError | None) -> Exception:
    """Return what `error` means to a user; what means nothing to one is a bug of ours, and stays itself."""
    return error if failure is None else failure


def sql_text(value: str) -> str:
    """Return `value` as an SQL string literal."""
    return "'" + value.replace("'", "''") + "'"
