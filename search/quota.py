"""A bound on what checkpoints take on disk. Only paused trials wait with one, so only a search that pauses trials can reach it.

Trials that run are never touched: there are as many of them as workers.
"""

from __future__ import annotations

from collections.abc import Collection

from search import storage
from search.folder import RunFolder
from search.pausing import Pausing


def beyond_quota(folder: RunFolder, paused: Collection[int], rule: Pausing, quota_gb: float) -> list[int]:
    """The paused trials that must end for the others' checkpoints to fit, those first that stand worst at their last rung.

    A trial that is ended so counts as stopped at its rung: its values stay with the sampler, and only its training cannot go on.
    """
    sizes = {number: storage.size(folder.checkpoint(number)) for number in paused}
    total, ended = sum(sizes.values()), []
    for number in sorted(sizes, key=lambda number: (-rule.share_better(number), number)):
        if total <= quota_gb * 1e9:
            break
        ended.append(number)
        total -= sizes[number]
    return ended
