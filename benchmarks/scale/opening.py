"""Measures how soon a page answers clicks in headless Chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
)
MAX_SECONDS = 120.0
# The first idle moment after loading: all scripts that draw at once have run, and a click would be answered.
REPORTING = """<script>
window.addEventListener("load", () => requestAnimationFrame(() => requestIdleCallback(() =>
  fetch("http://127.0.0.1:PORT/?milliseconds=" + performance.now(), { mode: "no-cors" }))));
</script>"""
POLICY = re.compile(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>")
"""The page may reach nothing, not even the server that waits for its report."""


def opening_seconds(page: Path) -> float | None:
    """Open a page and measure the time from the start of its navigation to its first idle moment after loading.

    Args:
        page: An HTML file that needs no other file.

    Returns:
        Seconds, as the browser's own clock counts them, without its start; None where no Chromium is installed.

    Raises:
        TimeoutError: The page was not idle within 120 seconds.
    """
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        return None
    told: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.extend(float(value) for value in parse_qs(urlsplit(self.path).query).get("milliseconds", []))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with tempfile.TemporaryDirectory() as folder, HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.timeout = MAX_SECONDS
        html = POLICY.sub("", page.read_text(encoding="utf-8"), count=1)
        copy = Path(folder, "page.html")
        copy.write_text(html.replace("<head>", "<head>" + REPORTING.replace("PORT", str(server.server_port)), 1))
        window = (*OPTIONS, f"--user-data-dir={folder}/profile", "--window-size=1400,1000", "--remote-debugging-port=0")
        process = subprocess.Popen(
            [browser, *window, copy.as_uri()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            server.handle_request()
        finally:
            process.kill()
            process.wait()
    if not told:
        raise TimeoutError(f"{page} was not idle within {MAX_SECONDS:.0f} s")
    return told[0] / 1000
