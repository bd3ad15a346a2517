"""What a cell's leaf says beside its source: names, values, random states, outputs."""

from __future__ import annotations

from itertools import islice
from typing import Any

from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.names import NO_NAMES, Names, names_of, with_told
from jupyter_llmops.audit.outputs import CellOutputs

MOST_VALUES = 64
# Of the time that a cell took a hundredth, as the whole leaf may add two; within these, seconds.
_VALUES_SHARE, _VALUES_LEAST, _VALUES_MOST = 0.01, 0.0002, 0.002
# Magics whose body is Python that runs in the namespace; `%%capture` runs it as a cell with its own leaf.
_PYTHON_BODIES = frozenset({"%%time", "%%timeit", "%%prun", "%%debug", "%%training"})


def facts_of(
    shell: Any,
    info: Any,
    journal: Journal,
    *,
    salt: str,
    outputs: CellOutputs,
    seconds: float,
    told: Names = NO_NAMES,
) -> dict[str, Any]:
    """Return what is known of a cell that has ended, by field of its leaf; never raises.

    Parameters
    ----------
    shell : InteractiveShell
        Has run it.
    info : ExecutionInfo
        What was run.
    journal : Journal
        Finds secrets.
    salt : str
        The leaf's own, 32 hexadecimal digits.
    outputs : CellOutputs
        What it showed.
    seconds : float
        How long it took: the time that digests of values may take depends on it.
    told : Names
        Those that a magic took or assigned beside what the source shows.

    Returns
    -------
    dict
        ``names`` (`read`, `written`, or why they are `unknown`), ``values`` (a digest or why there is
        none, by name), ``outputs`` (by MIME type); what is empty is left out. ``incomplete`` names
        the error that stopped it.
    """
    facts: dict[str, Any] = {}
    try:
        names = with_told(_names(shell, info, journal), told)
        facts["names"] = _told(names)
        values = _values(
            shell, names, journal, salt, min(max(seconds * _VALUES_SHARE, _VALUES_LEAST), _VALUES_MOST)
        )
        if values:
            facts["values"] = values
        left_out = len({*names.read, *names.written}) - MOST_VALUES
        if left_out > 0:
            facts["values_left_out"] = left_out
        shown = outputs.to_leaf()
        if shown:
            facts["outputs"] = shown
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the leaf matters more than all it could say
        facts["incomplete"] = type(error).__name__
    return facts


def random_facts() -> dict[str, str]:
    """Return the states of the random generators before a cell; nothing where they can't be taken."""
    try:
        from jupyter_llmops.audit.values import random_states

        return random_states()
    except Exception:  # noqa: BLE001 - as above
        return {}


def _names(shell: Any, info: Any, journal: Journal) -> Names:
    source = str(getattr(info, "raw_cell", "") or "")
    names = names_of(_python_of(shell, source, getattr(info, "transformed_cell", None)))
    if journal.search(source)[1]:
        # Where the source holds a secret, one of its names may be one.
        kept = [tuple(name for name in part if not journal.search(name)[1]) for part in names[:2]]
        return names._replace(read=kept[0], written=kept[1])
    return names


def _python_of(shell: Any, source: str, transformed: Any) -> str:
    if source.startswith("%%") and source.split(None, 1)[0] in _PYTHON_BODIES:
        return str(shell.transform_cell(source.partition("\n")[2]))
    return transformed if type(transformed) is str else source


def _told(names: Names) -> dict[str, Any]:
    if names.unknown:
        return {"unknown": names.unknown}
    told: dict[str, Any] = {"read": list(names.read), "written": list(names.written)}
    if names.left_out:
        told["left_out"] = names.left_out
    return told


def _values(shell: Any, names: Names, journal: Journal, salt: str, seconds: float) -> dict[str, str]:
    from jupyter_llmops.audit.values import digest_values

    wanted = dict.fromkeys((*names.written, *names.read))
    return digest_values(islice(wanted, MOST_VALUES), shell.user_ns, salt, seconds, redact=journal.search)
