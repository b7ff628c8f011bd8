"""Limits the number of paused trials and the total size of their checkpoints.

Running trials are not limited: there are only as many of them as workers.
"""

from __future__ import annotations

from collections.abc import Collection

from winnow.search.schedulers.pausing import Pausing
from winnow.search.storage import remote as storage
from winnow.search.storage.run_folder import RunFolder

MOST_PAUSED = 200  # the sampler goes through all of them for every free worker


class Quota:
    """Checkpoint quota of one run. Sizes are cached, since each query is a request to the object store."""

    def __init__(self, folder: RunFolder, gigabytes: float) -> None:
        self._folder = folder
        self._bytes = gigabytes * 1e9
        self._sizes: dict[int, int] = {}

    def beyond(self, paused: Collection[int], rule: Pausing) -> list[int]:
        """Return the paused trials that must end so that the others fit, starting with the worst at their last rung.

        Such a trial counts as stopped at its rung: the sampler keeps its values, but its training cannot continue.

        Args:
            paused: Numbers of all paused trials.
            rule: The scheduler, which ranks the trials of each rung.
        """
        known = self._sizes
        self._sizes = {n: known[n] if n in known else storage.size(self._folder.checkpoint(n)) for n in paused}
        total, left = sum(self._sizes.values()), len(self._sizes)
        if total <= self._bytes and left <= MOST_PAUSED:
            return []
        ended, shares = [], rule.shares_better(paused)
        for number in sorted(shares, key=lambda number: (-shares[number], number)):
            if total <= self._bytes and left <= MOST_PAUSED:
                break
            ended.append(number)
            total -= self._sizes[number]
            left -= 1
        return ended
