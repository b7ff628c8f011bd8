"""Ray nodes as processes of their own, on one machine: what a cluster is made of, with declared GPUs and small stores."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.network import Network

STORE_BYTES = 150_000_000
# A Ray that was once started by `ray.init` leaves a token, and from then on asks for it on this machine.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "60", "RAY_USAGE_STATS_ENABLED": "0"}


class Nodes:
    """A head, and workers that come and go. Ends what it started, and nothing else."""

    def __init__(self, python: Path | None = None, network: Network | None = None, **environment: str) -> None:
        """`environment` is that of all nodes. With a `network` every node has an address of its own, and sees its own files in `folder`."""
        self.folder = Path(tempfile.mkdtemp(prefix="wn"))  # Ray's sockets lie in it, and their paths must be short
        self.network = network
        self.environment = environment
        self.members: dict[str, int] = {}
        self.python = python or Path(sys.executable)
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        return f"{self._host('head')}:{self.port}"

    def inside(self, name: str) -> list[str]:
        """The beginning of a command that is to run where this node runs."""
        return [] if self.network is None else self.network.inside(self.members[name], self.folder)

    def _host(self, name: str) -> str:
        if self.network is None:
            return "127.0.0.1"
        if name not in self.members:
            self.members[name] = self.network.join()
        return self.network.address(self.members[name])

    def head(self, *, cpus: int, gpus: int = 0) -> None:
        self._start(
            "head",
            self.python,
            (
                "--head",
                f"--port={self.port}",
                f"--node-ip-address={self._host('head')}",
                "--include-dashboard=false",
                f"--temp-dir={self.folder}",
            ),
            cpus,
            gpus,
        )
        self.wait()

    def worker(self, name: str, *, cpus: int, gpus: int = 0, python: Path | None = None, **environment: str) -> None:
        """One more node, called by its `name` (a resource of that name, to find it again)."""
        where = (f"--node-ip-address={self._host(name)}", f"--address={self.address}", f'--resources={{"{name}": 1}}')
        self._start(name, python or self.python, where, cpus, gpus, **environment)
        self.wait()  # several at once are too much for a busy machine

    def remove(self, name: str) -> None:
        """As a machine goes: no goodbye."""
        process = self.processes.pop(name)
        end_with_children(process.pid)
        process.wait()

    def wait(self, seconds: float = 90) -> None:
        """Until every node that was started says that it runs."""
        deadline = time.monotonic() + seconds
        for name, process in self.processes.items():
            said = self.folder / f"{name}.out"
            while "Ray runtime started" not in said.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"node {name} did not start:\n{said.read_text()}")
                time.sleep(0.2)

    def stop(self) -> None:
        for name in sorted(self.processes, key=lambda name: name == "head"):
            self.remove(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, name: str, python: Path, where: Sequence[str], cpus: int, gpus: int, **environment: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHONPATH", "VIRTUAL_ENV"))}
        self.processes[name] = subprocess.Popen(
            [
                *self.inside(name),
                *(str(python), "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
                *(f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={STORE_BYTES}"),
                *where,
            ],
            cwd=self.folder,  # nothing of Winnow lies there
            env={**kept, **ENVIRONMENT, **self.environment, **environment},
            stdout=(self.folder / f"{name}.out").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def bare_python(folder: Path, versions: dict[str, str] | None = None) -> Path:
    """A Python with every installed package except Winnow, as a node's image would have it.

    `versions` lets a package claim another version, or `python` itself.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    target = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "winnow" in entry.name.lower() or entry.suffix == ".pth" or entry.name == "__pycache__":
            continue
        (target / entry.name).symlink_to(entry)
    versions = dict(versions or {})
    if python := versions.pop("python", None):
        (target / "claim.pth").write_text(f"import platform; platform.python_version = lambda: {python!r}\n")
    for package, version in versions.items():
        (found,) = target.glob(f"{package}-*.dist-info")
        metadata = (found / "METADATA").read_text()
        found.unlink()
        (target / f"{package}-{version}.dist-info").mkdir()
        old = found.name.removeprefix(f"{package}-").removesuffix(".dist-info")
        claimed = metadata.replace(f"Version: {old}", f"Version: {version}", 1)
        (target / f"{package}-{version}.dist-info" / "METADATA").write_text(claimed)
    return folder / "bin" / "python"


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def end_with_children(pid: int) -> None:
    for found in [*descendants(pid), pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Children first found last, from /proc."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [*descendants(int(child)), int(child)]
    return found
