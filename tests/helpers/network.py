"""Network namespaces on a switch of their own: nodes on one machine, each with its own address and its own files under one path."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PREFIX = "10.77.0"


class Network:
    """Needs root and a kernel that allows it; `missing()` says what is not there. Ends what it made, and nothing else."""

    def __init__(self) -> None:
        self.hub = f"wn{os.getpid()}"
        self.members: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="wnfiles"))
        _ip("netns", "add", self.hub)
        _ip("-n", self.hub, "link", "add", "switch", "type", "bridge")
        _ip("-n", self.hub, "link", "set", "switch", "up")

    @staticmethod
    def missing() -> str | None:
        """Why there can be no such network here; None if there can."""
        if os.geteuid() != 0:
            return "network namespaces need root"
        if shutil.which("ip") is None:
            return "network namespaces need the command ip"
        try:
            Network().close()
        except subprocess.CalledProcessError as error:
            return f"no network namespaces: {error.stderr.strip()}"
        return None

    def join(self) -> int:
        """One more member, with the address `address(member)`."""
        member = len(self.members) + 1
        name, port = f"{self.hub}-{member}", f"port{member}"
        _ip("netns", "add", name)
        self.members.append(name)
        _ip(*f"link add {port} netns {self.hub} type veth peer name eth0 netns {name}".split())
        _ip("-n", self.hub, "link", "set", port, "master", "switch")
        _ip("-n", self.hub, "link", "set", port, "up")
        _ip("-n", name, "addr", "add", f"{self.address(member)}/24", "dev", "eth0")
        for link in ("eth0", "lo"):
            _ip("-n", name, "link", "set", link, "up")
        _ip("-n", name, "route", "add", "default", "via", f"{PREFIX}.254")  # so that programs find their own address
        return member

    def address(self, member: int) -> str:
        return f"{PREFIX}.{member}"

    def inside(self, member: int, own: Path) -> list[str]:
        """The beginning of a command that runs there, where the folder `own` is a folder of the member's own."""
        private = self.folder / str(member)
        private.mkdir(exist_ok=True)
        script = f'mount --bind "{private}" "{own}" && exec "$@"'
        return ["ip", "netns", "exec", self.members[member - 1], "sh", "-c", script, "sh"]

    def close(self) -> None:
        for name in [*self.members, self.hub]:
            _ip("netns", "del", name)
        shutil.rmtree(self.folder, ignore_errors=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
