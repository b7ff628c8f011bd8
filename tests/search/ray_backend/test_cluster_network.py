"""Nodes on addresses of their own, in network namespaces: the search goes over a network, as between machines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY
from tests.docs.test_docs_followed import TINY
from tests.helpers.doc_blocks import Reader, blocks, command_of
from tests.helpers.network import Network
from tests.helpers.nodes import Nodes
from tests.helpers.served_cifar import served_cifar
from tests.search.ray_backend.test_cluster import ON_DECLARED_GPUS, Desk, _check_results
from winnow.search.storage.json_lines import read_json_lines

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
    nodes = Nodes(network=network, WITNESS=str(tmp_path))
    try:
        nodes.head(cpus=1)
        for name, gpus in (("one", 1), ("two", 2), ("three", 1)):
            nodes.worker(name, cpus=gpus, gpus=gpus)
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


SCONTROL = "printf '%s\\n' {members}\n"
GETENT = "echo {head} STREAM\n"
# `ray symmetric-run` ends every Ray that it sees, so each member has processes of its own as well; and its own name.
SRUN = """while [[ $1 == --* ]]; do shift; done
started=()
for member in {members}; do
    ip netns exec $member unshare --uts --pid --fork --mount-proc --kill-child \
        sh -c 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"' $member "$@" &
    started+=($!)
done
code=0
for process in "${{started[@]}}"; do wait $process || code=$?; done
exit $code
"""


# What Slurm tells the job, which it runs in the folder where it was submitted.
SBATCH = """export SLURM_SUBMIT_DIR=$PWD SLURM_JOB_ID=7 SLURM_JOB_NODELIST='node[1-2]' SLURM_JOB_NUM_NODES=2 SLURM_CPUS_PER_TASK=1
exec bash "$@"
"""


def _as_first_started(monkeypatch: pytest.MonkeyPatch, scheduler: str) -> str:
    """Remove the variables of Ray and of the scheduler from the environment, and return a new folder for Ray."""
    for name in [name for name in os.environ if name.startswith(("RAY_", scheduler))]:
        monkeypatch.delenv(name)
    folder = tempfile.mkdtemp(prefix="wn")  # paths of Ray's sockets must be short
    monkeypatch.setenv("RAY_TMPDIR", folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_slurm_file_on_two_nodes(network, tmp_path, monkeypatch):
    """The line of the docs and the file as they are; only Slurm's own commands are stood in for. The second time it goes on with the run."""
    first, second = network.join(), network.join()
    members = " ".join(network.members[member - 1] for member in (first, second))
    rays = _as_first_started(monkeypatch, "SLURM_")
    monkeypatch.setenv("WINNOW", str(tmp_path / "bin"))
    with served_cifar(tmp_path / "served") as served:
        reader = Reader(
            tmp_path / "reader",
            places={"/shared": str(tmp_path / "shared"), "docs/cluster/": f"{REPOSITORY}/docs/cluster/"},
            cheap={"run": f"{TINY} --set epochs=4 --trials 2 --top 1 --seeds 1"},
            preamble=served.preamble,
        )
        reader.folder.mkdir()
        reader.shell("winnow prepare cifar100 --data-dir /shared/data")
    for name, script in (("scontrol", SCONTROL), ("getent", GETENT), ("srun", SRUN), ("sbatch", SBATCH)):
        reader.stand_in(name, script.format(members=members, head=network.address(first)))
    (block,) = blocks("docs/cluster.md", "Slurm")
    try:
        reader.follow(block)
        assert reader.output.count("search complete") == 1
        reader.shell("sbatch first.sbatch")
        assert reader.output.count("search complete") == 2
    finally:
        shutil.rmtree(rays, ignore_errors=True)
    run = reader.folder / "runs" / "first"
    searched = [line for line in read_json_lines(run / "epochs.jsonl") if line["phase"] == "search"]
    assert {line["node"] for line in searched} == set(members.split())
    _check_results(run, num_trials=2)


# What SkyPilot does on each machine: it runs the script beside a Ray of its own. Here that is a process which looks like one: Ray finds
# others by the name of the program and by this option.
SKY_MACHINE = """echo "$1" > /proc/sys/kernel/hostname
{folder}/raylet -c 'while sleep 1; do :; done' skypilot --gcs-address={head}:6380 &
skypilots=$!
SKYPILOT_NODE_RANK=$2 bash {folder}/run.sh >{folder}/$1.out 2>&1
code=$?
grep -vE "state-dump|raylet[)]" {folder}/$1.out  # Ray ends with long logs
echo "$1: exit code $code"
kill -0 $skypilots || {{ echo "the Ray of SkyPilot was ended"; code=9; }}
exit $code
"""
# sky launch -c NAME FILE --env NFS=... --secret RAY_AUTH_TOKEN=...
SKY = """[ "$1 $5 $7" = "launch --env --secret" ] || exit 8
python -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))["run"])' "$4" | sed 's#/shared#{shared}#g' > {folder}/run.sh
export "$6" "$8" SKYPILOT_NODE_IPS=$'{addresses}' SKYPILOT_NUM_NODES=2 SKYPILOT_NUM_GPUS_PER_NODE=0
started=()
for member in {members}; do
    ip netns exec $member unshare --uts --pid --fork --mount-proc --kill-child bash {folder}/machine.sh $member ${{#started[@]}} &
    started+=($!)
done
code=0
for process in "${{started[@]}}"; do wait $process || code=$?; done
exit $code
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_sky_file_on_two_machines(network, tmp_path, monkeypatch):
    """The line of the docs and the file's script as they are, beside another Ray on each machine. The second time it goes on with the run."""
    first, second = network.join(), network.join()
    members = " ".join(network.members[member - 1] for member in (first, second))
    rays = _as_first_started(monkeypatch, "SKYPILOT_")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")  # a busy machine of tests is slower than one in a cloud
    shared = tmp_path / "shared"
    with served_cifar(tmp_path / "served") as served:
        reader = Reader(
            tmp_path / "reader",
            places={"/shared": str(shared)},
            cheap={"run": f"{TINY} --set epochs=4 --trials 2 --top 1 --seeds 1"},
            preamble=served.preamble,
        )
        reader.folder.mkdir()
        reader.shell("winnow prepare cifar100 --data-dir /shared/data")
    sky = tmp_path / "sky"
    sky.mkdir()
    shutil.copy(shutil.which("bash") or "/bin/bash", sky / "raylet")
    (sky / "machine.sh").write_text(SKY_MACHINE.format(folder=sky, head=network.address(first)))
    addresses = f"{network.address(first)}\\n{network.address(second)}"
    reader.stand_in("sky", SKY.format(folder=sky, shared=shared, members=members, addresses=addresses))
    (block,) = blocks("docs/cluster.md", "Clouds, with SkyPilot")
    try:
        reader.follow(block)
        assert reader.output.count("search complete") == 1
        reader.shell(command_of(block.text.splitlines()[-1]))
        assert reader.output.count("search complete") == 2
    finally:
        shutil.rmtree(rays, ignore_errors=True)
    run = shared / "runs" / "first"
    searched = [line for line in read_json_lines(run / "epochs.jsonl") if line["phase"] == "search"]
    assert {line["node"] for line in searched} == set(members.split())
    _check_results(run, num_trials=2)
