"""Names the resources of Ray that are used by others, so that a wait can be told from a hang."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lacking(ray: Any, needs: Mapping[str, float], who: str) -> str:
    """Return what Ray has too little of at the moment, such as `Ray has 2 CPUs, 0 are free, and a trial needs 1`.

    Args:
        ray: The initialised `ray` module.
        needs: Amounts of `cpu` and `gpu`.
        who: What needs them, such as `a trial`.

    Returns:
        One clause for each resource, joined by semicolons; empty if there is enough of each.
    """
    total, free = ray.cluster_resources(), ray.available_resources()
    return "; ".join(
        f"Ray has {total.get(key, 0.0):g} {key}s, {free.get(key, 0.0):g} are free, and {who} needs {amount:g}"
        for key, amount in ((name.upper(), amount) for name, amount in needs.items())
        if free.get(key, 0.0) < amount
    )
