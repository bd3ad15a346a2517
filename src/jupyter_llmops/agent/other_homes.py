"""One user on one host may have several homes: which sessions of the catalog are another home's.

Rows name user and host only, so what the other home published would look like journals that are missing here.
The key that signed a session's heads tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jupyter_llmops.agent.flush import session_of
from jupyter_llmops.agent.head_checks import signed_by
from jupyter_llmops.audit.reading import list_journals
from jupyter_llmops.audit.sealing import LOG_FOLDER
from jupyter_llmops.keys.signing import public_half
from jupyter_llmops.records.trail import Head, Signer

# A session's first head follows its first lines within seconds.
_YOUNG = timedelta(minutes=10)


def sessions_of_other_homes(
    folder: Path,
    published: Mapping[str, Mapping[int, str]],
    heads: Iterable[Head],
    signers: Iterable[Signer],
    own_key: bytes,
) -> set[str]:
    """Return the published sessions of which nothing is here, and whose heads another key of the team signed.

    One that has no head yet counts, too, while it is some minutes old. One whose heads this home's key
    signed never does: then its journal is missing.

    Parameters
    ----------
    folder : Path
        The audit folder of this home.
    published : mapping of session to its rows
        Of this user and host.
    heads : iterable of Head
        The catalog's.
    signers : iterable of Signer
        Those that the team has named.
    own_key : bytes
        The public key of this home's logs.
    """
    here = {session_of(path) for path in list_journals(folder)}
    here |= {path.name for path in (Path(folder) / LOG_FOLDER).glob("*")}
    absent = set(published) - here
    if not absent:
        return set()
    keys = [own_key, *(public_half(one.vkey) for one in signers if one.kind == "log")]
    signed: dict[str, set[bytes]] = {}
    for head in heads:
        if head.session in absent and (found := signed_by(head, keys)) is not None:
            signed.setdefault(head.session, set()).add(found[1])
    moment = datetime.now(UTC)
    since, until = (f"{one:%Y%m%dT%H%M%SZ}" for one in (moment - _YOUNG, moment + _YOUNG))
    return {
        session for session in absent
        if own_key not in signed.get(session, set()) and (session in signed or since <= session <= until)
    }  # fmt: skip
