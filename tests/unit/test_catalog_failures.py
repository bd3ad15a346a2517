"""What is damage, what is the storage's refusal, and what is a bug of ours."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.failures import read_failure, write_failure
from jupyter_llmops.errors import CatalogError
from jupyter_llmops.location import Location

FOLDER = Location("/team/catalog")
BUCKET = Location("s3://team/catalog")


@pytest.mark.parametrize(
    "bug",
    [
        TypeError("unsupported operand type(s) for +: 'int' and 'str'"),
        ModuleNotFoundError("No module named 'lancedb'"),
        AttributeError("'NoneType' object has no attribute 'search'"),
        KeyError("name"),
        NotImplementedError(),
        ValueError("time data '' does not match format"),
        RuntimeError("lance error: LanceError(Schema): No field named nmae"),
        RuntimeError("lance error: Invalid user input: Schema error: No field named nmae"),
    ],
)
@pytest.mark.parametrize("explain", [read_failure, write_failure])
@pytest.mark.parametrize("place", [FOLDER, BUCKET])
def test_a_bug_of_ours_is_not_the_catalogs_fault(bug: Exception, explain: Any, place: Location) -> None:
    assert explain(bug, place, "prompts") is None


def test_a_bug_stays_itself_on_its_way_out(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    catalog.prompts.publish("p", "x")
    connection = Connection(tmp_path / "catalog")
    with pytest.raises(ZeroDivisionError):
        connection._reading("prompts", lambda handle: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        connection._writing("prompts", lambda: 1 // 0)
    # Asking for what is not there is our mistake, too.
    with pytest.raises(Exception, match="nmae") as caught:
        connection.read("prompts", where="nmae = 1")
    assert not isinstance(caught.value, CatalogError)


def test_a_missing_lancedb_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "lancedb":
            raise ModuleNotFoundError("No module named 'lancedb'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match="lancedb"):
        catalog.prompts.publish("p", "x")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("lance error: LanceError(IO): Execution error: bad magic number"), "damaged at"),
        (ValueError("Table 'prompts' was not found"), "damaged at"),
        (OSError(5, "Input/output error"), "damaged at .*Input/output error"),
        (OSError("[Errno 13] Permission denied"), "can't be read"),
    ],
)
def test_what_the_disk_says(error: Exception, sentence: str) -> None:
    with pytest.raises(CatalogError, match=sentence):
        raise read_failure(error, FOLDER, "prompts") or error


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        ("<Code>NoSuchBucket</Code>", "There is no bucket 'team'", "LLMOPS_CATALOG"),
        ("AWS Error NO_SUCH_BUCKET during HeadObject", "There is no bucket 'team'", "LLMOPS_CATALOG"),
        ("Bucket 'team' not found", "There is no bucket 'team'", "LLMOPS_CATALOG"),
        ("Failed to resolve region for bucket 'team'", "can't be reached", "AWS_ENDPOINT_URL"),
        ("Failed to get AWS credentials: CredentialsNotLoaded", "no credentials", "AWS_ACCESS_KEY_ID"),
        ("<Code>InvalidAccessKeyId</Code><AWSAccessKeyId>AKIA1</AWSAccessKeyId>", "not accept", "AWS_SECRET"),
        ("<Code>SignatureDoesNotMatch</Code><StringToSign>x</StringToSign>", "not accept", "AWS_SECRET"),
        ("<Code>ExpiredToken</Code>", "not accept", "AWS_SESSION_TOKEN"),
        ("<Code>AccessDenied</Code>", "does not let you", "owner of the bucket 'team'"),
        ("AWS Error ACCESS_DENIED during PutObject operation", "does not let you", "owner of the bucket"),
        ("status: 301 <Code>PermanentRedirect</Code>", "another region", "AWS_REGION"),
        ("HttpError { kind: Timeout, source: reqwest }", "in time", "doctor"),
        ("<Code>SlowDown</Code>", "in time", "Try again"),
        ("HttpError { kind: Connect, Connection refused }", "can't be reached", "AWS_ENDPOINT_URL"),
        ("curlCode: 6, Couldn't resolve host name", "can't be reached", "AWS_ENDPOINT_URL"),
    ],
)
@pytest.mark.parametrize("explain", [read_failure, write_failure])
def test_what_a_bucket_says(words: str, sentence: str, hint: str, explain: Any) -> None:
    error = RuntimeError(f"lance error: LanceError(IO): Generic S3 error: {words}")
    failure = explain(error, BUCKET, "prompts")
    assert isinstance(failure, CatalogError)
    assert sentence in failure.message
    assert hint in failure.hint
    assert "AKIA" not in str(failure)
    assert "\n" not in str(failure)
    # The same words about a folder's file are no message of S3.
    assert sentence not in str(explain(error, FOLDER, "prompts"))
