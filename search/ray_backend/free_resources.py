"""Names the Ray resources that are in use elsewhere, so that the user can distinguish a wait from a hang."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lacking(ray: Any, needs: Mapping[str, float], who: str) -> str:
    """Describe the resources of which Ray has too little now, such as `Ray has 2 CPUs, 0 are free, and a trial needs 1`.

    Args:
        ray: The initialised `ray` module.
        needs: Required amounts, by `cpu` and `gpu`.
        who: The part that needs them, such as `a trial`.

    Returns:
        One clause for each resource, joined by semicolons; empty if there is enough of each.
    """
    total, free = ray.cluster_resources(), ray.available_resources()
    return "; ".join(
        f"Ray has {total.get(key, 0.0):g} {key}s, {free.get(key, 0.0):g} are free, and {who} needs {amount:g}"
        for key, amount in ((name.upper(), amount) for name, amount in needs.items())
        if free.get(key, 0.0) < amount
    )
