"""Wrapper of values that Tune must not pickle."""

from __future__ import annotations


class NotPickled:
    """Left out of the snapshot that Tune pickles and nobody reads, because it holds open files."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (NotPickled, ())
