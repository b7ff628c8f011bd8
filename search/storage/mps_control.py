"""The control program of CUDA MPS. It passes commands to a daemon, which it finds by the folder of the daemon's pipes."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

CONTROL = "nvidia-cuda-mps-control"
QUIT_SECONDS = 10.0


def variables(folder: str) -> dict[str, str]:
    """Return the environment variables by which a daemon and the processes that use it find its pipes and logs.

    Args:
        folder: The folder of the pipes and logs.
    """
    return dict.fromkeys(("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"), folder)


def quit_daemon(folder: str) -> None:
    """Tell the daemon of a folder, if one still runs, to end as soon as no process uses it.

    Args:
        folder: The folder of its pipes and logs, which exists.
    """
    with suppress(
        OSError, subprocess.SubprocessError
    ):  # the program is gone, or the daemon waits for a process that still uses it
        subprocess.run(
            [CONTROL],
            input=b"quit\n",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=QUIT_SECONDS,
            env={**os.environ, **variables(folder)},
        )
