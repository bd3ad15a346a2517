"""A process that stamps as fast as it can and says each run id once its stamp has returned.

Usage: python journal_writer.py FOLDER SESSION THREADS
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from jupyter_llmops.audit.journal import Journal


def main() -> None:
    """Stamp until killed."""
    folder, session, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    journal = Journal(folder, session=session, context={"user": "u", "host": "h"})

    def work(number: int) -> None:
        count = 0
        while True:
            # Some lines are longer than a page, so that a kill can fall into one.
            size = 9000 if count % 5 == 0 else 20
            run_id = journal.stamp(
                "cell",
                fields={"execution_count": count, "pad": "x" * size},
                content={"source": f"{number} {count}"},
            )
            os.write(1, f"{run_id}\n".encode())
            count += 1

    for number in range(threads):
        threading.Thread(target=work, args=(number,)).start()


main()
