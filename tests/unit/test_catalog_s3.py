"""The whole catalog on s3://, against a real server with real conditional puts."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from catalog_processes import write_at_once
from catalog_writer import a_run
from jupyter_llmops.agent.flush import flush_journals
from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.schemas import KEYS, SCHEMA_VERSION
from jupyter_llmops.catalog.storage import lance_options
from jupyter_llmops.errors import CatalogError, ConflictError
from jupyter_llmops.location import Location
from jupyter_llmops.records.model import Model
from s3_server import FULL, KEY, READ_ONLY, REFUSED, SECRET, UNKNOWN, S3Bucket, S3Server


def opened(bucket: S3Bucket, user: str = "ada") -> Catalog:
    return Catalog(bucket.location, site="lab", user=user)


def no_secret_in(text: str) -> None:
    for word in (SECRET, KEY, READ_ONLY, REFUSED, UNKNOWN, FULL, "<Error>", ".rs:", "\n"):
        assert word not in text


def test_the_server_refuses_a_second_conditional_put(s3_bucket: S3Bucket) -> None:
    path = f"{s3_bucket.location.uri.removeprefix('s3://')}/once"
    condition = {"If-None-Match": "*"}
    assert s3_bucket.server.call("PUT", path, b"1", **condition) == 200
    assert s3_bucket.server.call("PUT", path, b"2", **condition) == 412


def test_a_catalog_in_a_bucket_is_a_catalog(s3_bucket: S3Bucket) -> None:
    catalog, other = opened(s3_bucket), opened(s3_bucket, "bob")
    # Nothing is there, and reading makes nothing.
    assert catalog.prompts.list() == []
    assert catalog.describe().exists is False
    assert set(catalog.marks().values()) == {0}

    assert catalog.prompts.publish("p", "one").version == 1
    assert [prompt.template for prompt in other.prompts.list()] == ["one"]
    assert other.prompts.publish("p", "two").version == 2
    assert catalog.prompts.publish("p", "one").version == 1
    assert catalog.prompts.get("p").template == "two"
    assert catalog.models.add(Model("m", "llm", "folder:/m")).name == "m"
    assert catalog.runs.append([a_run("s", 0), a_run("s", 1)]) == 2
    assert other.runs.append([a_run("s", 1), a_run("s", 2)]) == 1
    assert other.runs.last_seq("s") == 2

    moved = catalog.changes.move("prompt", "p", "alias:prod", 1, expected=0)
    assert moved.revision == 1
    with pytest.raises(ConflictError, match="moved to 1 by ada"):
        other.changes.move("prompt", "p", "alias:prod", 2, expected=0)
    assert other.changes.move("prompt", "p", "alias:prod", 2, expected=1).revision == 2

    state = catalog.describe()
    assert (state.path, state.exists, state.problem) == (str(s3_bucket.location), True, "")
    assert {table.name: table.rows for table in state.tables} == dict.fromkeys(KEYS, 0) | {
        "prompts": 2,
        "models": 1,
        "runs": 3,
        "changes": 2,
        "migrations": SCHEMA_VERSION,
    }
    with pytest.raises(CatalogError, match="lies in a bucket"):
        _ = catalog.folder


def test_a_bucket_is_asked_rarely_by_whoever_watches(
    s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_llmops.catalog import storage

    catalog = opened(s3_bucket)
    catalog.prompts.publish("p", "one")
    before = catalog.marks()
    catalog.prompts.publish("p", "two")
    assert catalog.marks() == before
    monkeypatch.setattr(storage, "BUCKET_MARK_SECONDS", 0.0)
    after = catalog.marks()
    assert {table for table in after if after[table] != before[table]} == {"prompts"}


@pytest.mark.slow
def test_writers_of_a_bucket_at_once_lose_nothing_and_double_nothing(s3_bucket: S3Bucket) -> None:
    count, names = 2, ["ada", "bob"]
    # Onto an empty bucket: both of them create the catalog at once.
    answers = [answer for _, _, answer in write_at_once(s3_bucket.location, "whole", names, count)]
    assert len(answers) == len(names) * count
    catalog = opened(s3_bucket)
    rows = {table.name: table.rows for table in catalog.describe().tables}
    assert rows["migrations"] == SCHEMA_VERSION
    assert len(catalog.models.list()) == 1

    said = [everything for everything, _, _ in answers]
    assert {answer[0] for answer in said} == {SCHEMA_VERSION}
    shared = [prompt.version for prompt in catalog.prompts.versions("shared")]
    assert shared == list(range(1, len(names) * count + 1))
    assert sorted(answer[3] for answer in said) == shared
    agreed = {prompt.version: prompt.template for prompt in catalog.prompts.versions("agreed")}
    assert sorted(agreed.values()) == [f"text {number}" for number in range(count)]

    (alias,) = catalog.changes.current("prompt", name="shared")
    assert alias.value == alias.revision == len(answers)
    assert sorted(value for _, value, _ in answers) == list(range(1, len(answers) + 1))
    found = collections.Counter(run.id for run in catalog.runs.list())
    assert found == {run_id: 1 for _, _, ids in answers for run_id in ids}
    assert len(found) == 3 * len(answers)


def refusals(catalog: Catalog) -> dict[str, str]:
    """Return what reading and publishing are told, empty for what works."""
    said = {}
    for deed, use in {
        "read": catalog.prompts.list,
        "publish": lambda: catalog.prompts.publish("q", "new"),
        "file": lambda: catalog.objects.write("files/new", [b"1"]),
        "try": catalog.try_writing,
    }.items():
        said[deed] = ""
        try:
            use()
        except CatalogError as error:
            said[deed] = str(error)
            no_secret_in(said[deed])
    return said


def test_a_refusing_bucket_is_said_in_a_sentence(s3_bucket: S3Bucket) -> None:
    opened(s3_bucket).prompts.publish("p", "x")

    s3_bucket.as_user(READ_ONLY)
    said = refusals(opened(s3_bucket))
    assert said["read"] == ""
    assert all("does not let you write to" in said[deed] for deed in ("publish", "file", "try"))

    s3_bucket.as_user(FULL)
    with pytest.raises(CatalogError, match="is full; nothing was written") as caught:
        opened(s3_bucket).objects.write("files/new", [b"1"])
    no_secret_in(str(caught.value))

    s3_bucket.as_user(UNKNOWN)
    with pytest.raises(CatalogError, match=r"does not accept the credentials.*AWS_ACCESS_KEY_ID"):
        opened(s3_bucket).prompts.list()

    s3_bucket.as_user(KEY)
    nowhere = Catalog("s3://no-such-bucket/team", site="lab", user="ada")
    with pytest.raises(CatalogError, match="There is no bucket 'no-such-bucket'"):
        nowhere.objects.write("files/new", [b"1"])
    assert "no bucket 'no-such-bucket'" in nowhere.describe().problem
    assert [prompt.name for prompt in opened(s3_bucket).prompts.list()] == ["p"]
    assert list(opened(s3_bucket).objects.names("probes/")) == []


def test_what_lancedb_is_told_follows_from_the_environment(
    s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> tuple[str | None, ...]:
        options = lance_options(s3_bucket.location)
        assert SECRET not in options.values()
        return tuple(options.get(name) for name in ("aws_endpoint", "aws_region", "allow_http"))

    assert lance_options(Location("/srv/team")) == {}
    assert told() == (s3_bucket.server.url, "us-east-1", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://minio:9000/")
    assert told() == ("https://minio:9000", "us-east-1", "false")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert told() == ("https://minio:9000", "eu-west-1", "false")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert told() == (None, "eu-west-1", None)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "can't be reached: .*AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://no-such-host.invalid:9"}, "can't be reached: .*AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL is not the address"),
        ({"AWS_ENDPOINT_URL_S3": "http://ada:hunter2@h:1"}, "AWS_ENDPOINT_URL_S3 is not the address"),
    ],
)
def test_a_wrong_endpoint_is_said_at_once(
    s3_bucket: S3Bucket, environment: dict[str, str], sentence: str
) -> None:
    s3_bucket.enter(environment)
    catalog = opened(s3_bucket)
    for use in (
        catalog.prompts.list,
        lambda: catalog.prompts.publish("p", "x"),
        lambda: catalog.objects.exists("files/x"),
        catalog.freshness,
        catalog.try_writing,
    ):
        with pytest.raises(CatalogError, match=sentence) as caught:
            use()
        assert "hunter2" not in str(caught.value)
    assert catalog.describe().problem
    assert set(catalog.marks().values()) == {0}


def test_a_server_that_stops_is_said(tmp_path: Path) -> None:
    server = S3Server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_HOME", str(tmp_path))
        for name, value in server.environment().items():
            patch.setenv(name, value)
        catalog = Catalog(f"s3://{server.make_bucket()}", site="lab", user="ada")
        catalog.prompts.publish("p", "x")
        server.stop()
        with pytest.raises(CatalogError, match="can't be reached"):
            catalog.prompts.list()


def test_a_journal_is_carried_into_a_bucket_once_it_lets_us(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    context = {"user": "ada", "host": "lab", "catalog": str(s3_bucket.location)}
    journal = Journal(tmp_path / "audit", context=context)
    elsewhere = Journal(tmp_path / "audit", context=context | {"catalog": "s3://another/team"})
    for one in (journal, elsewhere):
        one.stamp(
            "cell", status="ok", started_at=a_run("s", 0).started_at, seconds=0.1, fields={}, content={}
        )

    s3_bucket.as_user(READ_ONLY)
    told: list[str] = []
    loop = AgentLoop(journal.folder, opened(s3_bucket), on_problem=told.append)
    for _ in range(3):
        loop.step()
    (sentence,) = told
    assert "does not let you write" in sentence

    s3_bucket.as_user(KEY)
    catalog = opened(s3_bucket)
    assert flush_journals(journal.folder, catalog) == 2  # the session's first line and the cell
    assert flush_journals(journal.folder, catalog) == 0
    assert {run.session for run in catalog.runs.list()} == {journal.session}


def test_two_locations_are_two_agents(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    from jupyter_llmops.agent.election import Election

    first, same, other = (
        Election(tmp_path, place)
        for place in (s3_bucket.location, f"{s3_bucket.location}/", Location("s3://other/team"))
    )
    assert first.win()
    assert not same.is_vacant()
    assert other.is_vacant()
    first.resign()


def test_the_queue_of_this_hosts_writers_lies_in_the_users_folder(
    s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    catalog = opened(s3_bucket)
    with catalog._connection.queue():
        (lock,) = (tmp_path / "home" / "queues").iterdir()
        assert lock.suffix == ".lock"
    assert not Path("s3:").exists()
