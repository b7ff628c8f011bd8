"""Wrapper of values that Tune must not pickle."""

from __future__ import annotations


class NotPickled:
    """Base of objects that are left out of the snapshot that Tune pickles, because they hold open files. The snapshot is never read."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (NotPickled, ())
