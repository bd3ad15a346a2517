"""Models in a cache of the Hugging Face hub."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jupyter_llmops.inference.scan.finding import find
from jupyter_llmops.inference.scan.reading import one_line, reason, slug


@dataclass(frozen=True, slots=True)
class Found:
    """A model that was found and not described yet; `name` and `source` replace those of its path if given."""

    path: Path
    name: str = ""
    source: str = ""


def find_in_hub_cache(place: str, on_problem: Callable[[str], None]) -> Iterator[Found]:
    """Yield the models of a hub cache, every revision that is there.

    Parameters
    ----------
    place : str
        The cache's folder; empty for the user's own, whose models the source ``hub:OWNER/NAME@REVISION`` names.
    on_problem : callable
        Told in one line what is damaged.
    """
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    own = Path(constants.HF_HUB_CACHE)
    folder = Path(place).expanduser() if place else own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cache = scan_cache_dir(folder)
    except (CacheNotFound, OSError, ValueError) as error:
        if place:
            on_problem(f"The Hugging Face cache {place} can't be read: {reason(error)}")
        return
    for warning in cache.warnings:
        on_problem(f"The Hugging Face cache has a damaged part: {one_line(warning)}.")
    shared = not place or folder.resolve() == own.resolve()
    for repository in sorted(cache.repos, key=lambda repository: repository.repo_id):
        if repository.repo_type != "model":
            continue
        name = slug(repository.repo_id.rpartition("/")[2])
        for revision in sorted(repository.revisions, key=lambda revision: revision.commit_hash):
            current = "main" in revision.refs or len(repository.revisions) == 1
            suffix = "" if current else f"-{revision.commit_hash[:7]}"
            snapshot = Path(revision.snapshot_path)
            for path in find(snapshot, on_problem, links_within=folder):
                whole = path == snapshot
                source = f"hub:{repository.repo_id}@{revision.commit_hash}" if shared and whole else ""
                yield Found(path, f"{name}{suffix}" if whole else "", source)
