"""What every test of this project can ask for."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from jupyter_llmops.location import Location
from s3_server import KEY, S3Bucket, S3Server
from soak import SoakRecord, SoakScale

REPOSITORY = Path(__file__).resolve().parent.parent
# Their files take longest: first, so that no worker waits for another one at the end.
LONG_FOLDERS = ("faults", "notebooks", "server", "ui")
IN_FULL = os.environ.get("LLMOPS_SOAK", "") == "1"
# Cheaper to import for this process and all that tests start (see there).
LIGHTER = str(REPOSITORY / "tests" / "lighter")
sys.path.insert(0, LIGHTER)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [LIGHTER, os.environ.get("PYTHONPATH")]))
RECORD = SoakRecord(REPOSITORY / "benchmarks" / "results", source=REPOSITORY / "src" / "jupyter_llmops")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep this user's own folder, with its keys, out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        if "LLMOPS_HOME" not in os.environ:
            patch.setenv("LLMOPS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("LLMOPS_TEAM_KEY_FILE", raising=False)
        yield


@pytest.fixture
def soak_scale(request: pytest.FixtureRequest) -> SoakScale:
    """Return how long a campaign is in this run: a seeded sample, or with LLMOPS_SOAK=1 all of it.

    ``soak_scale(5, 200)`` is 5, or 200 in a soak. ``for seed in soak_scale.cases(sample=5, full=200)``
    goes through seeds and remembers how far it came, so that an interrupted soak goes on where it stopped.
    """
    return SoakScale(name=request.node.nodeid, full=IN_FULL, record=RECORD)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Start an S3 server on the loopback, one for all tests."""
    server = S3Server.start()
    yield server
    server.stop()


@pytest.fixture
def s3_bucket(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """Return a bucket of this test's own; the environment names its server and credentials.

    ``s3_bucket.location`` is the place of a catalog in it; ``s3_bucket.as_user(READ_ONLY)`` changes who asks.
    """

    def enter(environment: dict[str, str]) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    bucket = S3Bucket(s3_server, Location(f"s3://{s3_server.make_bucket()}/team"), enter)
    bucket.as_user(KEY)
    return bucket


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put long files first, skip what needs a GPU where there is none, leave out what passed in a soak."""
    long = {item.path for item in items if any(map(item.get_closest_marker, ("slow", "model")))}
    items.sort(key=lambda item: item.path.parent.name not in LONG_FOLDERS and item.path not in long)
    needing = [item for item in items if item.get_closest_marker("gpu")]
    problem = _gpu_problem() if needing else ""
    if problem:
        for item in needing:
            item.add_marker(pytest.mark.skip(reason=f"needs an NVIDIA GPU: {problem}"))
    if IN_FULL:
        done = [item for item in items if RECORD.of(item.nodeid).get("outcome") == "passed"]
        if done:
            config.hook.pytest_deselected(items=done)
            items[:] = [item for item in items if item not in done]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep thousands of tests and their modules out of the rounds of the garbage collector."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        if "IPython.core.displayhook" in sys.modules:
            _end_shells_without_a_round()


def _end_shells_without_a_round() -> None:
    """Let IPython look through what is young only, not through all that a run has ever made, when a shell ends.

    That is a second in the middle of a run, and hundreds of tests have a shell.
    """
    from IPython.core.displayhook import DisplayHook

    flush = DisplayHook.flush

    def flush_cheaply(hook: DisplayHook) -> None:
        sys.modules["gc"] = SimpleNamespace(**vars(gc) | {"collect": lambda *_: gc.collect(0)})  # type: ignore[assignment]
        try:
            flush(hook)
        finally:
            sys.modules["gc"] = gc

    DisplayHook.flush = flush_cheaply


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what a soak's tests came to."""
    if IN_FULL and (report.when == "call" or report.failed):
        RECORD.note(report.nodeid, outcome=report.outcome, seconds=round(report.duration, 1))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write what a soak came to for people; nothing left to do is no failure."""
    if IN_FULL:
        RECORD.report()
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK


def _gpu_problem() -> str:
    """Return why no GPU can be used, or an empty string."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return str(error)
    try:
        return "" if pynvml.nvmlDeviceGetCount() else "the driver sees none"
    finally:
        pynvml.nvmlShutdown()
