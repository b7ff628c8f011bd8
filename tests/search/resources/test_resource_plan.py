"""How CPUs and GPUs are shared out among trials: every GPU gets its trials, and what cannot be done is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

import pytest

from winnow.search.operations.execution import recorded_gpus
from winnow.search.resources.inventory import Inventory
from winnow.search.resources.packing import KindOfGpu, Packing, RecordedPacking, fraction_of
from winnow.search.resources.plan import DeviceOptions, ResourcePlan, share_out
from winnow.spaces.errors import InputError


def machine(cpus: float, gpus: float = 0) -> Inventory:
    return Inventory(((cpus, gpus),), int(gpus))


def plan(
    have: Inventory,
    trials: int = 100,
    measured: int | dict[str, int] | None = None,
    recorded: float | RecordedPacking | None = None,
    **asked,
) -> ResourcePlan:
    def measure(device: str, cpus: float, kind: str = "") -> Packing:
        assert measured is not None, "measured though the packing was given"
        assert isinstance(measured, int) or cpus == CPUS_BESIDE[kind]
        return Packing(measured if isinstance(measured, int) else measured[kind], (), "as measured")

    earlier = RecordedPacking(recorded) if isinstance(recorded, float) else recorded
    return share_out(have, DeviceOptions(**asked), trials, measure, earlier)


@pytest.mark.parametrize(
    ("cpus", "trials", "asked", "measured", "concurrent", "threads"),
    [
        (2, 100, {}, None, 2, 1),
        (8, 3, {}, None, 3, 2),
        (8, 100, {"concurrent": 2}, None, 2, 4),
        (8, 100, {"cpus_per_trial": 4}, None, 2, 4),
        (8, 100, {"concurrent": "auto"}, 4, 4, 2),
        (8, 2, {"concurrent": "auto"}, 4, 2, 4),
    ],
)
def test_on_cpus(cpus, trials, asked, measured, concurrent, threads):
    found = plan(machine(cpus), trials, measured, **asked)
    assert (found.concurrent, found.threads, found.gpus_per_trial) == (concurrent, threads, 0.0)
    assert concurrent * found.cpus_per_trial == cpus


def test_on_nodes_of_different_sizes_every_trial_fits_on_one():
    have = Inventory(((2, 0), (2, 0), (3, 0)), 0)
    two = plan(have, concurrent=2)
    assert two.cpus_per_trial == 2  # 3.5 each, as the sum would have it, fits nowhere
    with pytest.raises(InputError, match=r"--concurrent 8 trials .* on 3 nodes"):
        plan(have, concurrent=8)


@pytest.mark.parametrize(
    ("gpus", "trials", "asked", "measured", "concurrent", "at_once"),
    [
        (4, 100, {}, 4, 16, 4),
        (4, 100, {"trials_per_gpu": "auto"}, 2, 8, 2),
        (4, 100, {"trials_per_gpu": 3}, None, 12, 3),
        (4, 100, {"gpus_per_trial": 0.25}, None, 16, 4),
        (4, 100, {"gpus_per_trial": 0.33}, None, 12, 3),
        (4, 100, {"concurrent": 3}, None, 3, 1),  # not three on the first GPU
        (4, 100, {"concurrent": 8}, None, 8, 2),
        (1, 100, {"concurrent": 6}, None, 6, 6),
        (4, 6, {}, 8, 4, 1),  # few trials: each has a GPU to itself
        (4, 9, {}, 8, 8, 2),
    ],
)
def test_on_gpus(gpus, trials, asked, measured, concurrent, at_once):
    found = plan(machine(32, gpus), trials, measured, **asked)
    assert (found.device, found.concurrent, found.trials_per_gpu) == ("cuda", concurrent, at_once)
    assert found.gpus_per_trial == fraction_of(at_once)
    assert found.cpus_per_trial == max(1, 32 // gpus // at_once)


@pytest.mark.parametrize(
    ("have", "asked", "concurrent", "cpus"),
    [
        (machine(32, 4), {"gpus_per_trial": 2}, 2, 16),
        (machine(32, 4), {"gpus_per_trial": 4}, 1, 32),
        (machine(32, 4), {"gpus_per_trial": 2, "concurrent": 1, "cpus_per_trial": 6}, 1, 6),
        (Inventory(((8, 2), (16, 4), (4, 0)), 6), {"gpus_per_trial": 2}, 3, 8),
        (Inventory(((1, 1), (1, 1)), 2), {"gpus_per_trial": 2}, 1, 2),  # over both nodes
        (Inventory(((8, 3), (8, 3), (2, 1)), 7), {"gpus_per_trial": 2, "concurrent": 3}, 3, 4),
        (machine(1, 4), {"gpus_per_trial": 2}, 2, 0.5),
    ],
)
def test_several_gpus_for_each_trial(have, asked, concurrent, cpus):
    found = plan(have, **asked)
    assert (found.device, found.concurrent, found.cpus_per_trial) == ("cuda", concurrent, cpus)
    assert found.gpus_per_trial == found.ranks == asked["gpus_per_trial"]
    assert plan(have, num_gpus=have.num_gpus, **{**asked, "device": "cpu"}).device == "cpu"  # declared ones
    # Beside the ranks, which hold the GPUs, there is room on any node for the workers of all trials, which hold none.
    assert found.bundles == [found.per_rank] * (found.ranks * concurrent)
    assert found.per_rank["GPU"] == 1
    assert found.per_trial["gpu"] == 0
    beside = min(node_cpus - gpus * found.per_rank["CPU"] for node_cpus, gpus in have.nodes)
    assert beside >= concurrent * found.per_trial["cpu"] - 1e-9


@pytest.mark.parametrize(
    ("nodes", "asked", "words"),
    [
        (((8, 4), (8, 4)), {"gpus_per_trial": 4}, "2 trials at once, each on 4 of 8 GPUs and 8 CPUs"),
        (((8, 3), (8, 3)), {"gpus_per_trial": 2}, "3 trials at once, each on 2 of 6 GPUs and 5 CPUs; 1 spans several nodes"),
        (((8, 1), (8, 1)), {"gpus_per_trial": 2}, "1 trial at once, each on 2 of 2 GPUs and 16 CPUs; each spans several nodes"),
        (((8, 3), (8, 3)), {"gpus_per_trial": 2, "concurrent": 2}, "2 trials at once, each on 2 of 6 GPUs and 5 CPUs"),
    ],
)  # fmt: skip
def test_a_trial_that_spans_nodes_is_said(nodes, asked, words):
    assert plan(Inventory(nodes, 0), **asked).explanation == words


def test_what_an_earlier_start_measured_is_used_again():
    assert plan(machine(32, 4), recorded=0.5).concurrent == 8
    assert plan(machine(32, 4), recorded=fraction_of(3)).concurrent == 12
    assert plan(machine(32, 4), recorded=0.5, trials_per_gpu=4).concurrent == 16
    assert plan(machine(32, 4), recorded=2.0).ranks == 2
    assert plan(machine(32, 4), recorded=2.0, gpus_per_trial=1).ranks == 1
    assert plan(machine(8, 1), recorded=2.0).ranks == 1  # on a smaller machine the run goes on with what there is
    assert share_out(machine(32, 4), DeviceOptions(), 100).concurrent == 4


CPUS_BESIDE = {"H100": 16.0, "T4": 4.0, "": 4.0}
MIXED = Inventory(((4, 0), (32, 2), (8, 2), (4, 1)), 5, ("", "H100", "T4", "T4"), frozenset({"H100", "T4"}))


def test_each_kind_of_gpu_has_its_packing():
    found = plan(MIXED, measured={"H100": 8, "T4": 2})
    assert found.kinds == {"H100": KindOfGpu(2, 8), "T4": KindOfGpu(3, 2), "": KindOfGpu(0, 2)}
    assert found.shares == {"H100": 0.125, "T4": 0.5, "": 0.5}
    assert found.concurrent == 2 * 8 + 3 * 2
    assert (found.trials_per_gpu, found.gpus_per_trial) == (2, 0.5)  # what fits everywhere, for retrainings
    assert found.cpus_per_trial == 2
    assert "22 trials at once on 5 GPUs, 8 on each H100, 2 on each T4, 2 CPUs each" in found.explanation
    assert Counter(bundle["GPU"] for bundle in found.bundles) == {0.125: 16, 0.5: 6}
    assert sum(bundle["GPU"] for bundle in found.bundles) == 5


def test_kinds_that_take_the_same_number_are_alike():
    found = plan(MIXED, measured={"H100": 4, "T4": 4})
    assert not found.kinds
    assert found.concurrent == 20
    assert not plan(MIXED, trials=5, measured={"H100": 8, "T4": 2}).kinds  # a trial for each GPU


def test_gpus_of_unknown_kind_take_what_fits_the_weakest():
    kinds = ("", "H100", "T4", "")
    found = plan(replace(MIXED, kinds=kinds), measured={"H100": 8, "T4": 2})
    assert found.kinds == {"H100": KindOfGpu(2, 8), "T4": KindOfGpu(2, 2), "": KindOfGpu(1, 2)}
    unknown = plan(replace(MIXED, kinds=("",) * 4), measured=2)
    assert unknown.concurrent == 10
    assert plan(replace(MIXED, kinds=("",) * 4, kinds_now=frozenset()), measured={"": 4}).concurrent == 20


def test_the_packing_of_each_kind_is_used_again():
    earlier = RecordedPacking(0.5, {"H100": 8, "T4": 2, "": 2})
    assert plan(MIXED, recorded=earlier).kinds == plan(MIXED, measured={"H100": 8, "T4": 2}).kinds
    assert plan(replace(MIXED, kinds=("", "T4", "T4", "T4")), recorded=earlier).concurrent == 10
    study = {"devices": asdict(plan(MIXED, measured={"H100": 8, "T4": 2}))}
    assert recorded_gpus(study) == earlier
    assert recorded_gpus({"devices": {"gpus_per_trial": 0.5}}) == RecordedPacking(0.5)  # from before there were kinds
    assert recorded_gpus({"devices": {"gpus_per_trial": 0.0}}) is None
    assert recorded_gpus({}) is None


def test_numbers_that_were_given_are_for_all_kinds():
    for asked, concurrent in (({"trials_per_gpu": 2}, 10), ({"gpus_per_trial": 0.5}, 10), ({"concurrent": 10}, 10)):
        found = plan(MIXED, **asked)
        assert (found.concurrent, found.kinds) == (concurrent, {})


def test_a_head_without_gpus_lends_no_cpus():
    assert plan(Inventory(((64, 0), (8, 2), (16, 2)), 4), trials_per_gpu=2).cpus_per_trial == 2


def test_more_trials_than_cpus_share_them():
    found = plan(machine(2, 1), trials_per_gpu=4)
    assert (found.cpus_per_trial, found.threads) == (0.5, 1)


@pytest.mark.parametrize(
    ("have", "asked", "expected"),
    [
        (machine(8, 2), {"gpus_per_trial": 4.0}, "only 2 GPUs are available"),
        (machine(8, 4), {"gpus_per_trial": 1.5}, "above 1 it must be a whole number"),
        (machine(8, 4), {"gpus_per_trial": 3.0}, "does not divide the 4 GPUs: 1 would be idle; use 2 or 4, or confirm with --concurrent 1"),
        (Inventory(((8, 2), (8, 2)), 4), {"gpus_per_trial": 5.0}, "only 4 GPUs are available"),
        (machine(8, 4), {"gpus_per_trial": 2.0, "concurrent": 3}, "4 GPUs, 2 for each trial, hold 2 at once"),
        (machine(8, 4), {"gpus_per_trial": 2.0, "cpus_per_trial": 5}, "there are 4 CPUs for 2 GPUs"),
        (machine(8, 2), {"gpus_per_trial": 0.3}, r"does not divide a GPU: 3 trials .*use 0.3333 \(3 on a GPU\) or 0.25 \(4\)"),
        (machine(8, 2), {"gpus_per_trial": 0.0}, "must be above 0"),
        (machine(8, 2), {"gpus_per_trial": 0.5, "concurrent": 5}, "hold 4 at once"),
        (machine(8, 4), {"concurrent": 6}, "6 does not divide among 4 GPUs: 2 on each would leave 1 idle; use 4 or 8"),
        (machine(8, 2), {"trials_per_gpu": 2, "cpus_per_trial": 4}, "2 trials on a GPU need 8 CPUs, but there are 4"),
        (machine(8), {"trials_per_gpu": 2}, "--trials-per-gpu 2: no GPU is available"),
        (machine(8), {"trials_per_gpu": "auto"}, "--trials-per-gpu auto: no GPU is available"),
        (machine(8), {"gpus_per_trial": 0.5}, "--gpus-per-trial 0.5: no GPU is available"),
        (machine(8, 1), {"gpus_per_trial": 0.5, "device": "cpu"}, "with --device cpu"),
        (machine(8), {"device": "cuda"}, "Ray sees no GPU"),
        (machine(2), {"concurrent": 3}, "--concurrent 3 trials with 1 CPUs each need 3 CPUs, but Ray has 2"),
        (machine(2), {"cpus_per_trial": 3}, "--cpus-per-trial 3: Ray has 2 CPUs"),
    ],
)  # fmt: skip
def test_refused(have, asked, expected):
    with pytest.raises(InputError, match=expected):
        plan(have, **asked)


@pytest.mark.parametrize(("at_once", "mps", "is_said"), [(4, False, True), (4, True, False), (1, False, False)])
def test_trials_that_share_a_gpu_without_mps_are_said_to_take_turns(at_once, mps, is_said):
    found = plan(machine(8, 1), measured=at_once, mps=mps)
    said = "; they take turns on the GPU unless CUDA MPS runs (--mps)" if is_said else ""
    assert found.explanation.endswith(f" (as measured{said})")


def test_the_same_twice_is_refused():
    with pytest.raises(InputError, match="set the same thing"):
        DeviceOptions(trials_per_gpu=2, gpus_per_trial=0.5)


def test_gpus_that_this_machine_does_not_have(monkeypatch):
    monkeypatch.setattr("winnow.search.resources.plan.gpus_here", lambda: 1)
    with pytest.raises(InputError, match="--num-gpus 2: this machine has 1"):
        DeviceOptions(num_gpus=2).check_here()
    DeviceOptions(num_gpus=1).check_here()
    DeviceOptions(num_gpus=2, device="cpu").check_here()  # declared ones


def test_a_mac_trains_one_trial_at_a_time():
    assert plan(machine(8), device="mps").concurrent == 1
    assert plan(machine(8), device="mps", concurrent=2).concurrent == 2


def test_a_cluster_without_a_gpu_yet_waits_and_says_so():
    assert (
        "the first trial waits until the cluster has its first GPU" in plan(Inventory(((4, 0), (4, 1)), 0)).explanation
    )


def test_nothing_is_measured_before_the_first_gpu_comes():
    """A cluster that scales from none; the plan says so, and how to set another number."""
    growing = Inventory(((8, 2), (8, 2)), 0)
    found = plan(growing)  # `measure` would fail
    assert (found.concurrent, found.gpus_per_trial) == (4, 1.0)
    assert "(not measured, as there is no GPU yet; --trials-per-gpu sets another number)" in found.explanation
    assert "not measured" not in plan(growing, trials_per_gpu=2).explanation
