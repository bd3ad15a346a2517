"""A model's files to the team's storage and back: addressed by content, resumed at the next piece.

A file of up to `PIECE_BYTES` is one object, ``files/SHA256``. A larger one is cut into pieces, each an
object of that form, and ``files/SHA256.pieces`` lists them; it is written last, so that a file is either
whole in the storage or not there.
"""

from jupyter_llmops.inference.transfer.meter import Meter
from jupyter_llmops.inference.transfer.pulling import pull_files, pull_signature
from jupyter_llmops.inference.transfer.pushing import push_files, push_signature

__all__ = ["Meter", "pull_files", "pull_signature", "push_files", "push_signature"]
