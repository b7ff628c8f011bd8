"""What Winnow uses of Ray, Optuna and torch beyond their documented interface: the list, and a test each that fails when it changes.

The upper bounds in pyproject.toml are the versions for which these passed. After an upgrade run this file first, then
`make test-slow`; what each is for is in docs/ray-and-optuna-notes.md.

| part | used in | here or elsewhere |
|---|---|---|
| environment variables of Tune's workers, `class_cache` | ray_backend/lean_tune.py | here |
| snapshots, registry, statistics and usage tags of Tune | ray_backend/lean_tune.py | here |
| methods of Ray's node that start its processes | ray_backend/lean_ray.py | here, and search/ray_backend/test_tasks.py |
| `ConsolePopen`, with which Ray starts its servers | ray_backend/held_signals.py | here |
| `PlacementGroupResourceManager` of Tune's controller, and how it keeps its groups | ray_backend/late_nodes.py | here |
| `choose_trial_to_run` may return None | ray_backend/tune.py | here |
| pending trials and live actors of Tune's controller, and its wrapper | ray_backend/hangs.py | search/ray_backend/test_hangs.py |
| `TUNE_FUNCTION_THREAD_TIMEOUT_S` | ray_backend/session.py | search/ray_backend/test_hangs.py |
| `RayActorManager._actor_task_failed` | ray_backend/worker_errors.py | search/ray_backend/test_worker_errors.py |
| `Trial.pickled_error_file` | ray_backend/tune.py | here |
| `canonicalize_bootstrap_address` | ray_backend/cluster.py | here |
| `RAY_preload_python_modules`, idle workers | ray_backend/session.py | search/ray_backend/test_worker_imports.py |
| `RAY_TRAIN_*` switches | ray_backend/rank_groups.py | here |
| session folders that Ray's processes hold open | ray_backend/watchdog.py | search/ray_backend/test_interrupts.py |
| `_global_*` hooks of all modules, the length of torch's stacks of modes, hooks of saved tensors, threads of autograd | training/process_state.py | search/training/test_process_state.py |
| a stand-in for `torch._dynamo` | ray_backend/lean_imports.py | here |
| the parts of `TPESampler` | samplers/optuna_samplers.py | search/samplers/test_tpe.py |
| samplers read a study by `get_all_trials` alone | samplers/study_view.py | here |
| `JournalFileOpenLock.acquire` and `.release` | study/journal_file.py | here |
| operations of Optuna's journal | reports/reading/journal.py | here, and reports/test_journal.py |
| `_Fanova` | reports/tables/importance.py | reports/test_tables.py |
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib

import optuna
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import REPOSITORY
from winnow.reports.reading import journal
from winnow.search.samplers.study_view import view_of
from winnow.spaces.samplers import SAMPLERS

LEANED_ON = ("torch", "torchvision", "ray", "optuna")


@pytest.mark.parametrize("package", LEANED_ON)
def test_what_is_leaned_on_has_an_upper_bound_that_was_tested(package):
    """The lock, with which these tests run, holds the newest minor release that the bound allows."""
    from importlib.metadata import version

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (requirement,) = [r for r in map(Requirement, project["dependencies"]) if r.name == package]
    (bound,) = [Version(part.version) for part in requirement.specifier if part.operator == "<"]
    installed = Version(version(package))
    assert installed in requirement.specifier
    assert (bound.major, bound.minor) == (installed.major, installed.minor + 1)


def test_tune_keeps_its_placement_groups_as_ours_does():
    """`_OnCheckedNodes.request_resources` is Ray's own, with a selector: what Ray's notes, ours has to note."""
    from ray.air.execution.resources import PlacementGroupResourceManager
    from ray.tune.execution.tune_controller import TuneController

    from winnow.search.ray_backend.late_nodes import _OnCheckedNodes

    assert "PlacementGroupResourceManager()" in inspect.getsource(TuneController.__init__)
    noted = {
        re.match(r"self\.(\w+)", line.strip())[1]
        for manager in (PlacementGroupResourceManager, _OnCheckedNodes)
        for line in inspect.getsource(manager.request_resources).splitlines()
        if line.strip().startswith("self._")
    } - {"_kinds"}  # ours alone
    assert noted == {"_pg_to_request", "_request_to_staged_pgs", "_staging_future_to_pg", "_pg_to_staging_future"}
    source = inspect.getsource(PlacementGroupResourceManager.request_resources)
    assert all(name in source for name in noted)


def test_tune_takes_the_environment_of_its_workers_from_two_names():
    from ray.tune.execution import class_cache

    assert isinstance(class_cache.DEFAULT_ENV_VARS, dict)
    assert isinstance(class_cache.ENV_VARS_TO_PROPAGATE, set)
    source = inspect.getsource(class_cache._ActorClassCache.get)
    assert "DEFAULT_ENV_VARS.copy()" in source
    assert "in ENV_VARS_TO_PROPAGATE:" in source


def test_ray_starts_the_processes_that_are_left_out_by_these_methods():
    from ray._private.node import Node

    from winnow.search.ray_backend.lean_ray import UNUSED

    source = inspect.getsource(Node.start_head_processes) + inspect.getsource(Node.start_ray_processes)
    assert all(f"self.{name}(" in source for name in UNUSED)


def test_ray_starts_its_servers_with_its_own_popen():
    from ray._private import services

    source = inspect.getsource(services)
    assert source.count("ConsolePopen(\n        command,") == 1
    assert "Popen(" not in source.replace("ConsolePopen(", "")


def test_the_parts_of_tune_that_are_switched_off_are_still_there():
    import sys

    from ray.tune import registry
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.trainable.metadata import _TrainingRunMetadata

    assert "self._get_trial_checkpoints()" in inspect.getsource(TuneController.save_to_dir)
    assert "_internal_kv_get" in inspect.getsource(registry._global_registry.get)
    assert "_internal_kv_get" in inspect.getsource(registry._global_registry.contains)
    assert "air_usage.tag_callbacks(callbacks)" in inspect.getsource(sys.modules["ray.tune.tune"])
    assert {"metric_analysis", "metric_n_steps", "last_result"} <= set(vars(_TrainingRunMetadata()))


def test_the_controller_accepts_that_no_trial_is_chosen():
    from ray.tune.execution.tune_controller import TuneController

    source = inspect.getsource(TuneController._maybe_add_actors)
    assert "choose_trial_to_run(" in source
    assert "if trial_to_run:" in source


def test_an_error_of_a_trial_is_kept_as_a_file():
    from ray.tune.experiment import Trial

    assert isinstance(inspect.getattr_static(Trial, "pickled_error_file"), property)


def test_ray_tells_the_address_that_auto_means(monkeypatch):
    from ray._private.services import canonicalize_bootstrap_address

    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")  # reserved for documentation; nothing is connected to
    assert canonicalize_bootstrap_address("auto") == "192.0.2.1:6379"


def test_ray_train_knows_the_switches_that_are_set():
    """A variable that Ray no longer reads is ignored without a word."""
    from winnow.search.ray_backend.rank_groups import RAY_TRAIN_ENVIRONMENT

    names = [name for name in RAY_TRAIN_ENVIRONMENT if name.startswith("RAY_TRAIN_")]
    import ray

    folder = os.path.join(os.path.dirname(ray.__file__), "train")
    read = subprocess.run(
        ["grep", "-rhoE", "RAY_TRAIN_[A-Z_]+", "--include=*.py", folder], capture_output=True, text=True, check=True
    )
    assert names
    assert set(names) <= set(read.stdout.split())


def test_an_optimizer_step_needs_nothing_of_the_compiler_but_two_functions():
    """With the stand-in no module of the compiler is imported; asked for anything else, it gives way to the real one."""
    code = (
        "from winnow.search.ray_backend.lean_imports import prepare_imports; prepare_imports()\n"
        "import sys, torch\n"
        "layer = torch.nn.Linear(2, 1)\n"
        "for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop):\n"
        "    optimizer = kind(layer.parameters(), lr=0.1)\n"
        "    layer(torch.ones(3, 2)).sum().backward(); optimizer.step()\n"
        "print(sorted({'sympy', 'torch._dynamo.eval_frame'} & set(sys.modules)))\n"
        "print(callable(torch._dynamo.optimize), 'torch._dynamo.eval_frame' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.splitlines() == ["[]", "True True"], done.stderr


@pytest.mark.parametrize("name", [name for name, spec in SAMPLERS.items() if spec.reads_results and not spec.pauses])
def test_optunas_samplers_read_the_trials_of_a_view(name):
    """A sampler that reads a study by other ways than `get_all_trials` would not see them, and would draw at random."""
    from winnow.search.samplers.registry import SamplerContext, make_sampler

    space = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}

    def mean_suggestion(best: float) -> float:
        trials = [
            optuna.trial.create_trial(params={"x": k / 40}, distributions=space, value=-abs(k / 40 - best))
            for k in range(40)
        ]
        values = []
        for number in range(40, 48):
            study = view_of(trials, optuna.study.StudyDirection.MAXIMIZE)
            study.sampler = make_sampler(name, SamplerContext(seed=0, number=number, rungs=[1]))
            values.append(study.ask().suggest_float("x", 0.0, 1.0))
        return sum(values) / len(values)

    assert mean_suggestion(0.9) - mean_suggestion(0.1) > 0.3


def test_the_journal_asks_its_lock_for_two_things():
    from optuna.storages.journal import JournalFileOpenLock
    from optuna.storages.journal._file import get_lock_file

    assert {"acquire", "release"} <= set(vars(JournalFileOpenLock))
    source = inspect.getsource(get_lock_file)
    assert ".acquire()" in source
    assert ".release()" in source


def test_the_journal_has_the_operations_that_are_read():
    from optuna.storages.journal._storage import JournalOperation

    known = {operation.name: operation.value for operation in JournalOperation}
    assert known == {
        "CREATE_STUDY": 0,
        "DELETE_STUDY": 1,
        "SET_STUDY_USER_ATTR": 2,
        "SET_STUDY_SYSTEM_ATTR": 3,
        "CREATE_TRIAL": 4,
        "SET_TRIAL_PARAM": 5,
        "SET_TRIAL_STATE_VALUES": 6,
        "SET_TRIAL_INTERMEDIATE_VALUE": 7,
        "SET_TRIAL_USER_ATTR": 8,
        "SET_TRIAL_SYSTEM_ATTR": 9,
        "DISCARD_TRIALS": 10,
    }
    assert set(known.values()) == journal._KNOWN
