"""The views of an image that the final test and predictions average, which are no part of training and validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VIEWS = ("test_flip", "test_shift")
"""Keys of a config that change only these views."""


def num_views(config: Mapping[str, Any]) -> int:
    """Return how many times the network sees each image of the final test.

    Args:
        config: A config as plain values. Keys may be missing, which means a single view.
    """
    return (2 if config.get("test_flip") else 1) * (3 if config.get("test_shift") else 1)
