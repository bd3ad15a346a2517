"""What LanceDB, the file system and S3 say, as sentences that a user can act on.

What they do not say is a bug of this package, and stays what it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jupyter_llmops.errors import CatalogError, LLMOpsError, UsageError
from jupyter_llmops.location import Location

_REFUSED = ("permission denied", "operation not permitted", "read-only file system")
_FULL = ("no space left", "disk quota exceeded", "quotaexceeded", "xminiostoragefull")
_CONTENDED = ("too many concurrent writers", "commit conflict", "conflict", "concurrent")
# How LanceDB and Arrow begin what comes from the storage or from a file's content.
_FROM_STORAGE = re.compile(
    r"lance ?error|lanceerror|external error|failed to connect to namespace|was not found"
    r"|\bio error|corrupt|objectstore|object store|generic (s3|localfilesystem) error|aws error"
    r"|a lance file|outside file of size|lance storage version|rust future panicked",
    re.IGNORECASE,
)
# A list of versions in which some bits are others: no question of ours makes Lance say so.
_GARBLED = ("references parent id",)
_ASKED_WRONGLY = ("invalid user input", "schema error", "sql parser error", "lanceerror(schema)")

# What S3 answers, the code in an error's body or Arrow's words for it: the first that fits counts.
_NO_BUCKET = ("nosuchbucket", "no_such_bucket", "bucket does not exist")
_NO_CREDENTIALS = (
    "failed to get aws credentials",
    "credentialsnotloaded",
    "no providers in chain",
    "no credentials",
    "could not load credentials",
)
_WRONG_CREDENTIALS = (
    "invalidaccesskeyid",
    "signaturedoesnotmatch",
    "expiredtoken",
    "tokenrefreshrequired",
    "invalidtoken",
    "invalid_access_key_id",
    "signature_does_not_match",
)
_DENIED = (
    "accessdenied",
    "access_denied",
    "access denied",
    "status: 403",
    "403 forbidden",
    "http status 403",
)
_WRONG_REGION = ("permanentredirect", "authorizationheadermalformed", "illegallocationconstraint")
_SLOW = (
    "kind: timeout",
    "timed out",
    "timeout was reached",
    "operation timed out",
    "slowdown",
    "requesttimeout",
)
_UNHEARD = (
    "kind: connect",
    "connection refused",
    "dns error",
    "error sending request",
    "couldn't connect",
    "network_connection",
    "could not connect",
    "curlcode",
    "connection reset",
    "connection closed",
    "httperror",
    # Without AWS_REGION and AWS_ENDPOINT_URL, Amazon is asked first where the bucket lies.
    "failed to resolve region",
)


def is_contention(error: BaseException) -> bool:
    """Return whether other writers were in the way, so that trying again can help."""
    return not isinstance(error, LLMOpsError) and _says(error, _CONTENDED)


def read_failure(error: Exception, location: Location, table: str = "") -> LLMOpsError | None:
    """Return what to raise when `table` of a catalog can't be read; None when that is a bug of ours."""
    if isinstance(error, LLMOpsError):
        return error
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        return _unstorable(error)
    if not location.is_local and (said := bucket_failure(error, location)) is not None:
        return said
    if _says(error, _REFUSED):
        return CatalogError(
            f"The catalog in {location} can't be read: {_why(error)}.",
            "Ask its owner for access, or set LLMOPS_CATALOG to a folder of your own.",
        )
    return _damage(error, location, table)


def write_failure(error: Exception, location: Location, table: str = "") -> LLMOpsError | None:
    """Return what to raise when `table` of a catalog can't be written; None when that is a bug of ours."""
    if isinstance(error, LLMOpsError):
        return error
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        return _unstorable(error)
    if is_contention(error):
        return CatalogError(
            f"Too many others are writing to the catalog in {location}; nothing was written.",
            "Try again in a moment.",
        )
    if _says(error, _FULL):
        return CatalogError(
            f"The {'disk' if location.is_local else 'storage'} of the catalog in {location} is full; "
            "nothing was written.",
            "Free some space there and try again.",
        )
    if not location.is_local and (said := bucket_failure(error, location, "write to")) is not None:
        return said
    if _says(error, _REFUSED) or isinstance(error, (PermissionError, NotADirectoryError, FileExistsError)):
        return unwritable(location, _why(error))
    return _damage(error, location, table)


