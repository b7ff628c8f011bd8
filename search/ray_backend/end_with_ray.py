"""Ends the command at once if a local Ray dies, and prints how to continue. Ray alone takes up to a minute and prints pages of text."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from winnow.search.resources.child_processes import child_processes

SERVERS = ("raylet", "gcs_server")
SHOW_CURSOR = "\x1b[?25h"  # the live view hides it
EXIT_CODE = 1


@contextmanager
def ending_with_ray(advice: str, seconds: float = 0.05) -> Iterator[None]:
    """End this process if a server of the Ray that it started dies within the context.

    Nothing is cleaned up, as if the process had been killed: everything that a run needs is already on the disk, and calls to a dead
    Ray may never return. A Ray that another process started, as on a cluster, is not watched.

    Args:
        advice: How to continue; printed to standard error.
        seconds: Seconds between two checks. It must be short, since Ray's agents print within a second.
    """
    servers = own_servers()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(seconds):
            if any(map(_is_dead, servers)) and not done.is_set():
                cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
                text = f"{cursor}winnow: a server of Ray ended, perhaps killed for lack of memory. {advice}\n"
                os.write(2, text.encode("utf-8", "replace"))
                os._exit(EXIT_CODE)

    if servers:
        threading.Thread(target=watch, daemon=True, name="ending with Ray").start()
    try:
        yield
    finally:
        done.set()


def own_servers() -> list[psutil.Process]:
    """Return Ray's servers that this process started."""
    return child_processes(SERVERS)


def _is_dead(server: psutil.Process) -> bool:
    try:
        return server.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
