"""The glossary of the report. The meaning of a term is shown on hover and at the end of the page, to which the term links."""

from __future__ import annotations

import re

GLOSSARY = {
    "objective": "The metric that the search optimizes, computed on the validation images; it ranks the trials. With several objectives, the first one.",
    "rung": "An epoch at which a trial is compared with the others that reached it, and continues, pauses or is stopped.",
    "completed": "A trial that was trained to the end: for all its epochs, or until its own early stopping.",
    "stopped early": "A trial that was stopped at a rung because others were better there. Its last value is from fewer epochs.",
    "diverged": "A trial whose loss became infinite or not a number.",
    "baseline": "A reference config that the space names, retrained and tested beside the winners.",
    "gain": "How much better a winner is than the baseline on the test images.",
    "gap": "The value in the search minus the value on the test images. The best of many trials tends to look better than it is.",
    "95 % interval": (
        "A range that contains the true value in 95 of 100 repetitions with other seeds and other test images."
    ),
    "90 % interval": "A range that should contain the final objective of a training in 90 of 100 cases, predicted from its learning curve and those of the other trials.",
    "fANOVA": (
        "Functional analysis of variance (Hutter et al., 2014): a random forest of the trials' values is split into the shares "
        "that each parameter explains by itself."
    ),
    "balanced accuracy": "The mean over the classes of the share of their images that are classified correctly.",
    "macro F1": "The mean over the classes of the F1 score, the harmonic mean of precision and recall.",
    "precision": "The share of the images predicted as a class that belong to it.",
    "recall": "The share of the images of a class that are predicted as it.",
    "top5 accuracy": "The share of images whose class is among the five with the highest probabilities; always 1 with five classes or fewer.",
    "AUROC": "The area under the ROC curve of each class against the rest, mean over the classes; 50 % is chance.",
    "calibration error": "The mean distance between confidence and accuracy over bins of the confidence; 0 is best.",
    "front": "The completed trials of which no other is as good in all objectives and better in one.",
    "audit": "Stopped trials that are trained to the end anyway, to measure how often stopping was wrong.",
    "regret": "How far the best value found so far is from the best possible one. It is known only on benchmarks, where all values are.",
    "rho": "Spearman's rank correlation: 1 for the same order, 0 for no relation.",
    "tau": "Kendall's rank correlation: 1 for the same order, 0 for no relation.",
}
"""The meaning of each term, in one or two sentences."""

_BY_LOWER = {term.lower(): term for term in GLOSSARY}
_TERMS = re.compile(
    r"(?<![\w-])(" + "|".join(sorted(map(re.escape, GLOSSARY), key=len, reverse=True)) + r")(s?)(?![\w-])",
    re.IGNORECASE,
)


def anchor(term: str) -> str:
    """Return the id of a term in the glossary of a page.

    Args:
        term: A key of `GLOSSARY`.
    """
    return "term-" + re.sub(r"\W+", "-", term.lower())


def parts(text: str) -> list[tuple[str, str | None]]:
    """Split a text at the first occurrence of each term.

    Returns:
        (piece of the text, its term) for the whole text; the term is None for the pieces between the terms.
    """
    pieces: list[tuple[str, str | None]] = []
    seen: set[str] = set()
    end = 0
    for match in _TERMS.finditer(text):
        term = _BY_LOWER[match[1].lower()]
        if term in seen:
            continue
        seen.add(term)
        pieces += [(text[end : match.start()], None), (match[0], term)]
        end = match.end()
    return [(piece, term) for piece, term in [*pieces, (text[end:], None)] if piece]