def bucket_failure(error: Exception, location: Location, deed: str = "read") -> CatalogError | None:
    """Return what an S3 server, or its absence, means; None when it said something else.

    The server's own words are not repeated: they may hold the id of the access key.
    """
    bucket = location.uri.removeprefix("s3://").partition("/")[0]
    if _says(error, (*_NO_BUCKET, f"bucket '{bucket.lower()}' not found")):
        return CatalogError(
            f"There is no bucket {bucket!r} for the catalog {location}.",
            "Correct LLMOPS_CATALOG or AWS_ENDPOINT_URL, or have the bucket created.",
        )
    if _says(error, _NO_CREDENTIALS):
        return CatalogError(
            f"There are no credentials for the catalog {location}.",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY before the kernel starts, or fill ~/.aws/credentials.",
        )
    if _says(error, _WRONG_CREDENTIALS):
        return CatalogError(
            f"The storage does not accept the credentials for the catalog {location}.",
            "Correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, then restart the kernel.",
        )
    if _says(error, _DENIED):
        return CatalogError(
            f"The storage does not let you {deed} the catalog {location}.",
            f"Ask the owner of the bucket {bucket!r} for the right to list, read, write and delete there, "
            "or set LLMOPS_CATALOG to another place.",
        )
    if _says(error, _WRONG_REGION):
        return CatalogError(
            f"The bucket of the catalog {location} lies in another region.", "Set AWS_REGION to it."
        )
    if _says(error, _SLOW):
        return CatalogError(
            f"The storage of the catalog {location} does not answer in time.",
            "Try again in a moment; type %llmops doctor to see how long it takes.",
        )
    if _says(error, _UNHEARD):
        return unreachable(location, "")
    return None


def unreachable(location: Location, why: str) -> CatalogError:
    """Return the error for a bucket whose server can't be connected to."""
    return CatalogError(
        f"The storage of the catalog {location} can't be reached{': ' if why else ''}{why}.",
        "Check the network and AWS_ENDPOINT_URL (http:// or https://, host and port).",
    )


def unwritable(location: Location | Path, why: str) -> CatalogError:
    """Return the error for a place that refuses writes."""
    return CatalogError(
        f"The catalog in {location} can't be written: {why}.",
        "Ask its owner for write access, or set LLMOPS_CATALOG to a folder of your own.",
    )


def damaged(place: Location | Path, why: str) -> CatalogError:
    """Return the error for a table or folder that is there but can't be understood."""
    return CatalogError(
        f"The catalog is damaged at {place}: {why}.",
        "Nothing was changed. Restore it from a backup, or move it away to begin with an empty one.",
    )


def _unstorable(error: UnicodeEncodeError | OverflowError) -> UsageError:
    if isinstance(error, UnicodeEncodeError):
        return UsageError(
            "A text holds half a character (broken Unicode).", "Nothing was changed. Correct the text."
        )
    return UsageError("A number has more than 64 bits.", "Nothing was changed. Correct the number.")


def _damage(error: Exception, location: Location, table: str) -> CatalogError | None:
    """Return that the storage is damaged, if it is the storage that says so."""
    garbled = _says(error, _GARBLED) or type(error).__name__ == "RustPanic"
    if not garbled and (
        not isinstance(error, (RuntimeError, ValueError, OSError)) or _says(error, _ASKED_WRONGLY)
    ):
        return None
    if not isinstance(error, OSError) and not _FROM_STORAGE.search(str(error)):
        return None
    return damaged(location / f"{table}.lance" if table else location, _why(error))


def _says(error: BaseException, phrases: Sequence[str]) -> bool:
    text = str(error).lower()
    return any(phrase in text for phrase in phrases)


def _why(error: Exception) -> str:
    """Return the reason in one line, without the source positions that Lance appends."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    text = re.sub(r",? ?/\S+\.rs:\d+:\d+.*", "", text)
    text = re.sub(r"^(lance error: |External error: )*(LanceError\(\w+\): )?", "", text)
    return text.rstrip(". ")[:200] or type(error).__name__
