"""Decides what happens after each failure of a trial; docs/reliability.md shows the same rules as a table.

`diverged` and `failed` end the trial. After `out_of_memory` it is tried once more, with the same resources and smaller
micro-batches. The loss of a worker or node does not count against the trial as long as it makes progress: only consecutive losses
with no finished epoch in between are counted. A spot instance may therefore disappear any number of times, and a trial that kills
its own worker ends as `lost`.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from winnow.search.study.trials import OpenTrial

IDENTICAL_FAILURES = 3  # this many indicate a bug, which would only waste the rest of the budget
LOSSES_WITHOUT_PROGRESS = 3  # consecutive losses of its worker that a trial survives
MICRO_BATCHES = 4  # pieces of a batch in the second attempt of a trial that ran out of memory
DIED = f"its worker died {LOSSES_WITHOUT_PROGRESS + 1} times in a row without finishing an epoch in between"


class Losses:
    """Counts how often in a row a training loses its worker with no epoch finished in between."""

    def __init__(self) -> None:
        self._epoch = -1  # at the last loss
        self._count = 0

    def lost(self, epoch: int) -> bool:
        """Count a loss after `epoch` finished epochs; return whether the training continues from its checkpoint."""
        self._count = self._count + 1 if epoch == self._epoch else 1
        self._epoch = epoch
        return self._count <= LOSSES_WITHOUT_PROGRESS


class Failures:
    """Counts failures that must not repeat forever. The counts begin at zero with every start of the search."""

    def __init__(self) -> None:
        self.bug: str | None = None
        """The error that too many trials ended with: a traceback, or the message about lost workers."""
        self._trials: Counter[str] = Counter()  # headline of the error -> trials
        self._losses: defaultdict[int, Losses] = defaultdict(Losses)  # by the number of the trial

    def lost(self, trial: OpenTrial) -> bool:
        """Count a loss of the trial's worker; return whether it continues from its checkpoint."""
        return self._losses[trial.assignment.number].lost(trial.epoch)

    def ended(self, error: str) -> None:
        """Note the error that a trial ended with."""
        line = headline(error)
        self._trials[line] += 1
        if self._trials[line] >= IDENTICAL_FAILURES:
            self.bug = error


def headline(error: str) -> str:
    """Return the line of a traceback that names the exception, or the first line of a text without a traceback.

    CUDA's messages have several lines, and the last one is the same for every error.
    """
    lines = error.strip().splitlines()
    frames = [place for place, line in enumerate(lines) if line.startswith('  File "')]
    after = lines[frames[-1] + 1 :] if frames else lines
    return next((line for line in after if line and not line.startswith(" ")), lines[-1])
