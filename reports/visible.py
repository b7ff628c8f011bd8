"""Makes characters visible that a browser would hide, drop or interpret, for texts that come from a user or from data."""

from __future__ import annotations

import re
from html import escape

from rich.markup import escape as markup_escape

_HIDDEN = re.compile(
    "[\u061c\u200b\u200e\u200f\u2060\ufeff\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BREAKS = re.compile(r"[\t\n]")


def visible(text: str) -> str:
    """Replace control characters, direction overrides and lone surrogates by visible symbols. Tabs and newlines stay."""
    return _HIDDEN.sub(_sign, text)


def rich_text(text: str) -> str:
    """Escape a text so that Rich shows it unchanged. Rich interprets `[b]` in every text, and passes escape sequences to the terminal."""
    return markup_escape(visible(text))


def plotly_text(text: str) -> str:
    """Escape a text so that Plotly shows it unchanged on one line. Plotly interprets `<b>`, `<br>` and entities in every label."""
    return escape(_BREAKS.sub(_sign, visible(text)), quote=False)


def _sign(match: re.Match[str]) -> str:
    """Return the matching character of the block Control Pictures, or an escape such as `\\u202e` if there is none."""
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\\u{code:04x}"
