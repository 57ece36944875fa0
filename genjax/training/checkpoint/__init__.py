"""Checkpoints that come back bit for bit or not at all.

Orbax writes and commits a step in one rename, but it does not notice when a file rots
later: most single-bit flips restore silently as wrong weights. So every step carries,
inside the same commit, a digest of each leaf; a step is believed only when the digests
of what was read agree with it, and otherwise the next older one is tried.

A read that fails is not damage: it is tried again, and if the machine still refuses
(an I/O error, no memory, no thread) one sentence says so and nothing is renamed.

On disk, below the directory that is given:

    <step>/state/...        the arrays, by Orbax
    <step>/meta/metadata    JSON: {"sha256", "body": {step, leaves, metrics, meta, ...}}
    corrupt-<step>/         a step that failed its check; never deleted
    discarded/              steps no longer wanted, until the next call removes them

In a bucket, where nothing can be renamed, it is as `bucket_folder` says.
"""

from genjax.training.checkpoint.checkpointer import Checkpointer
from genjax.training.checkpoint.reading import Restored

__all__ = ["Checkpointer", "Restored"]
