"""Describes the problems of a space: their places, the nearest correct spellings, and one message for all of them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from winnow.spaces.errors import SpaceError

KeyPath = tuple[str | int, ...]
"""Keys and item numbers, from the root of a file or a config downwards."""

GRAMMAR_KEYS = ("choice", "of", "repeat", "int", "float", "log")


@dataclass(frozen=True)
class SourceMap:
    """The origin of each key of a space: a line of its file, or a `--set`. If several of the `overrides` set a key, the last one counts."""

    source: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    overrides: tuple[tuple[KeyPath, str], ...] = ()

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or of the nearest key around it; 0 if there is none."""
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), 0)

    def place(self, path: KeyPath) -> str:
        """Return where a key comes from: `FILE:LINE`, `--set ...`, or only the file."""
        for override_path, text in reversed(self.overrides):
            if path[: len(override_path)] == override_path:
                return f"--set {text}"
        for length in range(len(path), 0, -1):
            start = path[:length]
            if start in self.lines:
                return f"{self.source}:{self.lines[start]}"
            for override_path, text in self.overrides:
                if override_path[:length] == start:  # an override created this key
                    return f"--set {text}"
        return self.source


@dataclass(frozen=True)
class Problem:
    """A problem at a key path of the file. The message says what was given and what is allowed."""

    path: KeyPath
    message: str
    of_combination: bool = False
    """Whether each value is valid by itself, and only the combination is not."""

    def render(self, source_map: SourceMap) -> str:
        """Return the whole message, with the place, the key path and the problem."""
        shown = show_path(self.path)
        return (
            f"{source_map.place(self.path)}: {shown}: {self.message}"
            if shown
            else f"{source_map.place(())}: {self.message}"
        )


def refuse(problems: Iterable[Problem], source_map: SourceMap) -> None:
    """Report all problems as one error. Without problems, this does nothing.

    Args:
        problems: The problems, in any order.
        source_map: Lines of the keys in the file.

    Raises:
        SpaceError: There are problems; the message lists them in the order of the file.
    """
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: source_map.line(problem.path))
    lines = list(dict.fromkeys(problem.render(source_map) for problem in ordered))
    if lines:
        raise SpaceError("\n".join(lines))


def show_path(path: KeyPath) -> str:
    """Return a key path as text, such as `model.cnn.stages.filters`, without the words of the grammar."""
    kept = []
    for before, part in zip((None, *path), path, strict=False):
        if part not in GRAMMAR_KEYS and not (before == "choice" and isinstance(part, int)):
            kept.append(str(part))
    return ".".join(kept)


def nearest(word: object, known: Iterable[str]) -> str:
    """Return `; did you mean relu?` if a known word is close, otherwise an empty string.

    Args:
        word: The word that was written.
        known: The allowed words.
    """
    matches = difflib.get_close_matches(str(word).lower(), {name.lower(): name for name in known}, n=1, cutoff=0.6)
    match = next((name for name in known if matches and name.lower() == matches[0]), None)
    return f"; did you mean {match}?" if match else ""


def show_value(value: Any) -> str:
    """Return a value as YAML on one line, at most 80 characters."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = repr(text) if isinstance(value, str) else text.replace('"', "")
    return text if len(text) <= 80 else text[:77] + "..."


def show_list(words: Iterable[Any]) -> str:
    """Return values as text, separated by commas."""
    return ", ".join(word if isinstance(word, str) else show_value(word) for word in words)
