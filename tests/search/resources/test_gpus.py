"""Which GPUs can be used, with stand-ins for torch on machines that are not here."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from types import SimpleNamespace

import pynvml
import pytest

from winnow.search.ray_backend import preflight, session
from winnow.search.resources import gpus, plan
from winnow.search.resources.gpus import GpuReport, examine, gpus_of_this_machine, hide_unusable
from winnow.spaces.errors import InputError

H100 = ("NVIDIA H100 80GB HBM3", (9, 0), 80_000)
P100 = ("Tesla P100-PCIE-16GB", (6, 0), 16_000)
FULL = ("NVIDIA A100", (8, 0), 100)  # another process holds its memory
SLICE = ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", (8, 0), 4_800)


class FakeTorch:
    """Torch on a machine with the given GPUs: (name, capability, free MB)."""

    __version__ = "2.15.0+cu132"

    def __init__(self, *devices, cuda="13.2", hip=None, init_error=None):
        self.devices = devices
        self.version = SimpleNamespace(cuda=cuda, hip=hip)
        self.init_error = init_error
        self.cuda = SimpleNamespace(
            is_available=lambda: bool(devices),
            init=self.init,
            device_count=lambda: len(devices),
            get_device_name=lambda index: devices[index][0],
            get_device_capability=lambda index: devices[index][1],
            get_device_properties=lambda index: SimpleNamespace(total_memory=81_000 * 2**20),
            get_arch_list=lambda: ["sm_75", "sm_80", "sm_90a", "sm_120", "compute_120"],
            mem_get_info=lambda index: (devices[index][2] * 2**20, 81_000 * 2**20),
        )

    def init(self):
        if self.init_error:
            raise RuntimeError(self.init_error)

    def ones(self, *shape, device):
        if self.devices[int(device.partition(":")[2])][1] < (7, 5) and self.version.hip is None:
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nadvice")
        return Ones()


class Ones:
    def __matmul__(self, other):
        return SimpleNamespace(sum=lambda: SimpleNamespace(item=lambda: 64.0**3))


@pytest.mark.parametrize(
    ("torch", "usable", "line"),
    [
        (FakeTorch(H100), (0,), "1 of 1 GPU used: NVIDIA H100 80GB HBM3 (81,000 MB)"),
        (
            FakeTorch(P100, H100),
            (1,),
            "1 of 2 GPUs used: NVIDIA H100 80GB HBM3 (81,000 MB); not used: Tesla P100-PCIE-16GB: compute capability 6.0, but "
            "torch 2.15.0+cu132 has kernels for 7.5 and above",
        ),
        (FakeTorch(FULL), (), "no GPU is used: NVIDIA A100: only 100 of 81,000 MB are free"),
        (FakeTorch(cuda=None), (), "no GPU is used: torch 2.15.0+cu132 is built for the CPU only"),
        (
            FakeTorch(init_error="The NVIDIA driver on your system is too old (found version 11040).\nadvice"),
            (),
            "no GPU is used: torch 2.15.0+cu132: The NVIDIA driver on your system is too old (found version 11040).",
        ),
        (FakeTorch(("AMD Instinct MI250X", (9, 0), 60_000), cuda=None, hip="7.0"), (0,), "1 of 1 GPU used: AMD Instinct"),
        (FakeTorch(SLICE), (0,), "1 of 1 GPU used: NVIDIA A100-SXM4-40GB MIG 1g.5gb (81,000 MB) (one slice for each"),
    ],
)  # fmt: skip
def test_what_is_used_and_why_not_the_rest(torch, usable, line, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    report = examine(torch)
    assert report.usable == usable
    assert report.line.startswith(line)


def test_hidden_gpus_are_said(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert examine(FakeTorch()).problems == ("CUDA_VISIBLE_DEVICES= hides them",)


@pytest.mark.parametrize(("before", "after"), [({}, "1"), ({"CUDA_VISIBLE_DEVICES": "4,GPU-5"}, "GPU-5")])
def test_ray_sees_only_the_usable_ones(before, after):
    hide_unusable(GpuReport((1,), ("H100",), ("P100: too old",)), before)
    assert before["CUDA_VISIBLE_DEVICES"] == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "1"),
        ({"HIP_VISIBLE_DEVICES": "4,6"}, "6"),
        ({"CUDA_VISIBLE_DEVICES": "4,6"}, "6"),
        ({"HIP_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "4,6"}, "3"),
    ],
)
def test_ray_reads_another_variable_with_rocm(before, after):
    """Ray assigns GPUs of AMD by `HIP_VISIBLE_DEVICES`, whatever the other variable says."""
    hide_unusable(GpuReport((1,), ("MI300X",), ("MI300X: only 3 of 196,288 MB are free",), is_rocm=True), before)
    assert before["HIP_VISIBLE_DEVICES"] == after


@pytest.fixture
def sign(monkeypatch, tmp_path):
    """A machine with a GPU, by its files."""
    monkeypatch.setattr(gpus, "SIGNS", {str(tmp_path): "a driver"})
    gpus_of_this_machine.cache_clear()
    yield
    gpus_of_this_machine.cache_clear()


@pytest.fixture
def no_sign(monkeypatch, tmp_path):
    """A machine without any GPU, by its files."""
    monkeypatch.setattr(gpus, "SIGNS", {})
    monkeypatch.setattr(gpus, "VENDORS", tmp_path)
    gpus_of_this_machine.cache_clear()
    yield tmp_path
    gpus_of_this_machine.cache_clear()


def answers(monkeypatch, *reports):
    """The processes that look at GPUs answer so, one after the other; the last one again and again. Returns what was visible to each."""
    asked = []

    def run(command, env, **options):
        asked.append(env.get("CUDA_VISIBLE_DEVICES"))
        report = reports[min(len(asked), len(reports)) - 1]
        report = report if isinstance(report, GpuReport) else report(asked[-1])
        return SimpleNamespace(returncode=0, stderr="", stdout=json.dumps(asdict(report)))

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_the_process_that_looks(sign, monkeypatch):
    """Here torch itself answers, in its own process; it names no GPU, and why."""
    report = gpus_of_this_machine()
    assert not report.usable or not report.problems
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=-11, stderr="", stdout=""))
    gpus_of_this_machine.cache_clear()
    assert "ended with exit code -11" in gpus_of_this_machine().line


def test_a_kernel_that_hangs(sign, monkeypatch, tmp_path):
    """A process that does not end stands for one whose kernel does not: it is killed, and no GPU counts as usable."""
    hangs = tmp_path / "python"
    hangs.write_text("#!/bin/sh\nexec sleep 600\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(gpus.sys, "executable", str(hangs))
    monkeypatch.setattr(gpus, "PATIENCE_SECONDS", 1.0)
    report = gpus_of_this_machine()
    assert report.line == "no GPU is used: a test kernel did not finish within 1 s"
    assert not report.usable


def test_a_machine_without_signs_of_a_gpu_is_not_asked(no_sign, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert gpus_of_this_machine() == GpuReport()


@pytest.mark.parametrize(("sign", "what"), gpus.SIGNS.items())
def test_what_is_there_but_cannot_be_used_is_named(sign, what, monkeypatch):
    monkeypatch.setattr(gpus, "Path", lambda path: SimpleNamespace(exists=lambda: path == sign))
    gpus_of_this_machine.cache_clear()
    answers(monkeypatch, GpuReport(problems=("torch 2.15.0 sees none",)))
    assert gpus_of_this_machine().line == f"no GPU is used: {what} is there, but torch 2.15.0 sees none"
    gpus_of_this_machine.cache_clear()


@pytest.mark.parametrize(("vendor", "is_named"), [("0x8086", True), ("0x1a03", False)])
def test_an_intel_gpu_is_named(vendor, is_named, no_sign):
    (no_sign / "renderD128" / "device").mkdir(parents=True)
    (no_sign / "renderD128" / "device" / "vendor").write_text(f"{vendor}\n")
    line = gpus_of_this_machine().line
    assert line.startswith("no GPU is used: ")
    assert line.endswith("an Intel GPU is there, but Winnow trains on GPUs of NVIDIA, AMD and Apple") == is_named


@pytest.mark.parametrize("works", [True, False])
def test_a_mac_whose_gpu_torch_cannot_use_says_so(works, no_sign, monkeypatch):
    monkeypatch.setattr(
        "torch.backends.mps.is_available", lambda: works
    )  # first: torch cannot be imported as if on a Mac
    monkeypatch.setattr(gpus.sys, "platform", "darwin")
    problems = gpus_of_this_machine().problems
    assert len(problems) == (not works)
    assert all("cannot use a GPU of this Mac" in problem for problem in problems)


@pytest.mark.parametrize(("name", "value"), [("SLURM_JOB_GPUS", "0,1"), ("SLURM_GPUS", "2")])
def test_gpus_of_slurm_on_a_machine_without_any_are_named(no_sign, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert f"no GPU is used: Slurm gave GPUs to this job ({name}={value})" in gpus_of_this_machine().line
    monkeypatch.setenv(name, "0" if value == "2" else "")
    gpus_of_this_machine.cache_clear()
    assert gpus_of_this_machine() == GpuReport()


def test_ray_gets_the_number_that_torch_can_use(sign, monkeypatch):
    raw = {"usable": [1], "names": ["H100"], "problems": ["P100: too old"], "has_slices": False}
    answer = SimpleNamespace(returncode=0, stderr="", stdout=json.dumps(raw))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert session._of_this_machine(2, None) == {"num_cpus": 2, "num_gpus": 1}
    assert session.os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    assert session._of_this_machine(2, 3)["num_gpus"] == 3  # declared by hand


def test_ray_counts_from_the_first_usable_gpu_also_with_a_number(sign, monkeypatch):
    answers(monkeypatch, GpuReport((1,), ("H100",), ("P100: too old",)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert session._of_this_machine(2, 1)["num_gpus"] == 1
    assert session.os.environ["CUDA_VISIBLE_DEVICES"] == "5"


def of_slice(visible):
    if visible == "MIG-b":
        return GpuReport(problems=("NVIDIA A100 MIG 1g.5gb: only 100 of 4,864 MB are free",))
    return GpuReport((0,), (f"A100 MIG {visible}",), (), has_slices=True)


@pytest.fixture
def slices(sign, monkeypatch):
    """A GPU of three MIG slices, one of which is full, beside one without MIG; stand-ins for torch's processes and NVIDIA's library."""
    places = {0: {}, 1: {0: "MIG-a", 2: "MIG-b", 5: "MIG-c"}}

    def handle(gpu, place):
        if place not in places[gpu]:
            raise pynvml.NVMLError_NotFound
        return places[gpu][place]

    for name, function in {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: 7 * gpu,
        "nvmlDeviceGetMigDeviceHandleByIndex": handle,
        "nvmlDeviceGetUUID": lambda uuid: uuid,
    }.items():
        monkeypatch.setattr(pynvml, name, function)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return answers(monkeypatch, of_slice)


def test_ray_gets_the_slices_of_a_gpu_by_their_names(slices, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is restored
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert session._of_this_machine(2, 2)["num_gpus"] == 2
    assert session.os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-a,MIG-c"
    assert sorted(slices, key=str) == ["MIG-a", "MIG-b", "MIG-c", None]
    line = gpus_of_this_machine().line
    assert line.startswith(
        "2 of 3 MIG slices used: A100 MIG MIG-a, A100 MIG MIG-c; not used: NVIDIA A100 MIG 1g.5gb: only"
    )
    plan.DeviceOptions(num_gpus=2).check_here()
    with pytest.raises(InputError, match="--num-gpus 3: this machine has 2"):
        plan.DeviceOptions(num_gpus=3).check_here()
    with pytest.raises(InputError, match=r"--gpus-per-trial 2: .* MIG slices, which cannot train together"):
        plan.DeviceOptions(gpus_per_trial=2).check_here()


@pytest.mark.parametrize(
    ("visible", "expected"), [("MIG-c,MIG-a", ("MIG-c", "MIG-a")), ("MIG-c", ()), ("0", ()), (None, ())]
)
def test_slices_that_this_process_may_not_use_are_left_alone(visible, expected, slices, monkeypatch):
    if visible is None:

        def fail():
            raise pynvml.NVMLError_LibraryNotFound

        monkeypatch.setattr(pynvml, "nvmlInit", fail)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    report = gpus_of_this_machine()
    assert report.slices == expected
    assert report.line.startswith(f"{len(report.usable)} of {len(report.usable)} ")
    assert ("one slice for each process" in report.line) == (not expected)


def test_cuda_that_cannot_be_used_is_refused_with_the_reason(monkeypatch):
    report = GpuReport(problems=("torch 2.15.0+cpu is built for the CPU only",))
    for module in (gpus, plan):
        monkeypatch.setattr(module, "gpus_of_this_machine", lambda: report)
    monkeypatch.setattr(plan, "gpus_here", lambda: 0)
    with pytest.raises(
        InputError, match=r"--device cuda: no GPU is used: torch .* built for the CPU only; use --device cpu"
    ):
        plan.DeviceOptions(device="cuda").check_here()


def test_preflight_does_not_count_slices(monkeypatch):
    monkeypatch.setattr(preflight, "examine", lambda _: examine(FakeTorch(SLICE)))
    assert preflight._gpu_problems(7) == []
    monkeypatch.setattr(preflight, "examine", lambda _: examine(FakeTorch(H100)))
    assert "Ray declares 7 GPUs there" in preflight._gpu_problems(7)[0]
    monkeypatch.setattr(preflight, "examine", lambda _: examine(FakeTorch(H100, P100)))
    assert preflight._gpu_problems(2)[0].startswith("Tesla P100")
