"""Checking the trail: every byte of it is covered by something, and a fault is named.

Checked are the lines against the chain, the head, the content and the published rows; the tiles and entries
of the transparency log against the lines; the checkpoint, the published heads and what witnesses signed of
them, against the Merkle tree that is computed anew from the lines.

What this proves: of the records under a head that a witness signed, or under a checkpoint that somebody else
kept, that they are the very ones, in the very order, that the log had then. Of the others, that nobody who did
not also rewrite chain, head, log and published rows, and sign them anew, has changed any. What it does NOT prove:

- that the records are true: the process that writes them runs as the user, who can write others;
- that nothing was left out: a cell run without the extension leaves no record (see `audit.coverage`);
- anything against the owner of files and keys, for records that no witness has seen: the notes say
  "unwitnessed" for that reason. A witness counts when its key is another person's or another host's, and the
  team's key has sealed it; two keys of one person who works on two hosts are two witnesses here;
- anything about content that was deleted: its digests can't be compared any more.
"""

from jupyter_llmops.audit.verification.kept import KeptCheckpoint, read_kept
from jupyter_llmops.audit.verification.signatures import TrustedKeys
from jupyter_llmops.audit.verification.trail import UNWITNESSED, verify

__all__ = ["UNWITNESSED", "KeptCheckpoint", "TrustedKeys", "read_kept", "verify"]
