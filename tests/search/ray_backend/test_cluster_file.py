"""The cluster files against Ray's own schema, and against what Winnow says of them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.conftest import REPOSITORY
from winnow.search.cli.main import cli
from winnow.search.ray_backend.cluster import plan_on_cluster
from winnow.search.resources.plan import DeviceOptions
from winnow.spaces.errors import InputError


class OnlyTheHead:
    """Ray on the head of `ray up`, before any worker was started."""

    util = SimpleNamespace(get_node_ip_address=lambda: "10.0.0.5")
    cluster_resources = staticmethod(lambda: {"CPU": 4.0})
    nodes = staticmethod(lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}])


def cluster() -> dict:
    return yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())


def test_ray_accepts_it():
    prepared = prepare_config(cluster())  # fills in Ray's own defaults
    validate_config(prepared)
    assert prepared["available_node_types"]["gpu-worker"]["max_workers"] == 8


def test_workers_scale_from_none_and_are_spot():
    worker = cluster()["available_node_types"]["gpu-worker"]
    assert worker["min_workers"] == 0
    assert worker["resources"]["GPU"] >= 1
    assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert cluster()["available_node_types"]["head"]["resources"]["GPU"] == 0


def test_every_node_type_names_an_image():
    """Ray's default image has a glibc and a driver that are too old for torch; without the id, AWS refuses at once."""
    images = {kind["node_config"].get("ImageId") for kind in cluster()["available_node_types"].values()}
    assert images == {"ami-REPLACE-BY-YOUR-REGION"}


NO_CONNECTION = ("error sending request", "dns error", "connect error", "timed out", "connectivity is disabled")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("asked", [["-r", "requirements.lock"], [f"ray[default]=={version('ray')}", "boto3"]], ids=str)
def test_what_the_set_up_lines_install_has_wheels_for_the_image(asked, tmp_path):
    """For the Python of the set-up lines, on Linux with glibc 2.28 or later, without a compiler."""
    (python,) = re.findall(r"uv python install (\S+)", "\n".join(cluster()["setup_commands"]))
    command = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--dry-run", "--only-binary", ":all:"]
    command += ["--python", sys.executable, "--target", str(tmp_path)]
    command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
    done = subprocess.run([*command, *asked], cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode and any(words in done.stderr.lower() for words in NO_CONNECTION):
        pytest.skip("the package registry cannot be reached")
    assert done.returncode == 0, done.stderr
    assert " + ray==" in done.stderr


def test_what_its_workers_may_become_is_known_before_they_are_there(monkeypatch, tmp_path):
    """The head reads the launcher's file: no GPU now, and yet a plan for eight. A trial may span nodes; more than there will be is refused."""
    bootstrap = tmp_path / "ray_bootstrap_config.yaml"
    bootstrap.write_text((REPOSITORY / "cluster.yaml").read_text())
    monkeypatch.setattr("winnow.search.ray_backend.cluster.BOOTSTRAP", bootstrap)
    plan = plan_on_cluster(OnlyTheHead, DeviceOptions(device="cuda", gpus_per_trial=0.5), 200, "10.0.0.5:6379")
    assert (plan.concurrent, plan.gpus_per_trial, plan.cpus_per_trial) == (16, 0.5, 2)
    two = plan_on_cluster(OnlyTheHead, DeviceOptions(device="cuda", gpus_per_trial=2), 200, "10.0.0.5:6379")
    assert (two.concurrent, two.explanation.rpartition("; ")[2]) == (4, "each spans several nodes")
    with pytest.raises(InputError, match="the cluster has 8 GPUs with all that the autoscaler may start"):
        plan_on_cluster(OnlyTheHead, DeviceOptions(device="cuda", gpus_per_trial=9), 200, "10.0.0.5:6379")
    with pytest.raises(
        InputError,
        match="the cluster has no GPU; if an autoscaler may start nodes, set the largest totals with --num-gpus",
    ):
        plan_on_cluster(
            OnlyTheHead, DeviceOptions(device="cuda"), 200, "elsewhere:6379"
        )  # the file is of another cluster


def test_a_cluster_that_has_no_gpu_trains_on_cpus_and_says_so():
    plan = plan_on_cluster(OnlyTheHead, DeviceOptions(), 5, "elsewhere:6379")
    assert plan.device == "cpu"
    assert (
        "the cluster has no GPU; if an autoscaler may start nodes, set the largest totals with --num-gpus"
        in plan.explanation
    )
    assert "GPU" not in plan_on_cluster(OnlyTheHead, DeviceOptions(device="cpu"), 5, "elsewhere:6379").explanation


def test_a_trial_gets_no_more_cpus_than_a_node_has():
    """Three nodes of four CPUs for five trials: 2.4 CPUs each, of all CPUs, would let one trial onto a node."""
    ray = SimpleNamespace(
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}] * 3,
        cluster_resources=lambda: {"CPU": 12.0},
        util=OnlyTheHead.util,
    )
    plan = plan_on_cluster(ray, DeviceOptions(device="cpu"), 5, "10.0.0.5:6379")
    assert (plan.concurrent, plan.cpus_per_trial, plan.threads) == (5, 2.0, 2)
    with pytest.raises(InputError, match="--cpus-per-trial 6: the largest node of Ray has 4 CPUs"):
        plan_on_cluster(ray, DeviceOptions(device="cpu", concurrent=2, cpus_per_trial=6), 5, "10.0.0.5:6379")


