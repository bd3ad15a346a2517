"""``python -m jupyter_llmops.agent --catalog PLACE --journals PATH``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent; see `process.run_agent`."""
    parser = argparse.ArgumentParser(
        prog="python -m jupyter_llmops.agent",
        description="Carries the journals of this user into a catalog, keeps it small, leaves when idle.",
    )
    parser.add_argument("--catalog", required=True, help="folder of the catalog, or s3://bucket/prefix")
    parser.add_argument("--journals", type=Path, required=True, help="folder of this user's audit trail")
    parser.add_argument("--site", default="", help="name of this host or site")
    parser.add_argument(
        "--idle-seconds", type=float, default=120.0, help="leave when nothing came for so long"
    )
    parser.add_argument(
        "--retention", type=float, default=600.0, help="seconds that old versions stay for their readers"
    )
    parser.add_argument("--cache-limit", default="5GB", help="most bytes of the cache, or off")
    parser.add_argument("--cache-age", default="off", help="longest age of a stored answer, or off")
    parser.add_argument(
        "--witness",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="countersign the heads of colleagues' logs",
    )
    parser.add_argument("--retain", default="", help="how long sessions stay, e.g. 1y; empty for ever")
    parser.add_argument("--detach", action="store_true", help="return at once and go on in the background")
    chosen = parser.parse_args(arguments)
    # Forked before anything that has threads is imported.
    if chosen.detach and os.fork() != 0:
        return 0
    import logging

    from jupyter_llmops.agent.process import run_agent

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    run_agent(
        chosen.catalog,
        chosen.journals,
        site=chosen.site,
        idle_seconds=chosen.idle_seconds,
        retention=chosen.retention,
        cache_limits=(chosen.cache_limit, chosen.cache_age),
        witness=chosen.witness,
        retain=chosen.retain,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
