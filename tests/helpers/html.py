"""Reads what a page says."""

from __future__ import annotations

import html
import re

CONSTANTS = re.compile(r"\b(9[05]|75)\s%|\bF1\b|--audit 0\.1|\b1x1\b|conv\dx\d")
"""Numbers that are no results: the levels of intervals, names, and options to type."""


def page_text(page: str) -> str:
    """The text of a page without its tags, such as the links of terms to the glossary, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())
