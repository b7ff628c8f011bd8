"""Serves the reports of runs on this machine. A page is created when it is requested, so that it shows the current state of the run."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from winnow import reports
from winnow.search.storage.run_folder import open_run
from winnow.search.views.follow import in_use
from winnow.spaces.errors import InputError

HOST = "127.0.0.1"
SECONDS_BETWEEN = 15
"""Seconds after which the browser reloads the page of a running search."""


class ReportServer(ThreadingHTTPServer):
    """Answers GET with the reports of some runs. It reads the run folders and writes nothing.

    Args:
        runs: The run folders, by their name in the address.
        port: Port on 127.0.0.1; 0 for any free one.
    """

    daemon_threads = True

    def __init__(self, runs: Mapping[str, Path], port: int) -> None:
        self.runs = dict(runs)
        self._made: dict[str, tuple[object, str]] = {}
        self._lock = threading.Lock()
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def report(self, name: str) -> str:
        """Return the page of a run. While nothing has changed, the last page is returned again."""
        from winnow.reports.html.page import page
        from winnow.reports.reading.parquet_reader import fingerprint

        path = self.runs[name]
        with self._lock:  # creating two pages at once would take twice the memory, and the search needs the CPUs
            now = fingerprint(path)
            if self._made.get(name, (None, ""))[0] != now:
                self._made[name] = (now, page(reports.read(path)))
            return self._made[name][1]

    def index(self) -> str:
        """Return the page that lists the runs."""
        from winnow.reports.html.templating import render

        rows = [(quote(name), name, in_use(path)) for name, path in self.runs.items()]
        return render("runs.html", runs=rows)


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        # Without this, another site could reach this server through a host name that resolves to this machine.
        if self.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN, "only for this machine")
            return
        name = unquote(urlsplit(self.path).path).strip("/")
        if name and name not in self.server.runs:
            self.send_error(HTTPStatus.NOT_FOUND, "no such run")
            return
        try:
            text = self.server.report(name) if name else self.server.index()
        except InputError as error:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the run cannot be read", str(error))
            return
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if not name or in_use(self.server.runs[name]):
            self.send_header("Refresh", str(SECONDS_BETWEEN))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing about a request."""


def make_server(runs: Sequence[Path | str], port: int) -> ReportServer:
    """Create a server for some runs; its `serve_forever` serves them.

    Args:
        runs: Run folders, or their names under `runs/`; empty for all runs under `runs/`.
        port: Port on 127.0.0.1; 0 for any free one.

    Returns:
        The server.

    Raises:
        InputError: There is no such run, two have the same name, or the port is taken.
    """
    chosen = [str(run) for run in runs] or sorted(str(file.parent) for file in Path("runs").glob("*/study.yaml"))
    if not chosen:
        raise InputError("there is no run under runs/ yet; name a run folder")
    folders: dict[str, Path] = {}
    for run in chosen:
        path = open_run(run).path
        if folders.setdefault(path.resolve().name, path) != path:
            raise InputError(f"{run}: another run named {path.name} is already served; serve them one at a time")
    try:
        return ReportServer(folders, port)
    except OSError as error:
        raise InputError(
            f"--port {port}: cannot be used ({error.strerror or error}); choose another, or 0 for any"
        ) from error
