"""Where a catalog lies: a local folder or a prefix of an S3 bucket, named by its URI alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from jupyter_llmops.errors import SettingsError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Location:
    """A local folder, or ``s3://bucket/prefix``.

    Credentials are never part of it: S3 clients take them from the environment (``AWS_ACCESS_KEY_ID``,
    ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL`` for MinIO and the like) or from ``~/.aws``.

    Parameters
    ----------
    uri : str
        An absolute path, or the URI of a bucket with or without a prefix, no slash at its end.
    """

    uri: str

    @classmethod
    def parse(cls, place: str | Path | Location) -> Location:
        """Return the location that a text, a path or a location means; ``~`` is expanded.

        Raises
        ------
        SettingsError
            It is neither a path nor an S3 URI, or holds credentials.
        """
        if isinstance(place, Location):
            return place
        # A blank around a typed URI is a slip; in a path it is part of the name.
        text = str(place)
        text = text if text.startswith("/") else text.strip()
        scheme = _SCHEME.match(text)
        if not isinstance(place, Path) and scheme is None and text.lower().startswith("s3:"):
            # A slip of the finger would make a folder here, and nobody else would see it.
            raise SettingsError(f"{text!r} is not the URI of a bucket.", "Write s3://bucket/prefix.")
        if isinstance(place, Path) or scheme is None:
            return cls(str(_absolute(text)))
        if scheme[1].lower() == "file":
            return cls(str(_absolute(text[len(scheme[0]) :])))
        if scheme[1].lower() != "s3":
            raise SettingsError(
                f"A catalog can't lie in {scheme[1]}://.", "Name a folder, or s3://bucket/prefix."
            )
        bucket, _, prefix = text[len(scheme[0]) :].partition("/")
        if "@" in bucket:
            raise SettingsError(
                "The URI of a catalog holds credentials, which everybody would see.",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and name s3://bucket/prefix alone.",
            )
        parts = [part for part in prefix.split("/") if part]
        if (
            not _BUCKET.fullmatch(bucket)
            or {".", ".."} & {*parts}
            or re.search(r"[?#\s\x00-\x1f\x7f]", prefix)
        ):
            raise SettingsError(f"{text!r} is not the URI of a bucket.", "Write s3://bucket/prefix.")
        return cls("/".join([f"s3://{bucket}", *parts]))

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's file systems."""
        return not self.uri.startswith("s3://")

    @property
    def folder(self) -> Path | None:
        """The folder; None for a bucket."""
        return Path(self.uri) if self.is_local else None

    def __truediv__(self, name: str) -> Location:
        """Return what lies below it under a plain name."""
        return Location(f"{self.uri}/{name}" if not self.is_local else str(Path(self.uri) / name))

    def __str__(self) -> str:
        return self.uri


def _absolute(text: str) -> Path:
    try:
        return Path(text).expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:
        raise SettingsError(f"The path {text!r} can't be used: {error}", "Write it out in full.") from None
