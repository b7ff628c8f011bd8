"""`winnow serve`: the same page as in the report folder, always of the run as it is now, read-only and only for this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.make_run import make_run
from winnow.search.operations.serving import ReportServer, make_server
from winnow.spaces.errors import InputError


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportServer]:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b c"):
        make_run(tmp_path / "runs" / name, "searching", trials=6)
    server = make_server([], 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def asked(
    server: ReportServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, dict[str, str], str]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{server.server_port}"})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode()


def test_the_page_follows_the_run(served: ReportServer, tmp_path: Path) -> None:
    status, _, index = asked(served, "/")
    assert status == 200
    assert '<a href="/b%20c">b c</a>' in index
    run = tmp_path / "runs" / "a"
    before = sorted(path.name for path in run.iterdir())
    status, headers, page = asked(served, "/a")
    assert (status, "Refresh" in headers) == (200, False)
    assert "<h1>a</h1>" in page
    assert sorted(path.name for path in run.iterdir()) == before, "nothing is written"
    assert asked(served, "/a")[2] == page, "nothing has changed, so the page is not made again"
    lines = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    with (run / "epochs.jsonl").open("a") as file:
        file.write(json.dumps({**lines[-1], "epoch": lines[-1]["epoch"] + 1}) + "\n")
    with FileLock(run / ".lock"):
        _, headers, later = asked(served, "/a")
    assert later != page
    assert "Refresh" in headers, "a process works on it"


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [("/absent", "GET", None, 404), ("/../a/study.yaml", "GET", None, 404), ("/a", "POST", None, 501), ("/", "GET", "evil.example:80", 403)],
)  # fmt: skip
def test_what_is_refused(served: ReportServer, path: str, method: str, host: str | None, status: int) -> None:
    assert asked(served, path, method, host)[0] == status


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: ReportServer) -> None:
    with pytest.raises(InputError, match=r"--port \d+: cannot be used"):
        make_server(["a"], served.server_port)
    make_run(tmp_path / "elsewhere" / "a", "empty")
    with pytest.raises(InputError, match="another run named a"):
        make_server(["a", "elsewhere/a"], 0)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no run under runs/"):
        make_server([], 0)
