"""Base class of objects that Tune must not pickle."""

from __future__ import annotations


class NotPickled:
    """Base of objects that are left out of Tune's pickled snapshot, because they hold open files. The snapshot is never read."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (NotPickled, ())
