"""Starts a local Ray without three of its processes, which serve features that are not used here.

Ray (2.60) has no settings for this. A test checks that each patched function still exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from ray._private.node import Node

UNUSED = {
    "start_api_server": "the server of the dashboard. Without a dashboard it only reports usage statistics, which are off",
    "start_monitor": "the autoscaler, which would start further machines",
    "start_log_monitor": "the process that sends what workers print to the driver, which does not ask for it",
}
"""Methods of Ray's node that start a process, and what the process is."""


@contextmanager
def lean_ray() -> Iterator[None]:
    """Let `ray.init` start a local Ray without its dashboard's server, its autoscaler and its log monitor.

    Each is a Python process that imports Ray. The start would also wait until the first one answers (measured,
    docs/decisions/0040-a-local-ray-without-idle-servers.md).
    """

    def nothing(node: Node, **options: object) -> None:
        """Start no process."""

    with ExitStack() as patches:
        for name in UNUSED:
            patches.enter_context(patch.object(Node, name, nothing))
        yield
