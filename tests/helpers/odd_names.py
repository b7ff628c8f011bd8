"""Class names that HTML or Plotly could take for something else, and how they are shown."""

from __future__ import annotations

ODD_NAMES = (
    "<b>bold</b>",
    "a & b",
    "&lt;",
    '"quo\'ted"',
    "<br>",
    "bell\x07",
    "two\nlines",
    "mark\u202eed",
    "<script>",
    "$x^2$",
)


SHOWN_NAMES = ("<b>bold</b>", "a & b", "&lt;", "\"quo'ted\"", "<br>", "bell\u2407", "two\u240alines", "mark\\u202eed", "<script>", "$x^2$")  # fmt: skip