def test_the_ray_job_agrees_with_its_own_words():
    """What the autoscaler reads in the manifest is what the command is told; and that is a plan for all of it."""
    job = yaml.safe_load((REPOSITORY / "search/operations/launch/rayjob.yaml").read_text())
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster_spec = spec["rayClusterSpec"]
    assert cluster_spec["rayVersion"] == version("ray")
    (group,) = cluster_spec["workerGroupSpecs"]
    command = shlex.split(spec["entrypoint"])
    options = dict(zip(command[3::2], command[4::2], strict=True))
    run = cli.commands["run"]
    known = {name for option in run.get_params(click.Context(run)) for name in option.opts}
    assert command[:2] == ["winnow", "run"]
    assert options.keys() <= known
    containers = [
        container
        for template in (cluster_spec["headGroupSpec"]["template"], group["template"])
        for container in template["spec"]["containers"]
    ]
    assert {container["image"] for container in containers} == {containers[0]["image"]}
    read = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "winnow", "namespace": "x"}, "spec": cluster_spec}
    )
    head, worker = (read["available_node_types"][name] for name in ("headgroup", "gpu"))
    assert (head["resources"]["GPU"], worker["resources"]["GPU"]) == (0, 1)
    assert (worker["min_workers"], worker["max_workers"]) == (0, 8)
    asked = {key: int(options[f"--num-{key.lower()}s"]) for key in ("CPU", "GPU")}
    assert asked == {key: head["resources"][key] + 8 * worker["resources"][key] for key in asked}
    ray = SimpleNamespace(
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": float(head["resources"]["CPU"])}}],
        cluster_resources=lambda: {"CPU": float(head["resources"]["CPU"])},
        util=OnlyTheHead.util,
    )
    devices = DeviceOptions(
        num_cpus=asked["CPU"],
        num_gpus=asked["GPU"],
        cpus_per_trial=int(options["--cpus-per-trial"]),
        gpus_per_trial=float(options["--gpus-per-trial"]),
    )
    plan = plan_on_cluster(ray, devices, int(options["--trials"]), "elsewhere:6379")
    assert (plan.concurrent, plan.gpus_per_trial) == (8, 1.0)


SRUN = 'printf "%s\\n" "$RAY_AUTH_MODE" "${#RAY_AUTH_TOKEN}" "$@"'


@pytest.mark.parametrize(
    ("before", "mode", "length"), [({}, "token", 64), ({"RAY_AUTH_MODE": "disabled"}, "disabled", 0)]
)
def test_the_slurm_file_hands_srun_the_cpus_and_a_token(tmp_path, before, mode, length):
    """Slurm's commands are stood in for; `srun` prints what it is given."""
    for name, script in (("scontrol", "echo one"), ("getent", "echo 10.0.0.5 STREAM"), ("srun", SRUN)):
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {
        "SUBMIT_DIR": str(tmp_path),
        "JOB_ID": "7",
        "JOB_NODELIST": "one",
        "JOB_NUM_NODES": "1",
        "CPUS_PER_TASK": "32",
    }
    environment = {f"SLURM_{name}": value for name, value in slurm.items()}
    environment |= {"WINNOW": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), **before}
    command = ["bash", str(REPOSITORY / "search/operations/launch/slurm.sbatch"), "digits"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:2] == [mode, str(length)]
    assert "--cpus-per-task=32" in lines[: lines.index("ray")]
