"""Which heads of this user's logs a catalog really has: rows of a size may be planted in the place of a true one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256

from jupyter_llmops.agent.head_checks import signed_by
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.keys.signing import LogKeys, keys_folder, may_sign, said_keys
from jupyter_llmops.records.trail import Head


def log_public_keys(session: str, keys: LogKeys) -> list[bytes]:
    """Return the public keys that may have signed a log of this user: the one that signs, and those before it.

    Parameters
    ----------
    session : str
        Name of the session; one that is bound to a key has that only.
    keys : LogKeys
        The keys that sign now.
    """
    both = dict.fromkeys([keys.log_public, *said_keys(keys_folder())])
    return [public for public in both if may_sign(session, public)]


class TrueRows:
    """Reads and checks the rows of a session when they changed since the last look, and those that are new only.

    Parameters
    ----------
    catalog : Catalog
        Whose heads.
    keys : callable
        Returns this user's keys.
    """

    def __init__(self, catalog: Catalog, keys: Callable[[], LogKeys]) -> None:
        self._catalog = catalog
        self._keys = keys
        self._prints: dict[str, str] = {}
        self._seen: dict[str, tuple[str, dict[int, tuple[str, bytes]]]] = {}

    def look(self) -> None:
        """Find out which sessions' rows changed; `of` believes what it read before of all others.

        Raises
        ------
        CatalogError
            The catalog can't be read.
        """
        self._prints = self._catalog.heads.fingerprints()

    def changed(self, sessions: Iterable[str]) -> list[str]:
        """Return the sessions of which `of` will read rows."""
        return [name for name in sessions if name in self._prints and not self._is_known(name)]

    def of(self, sessions: Iterable[str]) -> dict[str, dict[int, str]]:
        """Return the root of each head that is signed as it stands, by size, for each of some sessions.

        Raises
        ------
        CatalogError
            The catalog can't be read.
        """
        names = list(sessions)
        rows: dict[str, list[Head]] = {name: [] for name in self.changed(names)}
        for head in self._catalog.heads.of(rows) if rows else ():
            rows.setdefault(head.session, []).append(head)
        for name, heads in rows.items():
            self._seen[name] = (self._prints.get(name, ""), self._checked(name, heads))
        return {
            name: {size: root for size, (root, _) in self._seen[name][1].items()}
            if name in self._prints
            else {}
            for name in names
        }

    def _is_known(self, name: str) -> bool:
        return name in self._seen and self._seen[name][0] == self._prints[name]

    def _checked(self, name: str, heads: list[Head]) -> dict[int, tuple[str, bytes]]:
        before = self._seen[name][1] if name in self._seen else {}
        public = log_public_keys(name, self._keys())
        found: dict[int, tuple[str, bytes]] = {}
        for head in heads:
            row = (head.root, sha256(head.checkpoint.encode("utf-8", "replace")).digest())
            if before.get(head.size) == row or signed_by(head, public) is not None:
                found[head.size] = row
        return found
