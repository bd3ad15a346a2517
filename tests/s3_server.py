"""A real S3 server on the loopback: moto's, in a process of its own, before it a door that can refuse.

What the door does follows from the access key of a request, so one server plays all parts: `READ_ONLY`
may look, `REFUSED` may nothing, `UNKNOWN` is not known, `FULL` has no space left.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_llmops.location import Location

SECRET = "wJalr-secret-of-the-tests"
KEY = "AKIATESTS"
READ_ONLY = "AKIAREADONLY"
REFUSED = "AKIAREFUSED"
UNKNOWN = "AKIAUNKNOWN"
FULL = "AKIAFULL"

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass
class S3Server:
    """A running server.

    Parameters
    ----------
    url : str
        Where it answers.
    process : Popen
        It.
    """

    url: str
    process: subprocess.Popen[str]
    buckets: int = 0

    @classmethod
    def start(cls) -> S3Server:
        """Start one and wait until it answers."""
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        return cls(process.stdout.readline().strip(), process)

    def stop(self) -> None:
        """End it; nothing listens there then."""
        self.process.kill()
        self.process.wait(30)

    def make_bucket(self) -> str:
        """Create another bucket and return its name."""
        self.buckets += 1
        name = f"team-{self.buckets}"
        self.call("PUT", name)
        return name

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> int:
        """Send one request, whose signature nobody checks, and return its HTTP status."""
        headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={KEY}/20261122/us-east-1/s3/aws4_request"
        request = urllib.request.Request(f"{self.url}/{path}", body, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def environment(self, key: str = KEY) -> dict[str, str]:
        """Return the environment in which a client uses this server and nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@dataclass
class S3Bucket:
    """A bucket of its own for a test, and the environment in which it is reached.

    Parameters
    ----------
    server : S3Server
        Where it is.
    location : Location
        A prefix in it, for a catalog.
    enter : callable
        Sets an environment until the test ends.
    """

    server: S3Server
    location: Location
    enter: Callable[[dict[str, str]], None]

    def as_user(self, key: str) -> None:
        """Use another access key from now on."""
        self.enter(self.server.environment(key))


def main() -> None:
    """Serve until the standard input ends; the address is said in the first line."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any, **__: Any) -> None:
            pass

    server = make_server(
        "127.0.0.1",
        0,
        Door(DomainDispatcherApplication(create_backend_app)),
        threaded=True,
        request_handler=Quiet,
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


class Door:
    """Refuses what an access key may not do, and passes on the rest."""

    def __init__(self, within: Application) -> None:
        self.within = within

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer one request."""
        found = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        key, method = found[1] if found else KEY, environ["REQUEST_METHOD"]
        writes = method not in ("GET", "HEAD")
        if key == UNKNOWN:
            said = f"<AWSAccessKeyId>{key}</AWSAccessKeyId>"
            return refuse(environ, start, "403 Forbidden", "InvalidAccessKeyId", said)
        if key == REFUSED or (key == READ_ONLY and writes):
            return refuse(environ, start, "403 Forbidden", "AccessDenied")
        if key == FULL and writes:
            return refuse(environ, start, "507 Insufficient Storage", "XMinioStorageFull")
        return self.within(environ, start)


def refuse(environ: dict[str, Any], start: Any, status: str, code: str, more: str = "") -> Iterator[bytes]:
    """Answer as S3 does."""
    from werkzeug.wsgi import get_input_stream

    get_input_stream(environ).read()  # else it would be taken for the next request of this connection
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>No.</Message>{more}</Error>'
    ).encode()
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return iter([b"" if environ["REQUEST_METHOD"] == "HEAD" else body])


if __name__ == "__main__":
    main()
