"""docs/cluster.md as a reader follows it. The nodes are real ones on this machine; of AWS there is what Ray says of the lines."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_docs_followed import TINY
from tests.helpers.doc_blocks import Reader, blocks, command_of, index_is_reached
from tests.helpers.nodes import ENVIRONMENT, STORE_BYTES, end_with_children, free_port
from tests.helpers.served_cifar import Served, served_cifar
from winnow.search.storage.json_lines import read_json_lines

PAGE = "docs/cluster.md"
# `ray start` with one CPU, small, in the foreground of a session that the test can end: `ray stop` would end every Ray of this machine.
RAY_START = """
if [ "$1" = start ]; then
    shift
    case "$*" in *--head*) set -- "$@" --temp-dir={folder};; esac
    setsid python -m ray.scripts.scripts start --block --disable-usage-stats --node-ip-address=127.0.0.1 \\
        --num-cpus=1 --num-gpus=0 --object-store-memory={store} "$@" >{folder}/$$.out 2>&1 &
    echo $! >{folder}/$!.pid
    until grep -q "Ray runtime started" {folder}/$$.out; do
        kill -0 $! || {{ cat {folder}/$$.out >&2; exit 1; }}
        sleep 0.2
    done
    exit
fi
exec python -m ray.scripts.scripts "$@"
"""
# Ray parses its line and reads the cluster's file; what shall run on the head is parsed as Winnow does. Nothing is rented.
RAY_LAUNCHER = """
import shlex, sys
import click, yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray
from winnow.search.cli.main import cli as winnow

def parse(group, words):
    return group.commands[words[0]].make_context(words[0], words[1:]).params

asked = parse(ray, sys.argv[1:])
validate_config(prepare_config(yaml.safe_load(open(asked["cluster_config_file"]))))
if sys.argv[1] == "exec":
    change, command = asked["cmd"].split(" && ")
    words = shlex.split(command)
    assert (change, words[0]) == ("cd winnow", ".venv/bin/winnow"), asked["cmd"]
    print("would run", parse(winnow, words[1:])["name"])
print("ray takes", sys.argv[1])
"""


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    with served_cifar(tmp_path / "served") as found:
        yield found


@pytest.fixture
def reader(tmp_path, served, monkeypatch) -> Iterator[Reader]:
    """At the first machine; `ray start` starts nodes that end with the test."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    port, dashboard = free_port(), free_port()
    places = {
        "/shared": str(tmp_path / "shared"),
        "HEAD:8265": f"127.0.0.1:{dashboard}",
        "HEAD": "127.0.0.1",
        "6379": str(port),
        "8265": str(dashboard),
    }
    found = Reader(tmp_path / "reader", places=places, preamble=served.preamble)
    found.folder.mkdir()
    nodes = Path(tempfile.mkdtemp(prefix="wn"))  # Ray's sockets lie in it, and their paths must be short
    found.stand_in("ray", RAY_START.format(folder=nodes, store=STORE_BYTES))
    try:
        yield found
    finally:
        for pid in nodes.glob("*.pid"):
            end_with_children(int(pid.stem))
        shutil.rmtree(nodes, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nodes_started_by_hand(reader, served, tmp_path):
    for block in blocks(PAGE, "Data"):
        reader.follow(block)
    assert ", as it was prepared before" in reader.output
    assert served.requests == ["/cifar100.tar.gz"]
    reader.cheap = {"run": f"{TINY} --trials 4 --top 1 --seeds 1"}
    for block in blocks(PAGE, "Nodes started by hand"):
        reader.follow(block)
    (run,) = (tmp_path / "shared" / "runs").iterdir()
    lines = list(read_json_lines(run / "epochs.jsonl"))
    assert {line["trial"] for line in lines if line["phase"] == "search"} == {0, 1, 2, 3}
    assert "2 nodes are ready" in reader.output
    assert "Retrained, tested once" in reader.output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_launcher_takes_the_lines(reader, tmp_path):
    _needs_the_index()
    (tmp_path / "launcher.py").write_text(RAY_LAUNCHER)
    reader.stand_in("ray", f'exec python "{tmp_path / "launcher.py"}" "$@"\n')
    shutil.copy("cluster.yaml", reader.folder)
    for block in blocks(PAGE, "AWS, with Ray's launcher"):
        reader.follow(block)
    said = [line for line in reader.output.splitlines() if line.startswith(("ray takes", "would run"))]
    assert said == ["ray takes up", "would run first", "ray takes exec", "ray takes attach", "ray takes down"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_ray_job(reader, tmp_path):
    """The lines one after the other, since two of them watch until they are told to stop."""
    _needs_the_index()
    (block,) = blocks(PAGE, "As a Ray job, detached")
    submit, show, logs, stop = block.text.splitlines()
    reader.cheap = {"run": "--set epochs=60 --set search.grace_epochs=60 --trials 6 --top 1 --seeds 1"}
    reader.shell('pip install "ray[default]"')
    reader.shell(f"ray start --head --port=6379 --dashboard-port=8265 --dashboard-agent-listen-port={free_port()}")
    reader.shell(submit)
    run = tmp_path / "shared" / "runs" / "first"
    _wait(lambda: len(_epochs(run)) >= 20)
    reader.shell(f"timeout --signal=INT --preserve-status 5 {command_of(show)} || [ $? = 130 ]")
    assert "1 unfinished of 6 requested" in reader.output
    reader.shell(f"timeout 10 {command_of(logs)} || [ $? = 124 ]")
    assert "Running entrypoint for job first: winnow run digits --address auto" in reader.output
    reader.shell(stop)
    assert "Job 'first' was stopped" in reader.output
    stopped = _epochs(run)
    assert len(stopped) < 360
    # A Ray of somebody else might be found here by `auto`.
    reader.shell(stop.partition("# then: ")[2].replace("--address auto", "--address HEAD:6379"))
    epochs = _epochs(run)
    assert epochs[: len(stopped)] == stopped
    assert sorted(epochs) == [(trial, epoch) for trial in range(6) for epoch in range(1, 61)]


def _epochs(run: Path) -> list[tuple[int, int]]:
    file = run / "epochs.jsonl"
    lines = read_json_lines(file) if file.exists() else []
    return [(line["trial"], line["epoch"]) for line in lines if line["phase"] == "search"]


def _wait(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.5)


def _needs_the_index() -> None:
    if not index_is_reached():
        pytest.skip("no package index is reached, and the page says `pip install`")
