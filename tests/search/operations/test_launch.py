"""`winnow launch` writes files that Slurm's shell, KubeRay's and SkyPilot's schemas take; what they run, Winnow takes."""

from __future__ import annotations

import os
import re
import resource
import shlex
import signal
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from tests.helpers.doc_blocks import blocks, commands
from tests.helpers.launch_schemas import (
    FIRST_RAY_WITH_TOKENS,
    RAY_JOB,
    RAY_JOB_NAME,
    SKY_CLUSTER_NAME,
    SKY_TASK,
    SKY_TASK_NAME,
)
from winnow import search
from winnow.search.cli.main import cli, main
from winnow.search.operations.launch.files import MPS_DAEMON, NAME, write_launch_file
from winnow.spaces.errors import InputError


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


DAEMON = {"nvidia-cuda-mps-control": 'echo "daemon $CUDA_MPS_PIPE_DIRECTORY ${1:-$(cat)}"'}
RAY = '[ -d "$CUDA_MPS_PIPE_DIRECTORY" ] && echo "ray $CUDA_MPS_PIPE_DIRECTORY $CUDA_MPS_LOG_DIRECTORY $*"'
STAND_INS = {
    "slurm": DAEMON
    | {
        "scontrol": "printf 'one\\ntwo\\n'",
        "getent": "echo 10.0.0.5 STREAM",
        # a task on each of two nodes
        "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; "$@"; "$@"',
        "ray": f"{RAY}; exit 3",
    },
    "sky": DAEMON
    | {
        "ray": f"{RAY}; touch ready; trap 'exit 1' TERM; sleep 600 & wait $!",
        "python": "[ -e ready ]",  # whether all nodes are there
        "winnow": "exit 3",
    },
}
ENVIRONMENT = {
    "slurm": {"JOB_ID": "7", "JOB_NODELIST": "[one-two]", "JOB_NUM_NODES": "2", "CPUS_PER_TASK": "8"},
    "sky": {"NODE_IPS": "10.0.0.5", "NODE_RANK": "0", "NUM_NODES": "1", "NUM_GPUS_PER_NODE": "1"},
}


@pytest.mark.parametrize("system", ["slurm", "sky"])
def test_each_node_has_an_mps_daemon_while_its_ray_runs(launch, tmp_path, system):
    """The file runs, with stand-ins for all commands; the search fails. The folder for temporary files has a space in its name."""
    temporary = tmp_path / "a b"
    temporary.mkdir()
    (tmp_path / "a").mkdir()
    assert launch("--on", system, "--output", "file", "--mps", "--trials", "9")[0] == 0
    script = (tmp_path / "file").read_text()
    if system == "sky":
        script = yaml.safe_load(script)["run"]
    for name, stand_in in STAND_INS[system].items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{stand_in}\n")
        (tmp_path / name).chmod(0o755)
    prefix = {"slurm": "SLURM", "sky": "SKYPILOT"}[system]
    environment = {f"{prefix}_{name}": value for name, value in ENVIRONMENT[system].items()}
    environment |= {"SLURM_SUBMIT_DIR": str(tmp_path), "WINNOW": str(tmp_path), "HOME": str(tmp_path)}
    environment |= {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(temporary)}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")
    assert "--mps" not in script
    lines = [line.replace(str(temporary), "TMPDIR").split() for line in done.stdout.splitlines()]
    num_nodes = {"slurm": 2, "sky": 1}[system]
    assert len(lines) == 3 * num_nodes
    for begun, ray, ended in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        (pipes,) = {begun[1], *ray[1:3], ended[1]}
        assert (begun[0], begun[2], ended[0], ended[2]) == ("daemon", "-d", "daemon", "quit")
        assert ray[3] == {"slurm": "symmetric-run", "sky": "start"}[system]
        assert system == "sky" or ray[ray.index("--") + 1 :][:2] == ["winnow", "run"]
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
    check(RAY_JOB, job)
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == version("ray")
    assert tuple(map(int, cluster["rayVersion"].split(".")[:2])) >= FIRST_RAY_WITH_TOKENS
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
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
    line = out.strip().partition("then: ")[2]
    task = yaml.safe_load((tmp_path / "task.yaml").read_text())
    check(SKY_TASK, task)
    assert (task["num_nodes"], task["resources"]["accelerators"]) == (2, "H100:1")
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    # SkyPilot refuses a variable without a value, and an option for one that the file does not name.
    given = dict(re.findall(r"--(env|secret) (\w+)=", line))
    assert given == {"env": "NFS", "secret": "RAY_AUTH_TOKEN"}
    assert [*task["envs"].items(), *task["secrets"].items()] == [("NFS", None), ("RAY_AUTH_TOKEN", None)]
    (command,) = re.findall(r"command=\((winnow run .*)\)", task["run"])
    words = shlex.split(command.replace("$NAME", "digits"))
    check_command(words)
    assert words[2:5] == ["digits", "--data-dir", "/shared/data"]


def check(schema: dict, file: dict) -> None:
    """The system's own checks take the file, and would not take one with another key or type."""
    taken = Draft202012Validator(schema)
    taken.validate(file)
    name, value = next((name, value) for name, value in file.items() if isinstance(value, dict))
    assert not taken.is_valid({**file, name: {**value, "replicasss": 1}})
    assert not taken.is_valid({**file, name: "text"})


@pytest.mark.parametrize("name", ["a", "first-run", "a--b", "b2", "x" * 42])
def test_all_systems_take_a_name_that_is_taken(name):
    for taken in (NAME.pattern, RAY_JOB_NAME, SKY_TASK_NAME, SKY_CLUSTER_NAME):
        assert re.fullmatch(taken, name), taken


@pytest.mark.parametrize("name", ["3-nets", "a---b", "a-", "-a", "A", "a_b", "a.b", "x" * 43, "a\n"])
def test_names_that_a_system_would_refuse(launch, tmp_path, name):
    """KubeRay refuses the first and SkyPilot's task the second."""
    code, _, err = launch("--on", "slurm", "--name", name)
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "use at most 42 lower-case letters, digits and '-'" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--name", "My Run"), "--name 'My Run': use at most 42 lower-case letters"),
        (("--trails", "3"), "No such option"),
        (("--address", "auto"), "--address: the file sets this option itself"),
        (("--on", "kuberay", "--mps"), "--mps: in Kubernetes, NVIDIA's device plugin starts the daemons"),
        (("--mps", "--device", "cpu"), "--mps is for NVIDIA GPUs, not for --device cpu"),
        (("--output", "there.sbatch"), "there.sbatch: exists already"),
        (
            ("--storage", "s3://key:s3cr3t@bucket"),
            "--storage s3://***@bucket: a password or key in the URI would be written into the file",
        ),
        (("--storage=s3://bucket?secret_key=s3cr3t",), "--storage s3://bucket?secret_key=***: a password or key"),
    ],
)
def test_what_the_cluster_would_refuse_is_refused_here(launch, tmp_path, arguments, words):
    Path("there.sbatch").write_text("mine")
    code, _, err = launch("--on", "slurm", *arguments)
    assert code == 2
    assert words in err
    assert "s3cr3t" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["there.sbatch"]


def test_a_file_that_does_not_fit_leaves_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(InputError, match=r"a\.sbatch: cannot be written \(File too large\)"):
            write_launch_file(tmp_path / "a.sbatch", "#!/bin/bash\n" * 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


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
