"""Turns the values of a table into labels, groups and paths."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from winnow.search.data.foreign import foreign, shown
from winnow.search.data.listing import text_array
from winnow.spaces.errors import InputError


def whole_numbers(values: np.ndarray, where: str) -> np.ndarray:
    """Convert numbers that are whole to int64.

    Args:
        values: Integers or floats [N].
        where: The column, as it is named in errors.

    Returns:
        The class numbers, int64 [N].

    Raises:
        InputError: A number is not whole, not finite, or too large; the first such row is named.
    """
    # Floats of 2^53 and above skip whole numbers, so that two classes could become one.
    least, most = (-(2**53) + 1, 2**53 - 1) if values.dtype.kind == "f" else (-(2**63), 2**63 - 1)
    large = np.flatnonzero(np.isfinite(values) & ((values > most) | (values < least)))
    if len(large):
        raise InputError(
            f"{where}: row {large[0]} is {values[large[0]]}, too large for a class number; write classes as text"
        )
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    fractions = np.flatnonzero(~(np.isfinite(values) & (values == np.round(values))))
    if len(fractions):
        raise InputError(
            f"{where}: row {fractions[0]} is {values[fractions[0]]}, but classes are whole numbers or text"
        )
    return values.astype(np.int64)


def one_hot_labels(columns: Sequence[np.ndarray], names: Sequence[str], where: str) -> np.ndarray:
    """Return which of K columns holds the 1 in each row.

    Args:
        columns: K arrays [N] of zeros and ones.
        names: Names of the K columns, for errors.
        where: The table, as it is named in errors.

    Returns:
        Class numbers in [0, K - 1], int64 [N].

    Raises:
        InputError: A row does not consist of one 1 and zeros; the first such row is named.
    """
    with foreign(where, "one-hot table"):
        matrix = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    wrong = np.flatnonzero(~(np.isin(matrix, (0.0, 1.0)).all(1) & (matrix.sum(1) == 1)))
    if len(wrong):
        row = dict(zip(names, matrix[wrong[0]].tolist(), strict=True))
        ones = [shown(str(name)) for name, value in row.items() if value]
        raise InputError(
            f"{where}: row {wrong[0]} is not one-hot ({'nothing is set' if not ones else 'set: ' + ', '.join(ones[:5])}); every "
            f"image needs exactly one class ({len(wrong)} of {len(matrix)} rows are so)"
        )
    return matrix.argmax(1).astype(np.int64)


def groups_of(paths: Sequence[str], pattern: str) -> np.ndarray:
    """Search each path for a pattern, and return the text that its group in parentheses matches.

    Args:
        paths: N paths or other texts.
        pattern: A regular expression with one group, such as `patient(\\d+)`.

    Returns:
        An object array of str [N].

    Raises:
        InputError: The pattern has no group, or is not found in a path; the first such path is
            named.
    """
    search = re.compile(pattern).search
    if not re.compile(pattern).groups:
        raise InputError(
            f"data.groups: {pattern!r} is neither a column nor a pattern with one group in parentheses, such as 'patient(\\d+)'"
        )
    matches = [search(path) for path in paths]
    missing = [path for path, match in zip(paths, matches, strict=True) if match is None or match.group(1) is None]
    if missing:
        raise InputError(
            f"data.groups: {pattern!r} is not found in {len(missing)} of {len(paths)} paths, the first: {shown(missing[0])}"
        )
    return text_array(match.group(1) for match in matches if match is not None)
