"""The classes of failure of a search: what each means, how many trials met it, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

CLASSES: dict[str, tuple[str, str]] = {
    "diverged": ("the loss was not finite", "ended at once and told to the sampler as failed; not tried again"),
    "out_of_memory": (
        "out of memory, also in a second try",
        "the second try was alone on its GPU, with each batch in pieces; then ended",
    ),
    "failed": ("an error, as of a model of your own", "ended; the search stops at the third with the same last line"),
    "lost": ("its worker died again and again with no epoch finished in between", "ended after the fourth time"),
    "recovered": ("its worker or node was lost", "went on from its checkpoint, not charged to the trial"),
    "in pieces": ("out of memory once", "tried once more alone on its GPU, with each batch in pieces"),
}


def class_rows(trials: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, str, str]]:
    """(class, trials, meaning, action), those of no trial included: a zero is good news. `trials` are rows of that table.

    The last two classes are trials that something befell and that went on; each trial counts in any number of classes.
    """
    trials = list(trials)
    counts = {name: sum(row["status"] == name for row in trials) for name in CLASSES}
    counts["recovered"] = sum(row["worker_losses"] > 0 and row["status"] != "lost" for row in trials)
    counts["in pieces"] = sum(row["micro_batches"] > 1 and row["status"] != "out_of_memory" for row in trials)
    return [(name, counts[name], *about) for name, about in CLASSES.items()]
