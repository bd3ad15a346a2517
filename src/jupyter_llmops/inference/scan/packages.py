"""Models inside of installed Python packages, which are never imported."""

from __future__ import annotations

import importlib.metadata
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from jupyter_llmops.inference.scan.finding import is_model_folder
from jupyter_llmops.inference.scan.hub_cache import Found
from jupyter_llmops.inference.scan.reading import reason, slug
from jupyter_llmops.inference.sources import packaged_name

_MARKS = (".gguf", ".safetensors")


def find_in_packages(on_problem: Callable[[str], None]) -> Iterator[Found]:
    """Yield the GGUF files and folders of safetensors that installed packages list among their files.

    Parameters
    ----------
    on_problem : callable
        Told in one line which package can't be read.
    """
    for distribution in importlib.metadata.distributions():
        try:
            # Splitting the list of every package's files takes seconds; most name no model at all.
            if any(mark in (distribution.read_text("RECORD") or "") for mark in _MARKS):
                yield from _models_of(distribution)
        except (OSError, ValueError, UnicodeError) as error:
            on_problem(f"The files of an installed package can't be listed: {reason(error)}")


def _models_of(distribution: importlib.metadata.Distribution) -> Iterator[Found]:
    by_folder: dict[PurePosixPath, set[str]] = defaultdict(set)
    for file in distribution.files or ():
        if ".." not in file.parts:
            by_folder[PurePosixPath(file).parent].add(file.name)
    model_folders: list[PurePosixPath] = []
    for folder, names in sorted(by_folder.items()):
        if any(folder.is_relative_to(model) for model in model_folders):
            continue
        if is_model_folder(names):
            model_folders.append(folder)
            yield _found(distribution, folder, alone=True)
            continue
        packed = sorted(name for name in names if name.endswith(".gguf"))
        for name in packed:
            yield _found(distribution, folder / name, alone=len(packed) == 1)


def _found(distribution: importlib.metadata.Distribution, place: PurePosixPath, *, alone: bool) -> Found:
    """Return a model of a package; ``package:NAME`` alone where that finds it, else with the place inside."""
    package, inside = place.parts[0], place.relative_to(place.parts[0])
    folder = inside.parent if place.suffix == ".gguf" else inside
    default = alone and folder.as_posix() in {".", "model"}
    source = f"package:{package}" if default else f"package:{package}/{inside.as_posix()}"
    name = packaged_name(package) if default else ""
    return Found(
        Path(str(distribution.locate_file(str(place)))),
        name or slug(package if alone else place.stem),
        source,
    )
