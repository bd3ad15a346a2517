"""Runs under another Python (3.12 or newer) with aics-tlog, which is not ours: checks and writes logs with it.

Reads one JSON object from standard input, writes one to standard output. It imports nothing of this project.
"""

import base64
import json
import sys
from pathlib import Path

import aics_tlog as tlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def raw(text):
    return base64.b64decode(text)


def b64(items):
    return [base64.b64encode(item).decode() for item in items]


def check(folder, log_vkey, witness_vkeys, inclusions, consistencies):
    """Check a log's checkpoint, every tile and entry, and proofs; return what was found, or the refusal."""
    note = tlog.parse_note(Path(folder, "checkpoint").read_bytes())
    witnesses = [tlog.parse_vkey(vkey) for vkey in witness_vkeys]
    result = tlog.verify_checkpoint(note, tlog.parse_vkey(log_vkey), witnesses, quorum=len(witnesses))
    if not result.ok:
        return {"refused": f"checkpoint: {result.error}"}
    checkpoint = tlog.parse_checkpoint(note.text)
    reader = tlog.FileSystemTileReader(folder)
    try:
        audit = tlog.audit_tiles(reader, checkpoint.size, checkpoint.root)
    except (tlog.TileVerificationError, tlog.TileMissingError, ValueError) as error:
        return {"refused": f"tiles: {error}"}
    verified = tlog.VerifiedTileReader(reader, checkpoint.size, checkpoint.root)
    for index, leaf, proof in inclusions:
        ours = [raw(one) for one in proof]
        if verified.entry(index) != raw(leaf):
            return {"refused": f"entry {index}"}
        if tlog.inclusion_proof_from_tiles(verified, index, checkpoint.size) != ours:
            return {"refused": f"inclusion proof of {index} is another"}
        if not tlog.verify_leaf_inclusion(raw(leaf), index, checkpoint.size, ours, checkpoint.root):
            return {"refused": f"inclusion of {index}"}
    for old, root, proof in consistencies:
        ours = [raw(one) for one in proof]
        if tlog.consistency_proof_from_tiles(verified, old, checkpoint.size) != ours:
            return {"refused": f"consistency proof from {old} is another"}
        if not tlog.verify_consistency(old, checkpoint.size, raw(root), checkpoint.root, ours):
            return {"refused": f"consistency from {old}"}
    return {"size": checkpoint.size, "tiles": audit.tiles, "bundles": audit.bundles}


def write(folder, origin, portions, log_key, witness_name, witness_key, timestamp):
    """Write a log in portions of a number of leaves each; sign and cosign its head."""
    store = tlog.DirectoryTileStore(folder, fsync=False)
    writer = tlog.IncrementalTileWriter(store)
    for portion in portions:
        writer.append([b"leaf %d" % (writer.size + number) for number in range(portion)])
    key = Ed25519PrivateKey.from_private_bytes(raw(log_key))
    checkpoint = tlog.Checkpoint(origin, writer.size, writer.root())
    note = tlog.sign_checkpoint(checkpoint, key, origin)
    witness = Ed25519PrivateKey.from_private_bytes(raw(witness_key))
    _, line = tlog.sign_cosignature(witness, witness_name, timestamp, origin, writer.size, writer.root())
    note = tlog.Note(text=note.text, signatures=(*note.signatures, line))
    store.write_checkpoint(note.to_bytes())
    return {
        "root": b64([writer.root()])[0],
        "log_vkey": tlog.format_vkey(tlog.vkey_from_ed25519(origin, key.public_key())),
        "witness_vkey": tlog.format_vkey(tlog.cosignature_vkey(witness_name, witness.public_key())),
    }


if __name__ == "__main__":
    request = json.load(sys.stdin)
    done = {"check": check, "write": write}[request.pop("do")](**request)
    json.dump(done, sys.stdout)
