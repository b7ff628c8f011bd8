"""What a rank does with its requests: it drops one for the next, and reports its errors."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.helpers.rank_training import CARELESS, NOISY, PLAIN, epochs, groups, ray, run  # noqa: F401
from tests.helpers.tiny import tiny_config, tiny_data
from winnow.search.ray_backend.shared_data import Job, SharedData, train_on
from winnow.search.ray_backend.worker import trial_reports
from winnow.search.study.trials import Assignment
from winnow.search.training.errors import Failed
from winnow.search.training.ranks import Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_training_that_is_dropped_leaves_the_group_to_the_next(ray, groups):  # noqa: F811
    """A stopped trial drops its training: what it would have reported next reaches nobody."""
    data = SharedData(ray.put(tiny_data()), groups[2])
    with closing(train_on(data, "stopped", epochs, config=tiny_config(epochs=50), state=None)) as stopped:
        first, _, _, pid = next(stopped)
    second = list(train_on(data, "next", epochs, config=tiny_config(epochs=2), state=None))
    assert [report[0]["epoch"] for report in second] == [1, 2]
    assert {report[3] for report in second} == {pid}
    assert first["lr"] == second[0][0]["lr"]


def test_what_a_model_changes_on_a_rank_does_not_reach_the_next_training(ray, groups):  # noqa: F811
    data = SharedData(ray.put(tiny_data()), groups[2])
    plain, careless = tiny_config(**PLAIN), tiny_config(**{**PLAIN, "model": CARELESS})
    before, changed, after = (
        list(train_on(data, "a test", epochs, config=config, state=None)) for config in (plain, careless, plain)
    )
    assert [report[0] for report in after] == [report[0] for report in before]
    assert len({report[3] for report in (*before, *changed, *after)}) == 1  # one group trained all of them


def test_what_a_model_prints_on_the_first_rank_is_kept(ray, groups, tmp_path):  # noqa: F811
    data = SharedData(ray.put(tiny_data()), groups[2])
    config = tiny_config(**{**PLAIN, "model": NOISY, "epochs": 1})
    trial = Assignment(7, 1, config.model_dump(mode="json"))
    reports = list(trial_reports(trial, data, Job(str(tmp_path), "cpu", 1, seed=0)))
    assert [report.get("error") for report in reports] == [None]
    assert set((tmp_path / "trial-00007.log").read_text().splitlines()) == {"a batch"}


def test_an_error_of_a_rank_is_reported_in_its_words(run):  # noqa: F811
    config = tiny_config(**PLAIN)
    _, states, _ = run(config, 1)
    other_seed = Task(config, 0, "search", 7, {**states[0], "seed": 8}, 1)
    with pytest.raises(Failed) as raised:
        run(config, 2, states[0], other=other_seed)
    assert raised.value.status == "failed"
    assert raised.value.text.startswith("rank 1: Traceback")
    assert raised.value.text.endswith("ValueError: the checkpoint has the seed 8, not 7\n")


def test_a_rank_that_runs_out_of_memory_is_no_rank_that_is_lost(run):  # noqa: F811
    """While rank 0 waits for it. A layer of terabytes: torch's allocator really fails."""
    huge = Task(tiny_config(**{**PLAIN, "model": {"name": "mlp", "hidden": [10**10]}}), 0, "search", 7, None, 1)
    with pytest.raises(Failed) as raised:
        run(tiny_config(**PLAIN), 2, other=huge)
    assert raised.value.status == "out_of_memory"
