"""Nodes on addresses of their own, in network namespaces: the search goes over a network, as between machines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.network import Network
from tests.nodes import Nodes
from tests.test_cluster import ON_DECLARED_GPUS, Desk, _check_results

HELLO = "import socket; print(socket.create_connection(('{}', 7777), timeout=5).getsockname()[0])"
LISTEN = "import socket; s = socket.create_server(('{}', 7777)); print('ready', flush=True); s.accept(); s.accept()"


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if (missing := Network.missing()) is not None:
        pytest.skip(missing)
    made = Network()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.slow
def test_members_reach_each_other_and_have_files_of_their_own(network, tmp_path):
    one, two = network.join(), network.join()
    python = (sys.executable, "-c")
    listening = subprocess.Popen(
        [*network.inside(one, tmp_path), *python, LISTEN.format(network.address(one))], stdout=subprocess.PIPE
    )
    assert listening.stdout is not None
    listening.stdout.readline()
    hello = HELLO.format(network.address(one))
    said = subprocess.run([*network.inside(two, tmp_path), *python, hello], capture_output=True, text=True)
    assert said.stdout.strip() == network.address(two)
    here = subprocess.run(["ip", "addr"], capture_output=True, text=True, check=True).stdout
    assert network.address(one) not in here  # the network is no part of this machine's own
    listening.kill()
    listening.wait()
    subprocess.run([*network.inside(one, tmp_path), "touch", str(tmp_path / "mine")], check=True)
    assert not (tmp_path / "mine").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_over_nodes_with_addresses_of_their_own(network, tmp_path):
    nodes, shared = Nodes(network=network), {"WITNESS": str(tmp_path)}
    try:
        nodes.head(cpus=1, **shared)
        for name, gpus in (("one", 1), ("two", 2), ("three", 1)):
            nodes.worker(name, cpus=gpus, gpus=gpus, **shared)
        desk = Desk(tmp_path, nodes)
        slowly = ("--set", "epochs=40", "--grace-epochs", "40", "--set", "model.pace=0.02", "--trials", "8")
        code, errors = desk.winnow("run", "space.yaml", *ON_DECLARED_GPUS, "--name", "apart", *slowly)
        assert code == 0, errors
    finally:
        nodes.stop()
    notes = desk.notes()
    gpus = {(note["address"], *note["gpus"]) for note in notes}
    workers = [network.address(nodes.members[name]) for name in ("one", "two", "three")]
    assert {address for address, _ in gpus} == set(workers)
    assert len(gpus) == 4  # every declared GPU; one that was taken twice would have failed a trial
    _check_results(tmp_path / "runs" / "apart", num_trials=8)
