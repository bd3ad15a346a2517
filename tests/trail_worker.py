"""A process of a campaign of kills: one that writes a journal, or one that carries, seals and publishes.

Usage: python trail_worker.py kernel|agent|server FOLDER CATALOG SESSION
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def kernel(folder: Path, catalog: str, session: str) -> None:
    """Stamp, and say each run id once its stamp has returned."""
    from jupyter_llmops.audit.journal import Journal

    journal = Journal(folder, session=session, context={"user": "ada", "host": "lab", "catalog": catalog})
    count = 0
    while True:
        # Some lines are longer than a page, so that a kill can fall into one.
        fields = {"execution_count": count + 1, "pad": "x" * (9000 if count % 7 == 0 else 20)}
        run_id = journal.stamp("cell", fields=fields, content={"source": f"x = {count}"})
        os.write(1, f"{run_id}\n".encode())
        count += 1
        time.sleep(0.003)


def agent(folder: Path, catalog: str, role: str) -> None:
    """Do the agent's work as its own process does, or in a thread as the server does."""
    from jupyter_events import EventLogger

    from jupyter_llmops.agent import heads
    from jupyter_llmops.agent.loop import AgentLoop
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.server.background import Background, CatalogWatch
    from jupyter_llmops.server.bell import Bell

    heads.SECONDS_BETWEEN_SEALS = 0.2  # so that kills fall into sealing, too
    place = Catalog(catalog, site="lab", user="ada")
    loop = AgentLoop(folder, place, on_problem=lambda problem: print(problem, file=sys.stderr, flush=True))
    os.write(1, b"ready\n")
    if role == "agent":
        loop.run()
        return
    bell = Bell(EventLogger(), lambda call: call())
    Background(CatalogWatch([place], bell), loop).start()
    while True:
        time.sleep(1)


def main() -> None:
    """Work until killed."""
    role, folder, catalog, session = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    if role == "kernel":
        kernel(folder, catalog, session)
    else:
        agent(folder, catalog, role)


main()
