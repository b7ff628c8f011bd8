"""`winnow launch` writes files that Slurm's shell, KubeRay's reader and SkyPilot's schema take; what they run, Winnow takes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from tests.helpers.doc_blocks import blocks, commands
from winnow import search
from winnow.search.cli.main import cli, main
from winnow.search.operations.launch.files import MPS_DAEMON

# The keys of a task in SkyPilot's sky/utils/schemas.py that this file could have.
SKY_TASK = {"name", "workdir", "num_nodes", "resources", "file_mounts", "setup", "run", "envs", "secrets", "volumes"}
SKY_RESOURCES = {"accelerators", "cpus", "memory", "use_spot", "disk_size", "infra", "image_id", "ports", "any_of"}


@pytest.fixture
def launch(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def launch(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["launch", "digits", *arguments])
        assert isinstance(end.value.code, int)
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return launch


def check_command(words: list[str]) -> None:
    """`winnow run` parses the line."""
    assert words[:2] == ["winnow", "run"]
    cli.commands["run"].make_context("run", words[2:])


def test_slurm(launch, tmp_path):
    options = ("--nodes", "3", "--gpus-per-node", "2", "--cpus-per-node", "16", "--hours", "0.5", "--set", "epochs=3")
    code, out, _ = launch("--on", "slurm", "--name", "first", *options)
    assert (code, out.strip()) == (0, "wrote first.sbatch; review it, then: sbatch first.sbatch")
    text = (tmp_path / "first.sbatch").read_text()
    subprocess.run(["bash", "-n", "first.sbatch"], check=True, cwd=tmp_path)
    asked = dict(line.removeprefix("#SBATCH --").split("=") for line in text.splitlines() if line.startswith("#SBATCH"))
    assert asked == {
        "job-name": "first",
        "nodes": "3",
        "ntasks-per-node": "1",
        "gpus-per-node": "2",
        "cpus-per-task": "16",
        "time": "0:30:00",
    }
    assert "BUDGET:-27m" in text, "the search ends before Slurm ends the job"
    (line,) = [line for line in text.splitlines() if "command=(winnow run" in line]
    words = shlex.split(line.strip().removeprefix("command=(").removesuffix(")"))
    check_command([word for word in words if word != "$@"])
    assert words[2:5] == ["digits", "--set", "epochs=3"]


STAND_INS = {
    "scontrol": "printf 'one\\ntwo\\n'",
    "getent": "echo 10.0.0.5 STREAM",
    # a task on each of two nodes
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; "$@"; "$@"',
    "nvidia-cuda-mps-control": 'echo "daemon $CUDA_MPS_PIPE_DIRECTORY ${1:-$(cat)}"',
    "ray": '[ -d "$CUDA_MPS_PIPE_DIRECTORY" ]; echo "ray $CUDA_MPS_PIPE_DIRECTORY $CUDA_MPS_LOG_DIRECTORY $*"; exit 3',
}
ENVIRONMENT = {
    "slurm": {"JOB_ID": "7", "JOB_NODELIST": "[one-two]", "JOB_NUM_NODES": "2", "CPUS_PER_TASK": "8"},
    "sky": {"NODE_IPS": "10.0.0.5", "NUM_NODES": "1", "NUM_GPUS_PER_NODE": "1"},
}


@pytest.mark.parametrize("system", ["slurm", "sky"])
def test_each_node_has_an_mps_daemon_while_its_ray_runs(launch, tmp_path, system):
    """The file runs, with stand-ins for all commands; Ray ends with an error. The folder for temporary files has a space in its name."""
    temporary = tmp_path / "a b"
    temporary.mkdir()
    (tmp_path / "a").mkdir()
    assert launch("--on", system, "--output", "file", "--mps", "--trials", "9")[0] == 0
    script = (tmp_path / "file").read_text()
    if system == "sky":
        script = yaml.safe_load(script)["run"]
    for name, stand_in in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{stand_in}\n")
        (tmp_path / name).chmod(0o755)
    prefix = {"slurm": "SLURM", "sky": "SKYPILOT"}[system]
    environment = {f"{prefix}_{name}": value for name, value in ENVIRONMENT[system].items()}
    environment |= {"SLURM_SUBMIT_DIR": str(tmp_path), "WINNOW": str(tmp_path), "HOME": str(tmp_path)}
    environment |= {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(temporary)}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")
    lines = [line.replace(str(temporary), "TMPDIR").split() for line in done.stdout.splitlines()]
    num_nodes = {"slurm": 2, "sky": 1}[system]
    assert len(lines) == 3 * num_nodes
    for begun, ray, ended in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        (pipes,) = {begun[1], *ray[1:3], ended[1]}
        assert (begun[0], begun[2], ended[0], ended[2]) == ("daemon", "-d", "daemon", "quit")
        assert ray[3] == "symmetric-run"
        assert ray[ray.index("--") + 1 :][:2] == ["winnow", "run"]
        assert "--mps" not in ray
        assert pipes.startswith("TMPDIR/")
    assert not list(temporary.iterdir())
    assert (tmp_path / "a").exists()


def test_ray_ends_before_its_mps_daemon_when_a_job_is_cancelled(tmp_path):
    """Slurm sends SIGTERM to all processes of a step."""
    for name, stand_in in {"nvidia-cuda-mps-control": "echo daemon ${1:-$(cat)}", "ray": RAY_UNTIL_SIGTERM}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{stand_in}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    step = subprocess.Popen(
        ["bash", "-c", f'{MPS_DAEMON}bash -c "$with_mps" mps ray'],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with step.stdout as lines:
        assert [next(lines) for _ in range(2)] == ["daemon -d\n", "ray begins\n"]
        os.killpg(step.pid, signal.SIGTERM)
        assert list(lines) == ["ray ends\n", "daemon quit\n"]


RAY_UNTIL_SIGTERM = """trap 'sleep 0.5; echo ray ends; exit 1' TERM
echo ray begins
while true; do sleep 0.1; done"""


def test_kuberay(launch, tmp_path):
    code, _, _ = launch(
        "--on", "kuberay", "--nodes", "5", "--gpus-per-node", "2", "--cpus-per-node", "6", "--trials", "9"
    )
    assert code == 0
    job = yaml.safe_load((tmp_path / "digits.rayjob.yaml").read_text())
    spec = {"metadata": {"name": "digits", "namespace": "x"}, "spec": job["spec"]["rayClusterSpec"]}
    worker = _derive_autoscaling_config_from_ray_cr(spec)["available_node_types"]["gpu"]
    assert (worker["max_workers"], worker["resources"]["GPU"], worker["resources"]["CPU"]) == (5, 2, 6)
    words = shlex.split(job["spec"]["entrypoint"])
    check_command(words)
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert (options["--num-gpus"], options["--num-cpus"], options["--trials"]) == ("10", "32", "9")


def test_sky(launch, tmp_path):
    code, out, _ = launch("--on", "sky", "--gpu", "H100", "--nodes", "2", "--output", "task.yaml")
    assert code == 0
    assert "sky launch -c digits task.yaml --secret RAY_AUTH_TOKEN=" in out
    task = yaml.safe_load((tmp_path / "task.yaml").read_text())
    assert task.keys() <= SKY_TASK
    assert task["resources"].keys() <= SKY_RESOURCES
    assert (task["num_nodes"], task["resources"]["accelerators"]) == (2, "H100:1")
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--name", "My Run"), "--name 'My Run': use at most 42 lower-case letters"),
        (("--trails", "3"), "No such option"),
        (("--address", "auto"), "--address: the file sets this option itself"),
        (("--on", "kuberay", "--mps"), "--mps: in Kubernetes, NVIDIA's device plugin starts the daemons"),
        (("--mps", "--device", "cpu"), "--mps is for NVIDIA GPUs, not for --device cpu"),
        (("--output", "there.sbatch"), "there.sbatch: exists already"),
    ],
)
def test_what_the_cluster_would_refuse_is_refused_here(launch, tmp_path, arguments, words):
    Path("there.sbatch").write_text("mine")
    code, _, err = launch("--on", "slurm", *arguments)
    assert code == 2
    assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["there.sbatch"]


@pytest.mark.parametrize("section", ["Kubernetes", "Clouds, with SkyPilot"])
def test_the_commands_of_the_cluster_page(section, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (line,) = commands(blocks("docs/cluster.md", section)[0].text)
    with pytest.raises(SystemExit) as end:
        main(shlex.split(line)[1:])
    assert end.value.code == 0, capsys.readouterr().err
    (file,) = tmp_path.iterdir()
    assert file.name in blocks("docs/cluster.md", section)[0].text


def test_the_function_writes_the_same_file(launch, tmp_path):
    assert launch("--on", "sky", "--name", "a", "--nodes", "2", "--trials", "20")[0] == 0
    path = search.launch("digits", "sky", "a", ["--trials", "20"], tmp_path / "b.yaml", nodes=2)
    assert path.read_text() == (tmp_path / "a.sky.yaml").read_text()
