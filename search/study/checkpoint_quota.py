"""A bound on what waits: checkpoints of paused trials on disk, and trials for the forecast to choose from.

Trials that run are never touched: there are as many of them as workers.
"""

from __future__ import annotations

from collections.abc import Collection

from winnow.search.schedulers.pausing import Pausing
from winnow.search.storage import remote as storage
from winnow.search.storage.run_folder import RunFolder

MOST_PAUSED = 200  # the forecast goes through all of them for every free worker


class Quota:
    """Of one run. Its checkpoints are measured once each: in an object store that is a request."""

    def __init__(self, folder: RunFolder, gigabytes: float) -> None:
        self._folder = folder
        self._bytes = gigabytes * 1e9
        self._sizes: dict[int, int] = {}

    def beyond(self, paused: Collection[int], rule: Pausing) -> list[int]:
        """The paused trials that must end for the others to fit, those first that stand worst at their last rung.

        A trial that is ended so counts as stopped at its rung: its values stay with the sampler, and only its training cannot go on.
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
