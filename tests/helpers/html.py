"""Reads what a page says."""

from __future__ import annotations

import html
import re


def page_text(page: str) -> str:
    """The text of a page without its tags, such as the links of terms to the glossary, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())
