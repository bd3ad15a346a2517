"""Runs in build/tlog-verifier: for each line of standard input, leaves of a log, times aics-tlog's proofs of them."""

import json
import sys
import time
from pathlib import Path

import aics_tlog as tlog


def prove(folder, key, index):
    """Return a bundle, the form in which it hands a proof on: entry, path and checkpoint, which it verifies."""
    note = tlog.parse_note(Path(folder, "checkpoint").read_bytes())
    checkpoint = tlog.parse_checkpoint(note.text)
    if not tlog.verify_checkpoint(note, key).ok:
        raise AssertionError("the checkpoint does not verify")
    reader = tlog.FileSystemTileReader(folder)
    leaf = tlog.read_entry(reader, index, checkpoint.size)
    proof = tlog.inclusion_proof_from_tiles(reader, index, checkpoint.size)
    if not tlog.verify_leaf_inclusion(leaf, index, checkpoint.size, proof, checkpoint.root):
        raise AssertionError("the proof does not verify")
    return leaf, proof, note


def main():
    """Answer each line ``[indexes]`` with ``[seconds]``."""
    folder, vkey = sys.argv[1:]
    key = tlog.parse_vkey(vkey)
    for line in sys.stdin:
        times = []
        for index in json.loads(line):
            begun = time.perf_counter()
            prove(folder, key, index)
            times.append(time.perf_counter() - begun)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
