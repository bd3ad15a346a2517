"""A second person for a notebook: ``%%ben`` runs a cell in a kernel that is somebody else's.

Ben has an interpreter, a user name, a site and a private folder of his own; with the notebook's
kernel he shares the catalog and, so that this runs on one machine, the converted language model.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display
from jupyter_client.manager import KernelManager

import jupyter_llmops


class SecondPerson:
    """A person with a kernel of their own.

    Parameters
    ----------
    name : str
        How the system knows them.
    """

    def __init__(self, name: str) -> None:
        here = jupyter_llmops.open_workspace()
        self._home = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.letterbox = self._home / "letterbox"
        atexit.register(self.leave)
        # Converting a model takes a minute; Ben would do it once on a machine of his own.
        here.models_folder.mkdir(parents=True, exist_ok=True)
        (self._home / "models").symlink_to(here.models_folder)
        (self._home / "config").mkdir()
        settings = f"c.LLMOps.site = {name + '-laptop'!r}\n"
        (self._home / "config" / "jupyter_llmops_config.py").write_text(settings, encoding="utf-8")
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(
            stderr=subprocess.DEVNULL,
            env=os.environ
            | {
                "LOGNAME": name,
                "LLMOPS_HOME": str(self._home),
                "LLMOPS_CATALOG": str(here.location),
                "IPYTHONDIR": str(self._home / "ipython"),
                "JUPYTER_CONFIG_DIR": str(self._home / "config"),
            },
        )
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=120)
        self.run("%load_ext jupyter_llmops")
        self.run(f"letterbox = {str(self.letterbox)!r}")

    def run(self, source: str) -> None:
        """Run a cell in the person's kernel and show here what it shows there; an error stops this cell too."""
        reply = self._client.execute_interactive(source, output_hook=_show, timeout=600)
        if reply["content"]["status"] != "ok":
            raise RuntimeError(f"{reply['content']['ename']}: {reply['content']['evalue']}")

    def leave(self) -> None:
        """End the kernel and delete the private folder."""
        if self.__dict__.get("_client"):
            self._client.stop_channels()
            self._manager.shutdown_kernel(now=True)
            self._client = None
        shutil.rmtree(self._home, ignore_errors=True)


def _show(message: dict[str, Any]) -> None:
    content = message["content"]
    if message["msg_type"] == "stream":
        print(content["text"], end="")
    elif message["msg_type"] == "execute_result":
        display(content["data"], raw=True)


def invite(name: str) -> SecondPerson:
    """Start a person's kernel, and let ``%%name`` run a cell in it."""
    person = SecondPerson(name)
    shell = get_ipython()
    assert shell is not None
    shell.register_magic_function(lambda _, cell: person.run(cell), "cell", name)
    return person
