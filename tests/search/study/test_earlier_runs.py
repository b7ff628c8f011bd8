"""Searches that learn from earlier runs, without Ray and without training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tests.helpers.ledgers import make_folder, run_to_the_end, study_of
from tests.helpers.make_run import make_run
from tests.reports.test_versions import VERSION_1
from winnow import reports
from winnow.reports.figures.memory import weight_lines
from winnow.reports.html.search_sections import memory
from winnow.reports.text.memory import earlier_runs, memory_sentence
from winnow.search.samplers.feasibility import Feasibility
from winnow.search.samplers.memory_model import Recollection, ThisSearch, win_scores
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.earlier_runs import _trials, learn_from, recollect
from winnow.search.study.ledger import Ledger
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.known_parts import known_parts
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import completions

SHAPE = (1, 8, 8)
X = FloatDistribution(0, 1)


def trial(x: float, values: Mapping[int, float], state: TrialState = TrialState.PRUNED) -> FrozenTrial:
    return create_trial(
        state=state,
        value=values[max(values)] if state == TrialState.COMPLETE else None,
        params={"x": x},
        distributions={"x": X},
        intermediate_values=dict(values),
    )


def peaked(at: float, num: int = 15, sign: float = 1.0) -> list[FrozenTrial]:
    return [trial(x, {1: -sign * abs(x - at)}) for x in np.linspace(0, 1, num)]


def weights_of(recollection: Recollection, here: list[FrozenTrial], sign: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return recollection.weights(ThisSearch(recollection.encoding, here, sign, rng), rng)


@pytest.fixture(scope="module")
def old_runs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("old")
    return [make_run(folder / name, stage="searched", seed=seed) for seed, name in enumerate(("a", "b"))]


def learning(tmp_path: Path, old_runs: Sequence[Path], **options: Any) -> tuple[RunFolder, Space, Any]:
    """A run folder as the start of a search leaves it."""
    space = catalog.load("digits")
    settings = settings_for(space, **{"trials": 14, "learn_from": [str(run) for run in old_runs], **options})
    earlier = learn_from(settings.learn_from or [], space)
    folder = make_folder(tmp_path, space, settings)
    folder.study.write_text(yaml.safe_dump({**folder.read_study(), "earlier_runs": earlier.facts}))
    folder.earlier_runs.write_text("".join(f"{line}\n" for line in earlier.lines))
    return folder, space, settings


# --- what earlier runs are worth ------------------------------------------------------------------------------------------


def test_trials_are_compared_where_both_were(tmp_path):
    stopped, slow, best, failed = (
        trial(0.1, {1: 0.5}),
        trial(0.2, {1: 0.4, 2: 0.9}),
        trial(0.3, {1: 0.6, 2: 0.95}),
        trial(0.4, {}),
    )
    scores = win_scores([stopped, slow, best, failed])
    assert list(np.argsort(scores)) == [3, 1, 0, 2]
    assert scores.mean() == pytest.approx(0)
    assert list(np.argsort(win_scores([stopped, slow, best], sign=-1.0))) == [2, 0, 1]


def test_a_completed_trial_keeps_its_last_value():
    """It ended by its own early stopping, after two epochs at 0.62; the others are better and worse in the end."""
    early = trial(0.1, {1: 0.5, 2: 0.62}, TrialState.COMPLETE)
    better = trial(0.2, {1: 0.3, 2: 0.4, 3: 0.8}, TrialState.COMPLETE)
    worse, stopped = trial(0.3, {1: 0.4, 2: 0.5, 3: 0.6}), trial(0.4, {1: 0.55})
    assert list(np.argsort(win_scores([early, better, worse]))) == [2, 0, 1]
    assert list(np.argsort(win_scores([early, stopped]))) == [0, 1]


def test_which_trials_of_an_earlier_run_completed_is_taken_over(tmp_path, old_runs):
    folder, space, _ = learning(tmp_path, old_runs)
    for path, line in zip(old_runs, read_json_lines(folder.earlier_runs), strict=True):
        status = {row["trial"]: row["status"] for row in reports.read(path).trial_rows()}
        states = [each.state == TrialState.COMPLETE for each in _trials(line["trials"], space)]
        assert states == [status[each["trial"]] == "completed" for each in line["trials"]]
        assert True in states
        assert False in states
        before = [{key: value for key, value in each.items() if key != "completed"} for each in line["trials"]]
        assert all(each.state == TrialState.PRUNED for each in _trials(before, space))  # a file of an earlier version


def test_a_run_that_explains_the_first_results_weighs_more():
    recollection = Recollection({"alike": peaked(0.8), "other": peaked(0.1)})
    assert weights_of(recollection, []).tolist() == [0.5, 0.5]
    here = [trial(x, {1: -abs(x - 0.8)}) for x in (0.05, 0.3, 0.5, 0.9)]
    weights = weights_of(recollection, here)
    assert weights[0] > 0.3
    assert weights[1] < 0.05
    mirrored = [trial(x, {1: abs(x - 0.8)}) for x in (0.05, 0.3, 0.5, 0.9)]
    assert np.allclose(weights_of(recollection, mirrored, -1.0), weights, atol=0.1)


def test_the_first_proposals_cover_what_was_good_in_each_run_and_the_next_ones_refine_it():
    recollection, rng = Recollection({"right": peaked(0.9), "left": peaked(0.1)}), np.random.default_rng(0)
    here: list[FrozenTrial] = []
    weights = []
    for _ in range(12):
        proposals = recollection.propose(here, 1.0, rng)
        weights.append(proposals.weights)
        found = [recollection.encoding.params(point)["x"] for point in proposals.points]
        x = found[0] if found else rng.random()  # it is the turn of the other sampler
        here.append(trial(x, {1: -abs(x - 0.85)}))
    tried = [each.params["x"] for each in here]
    assert sorted(tried[:2]) == pytest.approx([0.1, 0.9], abs=0.12)
    assert min(abs(x - 0.85) for x in tried) < 0.03
    assert np.mean(weights[3:], axis=0)[0] > 2 * np.mean(weights[3:], axis=0)[1]


def test_the_scores_of_trials_are_computed_once(monkeypatch):
    """After 10,000 trials, predicting all of them at each suggestion would take longer than everything else."""
    recollection, fresh = (Recollection({"right": peaked(0.9), "left": peaked(0.1)}) for _ in range(2))
    here = [trial(x, {1: x}) for x in np.linspace(0, 1, 40)]
    predicted = []
    scores_of = Recollection._scores_of
    monkeypatch.setattr(
        Recollection, "_scores_of", lambda self, points: (predicted.append(len(points)), scores_of(self, points))[1]
    )
    recollection.propose(here[:30], 1.0, np.random.default_rng(0))
    predicted.clear()
    again = recollection.propose(here, 1.0, np.random.default_rng(1))
    assert 10 in predicted
    assert predicted.count(40) == 1  # those that decide the weights
    first = fresh.propose(here, 1.0, np.random.default_rng(1))
    assert np.array_equal(first.points, again.points)
    other = recollection.propose(here[5:], 1.0, np.random.default_rng(1))
    assert np.array_equal(other.points, fresh.propose(here[5:], 1.0, np.random.default_rng(1)).points)


def test_useless_runs_leave_the_search_alone():
    rng = np.random.default_rng(3)
    noise = {f"noise {k}": [trial(x, {1: y}) for x, y in rng.random((12, 2))] for k in range(8)}
    here = [trial(x, {1: -abs(x - 0.5)}) for x in np.linspace(0, 1, 25)]
    assert weights_of(Recollection(noise), here).sum() < 0.4


# --- what agrees ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "cifar10-cnn"])
def test_a_space_knows_its_own_configs(name):
    space = catalog.load(name)
    for drawn in completions({}, num_random=20):
        raw = space.suggest(drawn)
        if not space.infeasible(raw, None):
            config = space.config(raw).model_dump(mode="json")
            assert known_parts(space, [config])[0] == space.encode(config)


def test_parameters_agree_by_name_kind_and_range():
    def of(**changes: Any) -> Space:
        tree = {
            "data": "digits",
            "epochs": 2,
            "batch_size": {"choice": [32, 64]},
            "model": {"name": "mlp", "hidden": [8], "dropout": {"float": [0.0, 0.5]}},
            "optimizer": {"name": "sgd", "lr": {"log": [0.01, 1.0]}},
        }
        return Space.from_tree({**tree, **changes}, "made")

    config = {
        "data": "digits",
        "epochs": 9,
        "batch_size": 64,
        "model": {"name": "mlp", "hidden": [8], "dropout": 0.4},
        "optimizer": {"name": "sgd", "lr": 0.5},
    }
    assert known_parts(of(), [config])[0] == {"batch_size": 64, "model.dropout": 0.4, "optimizer.lr": 0.5}
    narrow = of(optimizer={"name": "sgd", "lr": {"log": [0.01, 0.1]}})
    assert known_parts(narrow, [config])[0]["optimizer.lr"] is None
    other = of(optimizer={"name": "adam", "lr": {"log": [0.01, 1.0]}})
    assert "optimizer.lr" not in known_parts(other, [config])[0]
    either = of(optimizer={"choice": {n: {"lr": {"log": [0.01, 1.0]}} for n in ("adam", "sgd")}})
    known = known_parts(either, [config])[0]
    assert (known["optimizer"], known["optimizer.sgd.lr"]) == ("sgd", 0.5)
    assert "optimizer.adam.lr" not in known


# --- a search -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["forecast", "random", "qmc"])
def test_a_search_learns_and_says_from_whom(tmp_path, old_runs, sampler):
    folder, space, settings = learning(tmp_path, old_runs, sampler=sampler)
    run_to_the_end(Ledger(folder, space, settings, SHAPE))
    run = reports.read(folder.path)
    rows = run.rows("memory")
    assert {row["earlier_run"] for row in rows} == {"a", "b"}
    assert {row["data"] for row in rows} == {"digits"}
    assert {row["data_fingerprint"] for row in rows} == {"0123456789abcdef"}
    first = [row for row in rows if row["trial"] == min(row["trial"] for row in rows)]
    assert [row["weight"] for row in first] == [0.5, 0.5]
    assert sum(row["share"] for row in first) == pytest.approx(1)
    assert "The search learned from 2 earlier runs" in memory_sentence(run)
    assert {trial for each in earlier_runs(run) for trial, _ in each.main_for}
    assert weight_lines(run).keys() == {"a", "b"}
    section = memory(run)
    assert section is not None
    assert "Weight of each earlier run" in section.html


def test_a_resumed_search_learns_on_without_the_old_runs(tmp_path, old_runs):
    copies = [shutil.copytree(run, tmp_path / "old" / run.name) for run in old_runs]
    folder, space, settings = learning(tmp_path / "whole", copies)
    parts = RunFolder(shutil.copytree(folder.path, tmp_path / "parts"))
    run_to_the_end(Ledger(folder, space, settings, SHAPE))
    shutil.rmtree(tmp_path / "old")
    while run_to_the_end(Ledger(parts, space, settings, SHAPE), crash_after=3) is False:
        pass
    assert [t.params for t in study_of(parts).trials] == [t.params for t in study_of(folder).trials]
    attrs = [[t.user_attrs.get("memory") for t in study_of(each).trials] for each in (parts, folder)]
    assert attrs[0] == attrs[1]


def test_a_report_alone_teaches_as_much_as_its_run(tmp_path, old_runs):
    space = catalog.load("digits")
    reports.write(old_runs[0])
    alone = shutil.copytree(old_runs[0] / "report", tmp_path / "alone")
    keys = ("run", "family", "trials_taken_over", "agreeing", "data_fingerprint", "winnow_version")
    of_run, of_report = (learn_from([str(place)], space).facts[0] for place in (old_runs[0], alone))
    assert {key: of_run[key] for key in keys} == {key: of_report[key] for key in keys}
    shutil.rmtree(old_runs[0] / "report")


def test_a_report_of_version_1_is_read():
    facts = learn_from([str(VERSION_1)], catalog.load("digits")).facts[0]
    assert facts["trials_taken_over"] > 0
    assert "batch_size" in facts["agreeing"]


def test_a_changed_space_recalls_what_still_agrees(tmp_path, old_runs):
    folder, _, _ = learning(tmp_path, old_runs)
    narrower = catalog.load("digits", ["batch_size=64"])
    recollection = recollect(folder, narrower)
    assert recollection is not None
    assert "batch_size" not in recollection.encoding.names
    tree = {"model": {"name": "mlp", "hidden": [{"int": [900, 901]}]}, "optimizer": {"name": "adam", "lr": 0.1}}
    unlike = Space.from_tree({"data": "digits", "epochs": 1, "batch_size": 64, **tree}, "unlike")
    assert recollect(folder, unlike) is None


def test_only_what_the_limits_allow_is_proposed(tmp_path, old_runs):
    """Otherwise the same ten large networks would be refused at each suggestion."""
    space = catalog.load("digits", ["search.limits.parameters=3000"])
    settings = settings_for(space, trials=6, learn_from=[str(run) for run in old_runs], sampler="random")
    folder = make_folder(tmp_path, space, settings)
    earlier = learn_from(settings.learn_from or [], space)
    folder.study.write_text(yaml.safe_dump({**folder.read_study(), "earlier_runs": earlier.facts}))
    folder.earlier_runs.write_text("".join(f"{line}\n" for line in earlier.lines))
    feasibility = Feasibility(settings.limits, SHAPE, 10)
    allows = feasibility.filter(space)
    assert allows is not None
    unlimited, limited = recollect(folder, space), recollect(folder, space, allows)
    assert unlimited is not None
    assert limited is not None
    refused = [point for point in unlimited.candidates if not allows(unlimited.encoding.params(point))]
    assert len(refused) > len(unlimited.candidates) / 2
    assert len(limited.candidates) > 20
    assert all(allows(limited.encoding.params(point)) for point in limited.candidates)
    run_to_the_end(Ledger(folder, space, settings, SHAPE))
    assert sum("shares" in trial.user_attrs.get("memory", {}) for trial in study_of(folder).trials) > 1
    nothing = Recollection({"a": peaked(0.8)}, lambda params: False)
    here = [trial(x, {1: x}) for x in (0.1, 0.5, 0.9)]
    assert not len(nothing.propose(here[:1], 1.0, np.random.default_rng(0)).points)
    assert not len(nothing.propose(here, 1.0, np.random.default_rng(0)).points)


def test_suggestions_without_a_result_are_told_apart(tmp_path, old_runs):
    folder, space, settings = learning(tmp_path, old_runs, sampler="random", trials=8)
    ledger = Ledger(folder, space, settings, SHAPE)
    while (assignment := ledger.ask()) is not None:
        ledger.record(assignment.number, {"status": "infeasible", "error": "latency_ms: 9 is above the limit of 5"})
    ledger.close()
    run = reports.read(folder.path)
    shares = {row["trial"] for row in run.rows("memory") if row["share"] is not None}
    assert f"suggested {len(shares)} of 7 trials ({len(shares)} of these failed or were infeasible)" in memory_sentence(
        run
    )
    assert not any(each.main_for for each in earlier_runs(run))
    assert {number for each in earlier_runs(run) for number in each.without_result} <= shares
    assert any(each.without_result for each in earlier_runs(run))


# --- bad input ------------------------------------------------------------------------------------------------------------


def test_what_cannot_teach_is_refused(tmp_path, old_runs):
    space = catalog.load("digits")
    empty = make_run(tmp_path / "empty", stage="empty")
    (empty / "report").mkdir()
    tree = {"model": {"name": "mlp", "hidden": [{"int": [900, 901]}]}, "optimizer": {"name": "adam", "lr": 0.1}}
    unlike = Space.from_tree({"data": "digits", "epochs": 1, "batch_size": 64, **tree}, "unlike")
    cases: list[tuple[list[str], Space, str]] = [
        ([str(tmp_path / "absent")], space, "no run here"),
        ([str(empty / "report")], space, "no run here, nor a folder of runs"),
        ([str(tmp_path)], space, "no run in this folder can be used; .*empty: none of its 0 trials"),
        ([str(empty)], space, "none of its 0 trials has finished an epoch and ended"),
        ([str(old_runs[0])], unlike, "no parameter of this space has the same name, kind and range"),
        ([str(old_runs[0])] * 2, space, "this run is given twice"),
    ]
    for runs, searched, words in cases:
        with pytest.raises(InputError, match=words) as refusal:
            learn_from(runs, searched)
        assert str(refusal.value).startswith(f"--learn-from {runs[-1]}: ")


def test_a_folder_stands_for_the_runs_in_it(tmp_path, old_runs):
    """Those that cannot teach are named and left out, and so is what is no run at all."""
    space, together = catalog.load("digits"), old_runs[0].parent
    alone = learn_from([str(run) for run in old_runs], space)
    assert learn_from([str(together)], space) == alone
    for run in old_runs:
        shutil.copytree(run, tmp_path / "runs" / run.name)
    make_run(tmp_path / "runs" / "empty", stage="empty")
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "study.yaml").write_text("{")
    found = learn_from([str(tmp_path / "runs")], space)
    assert [each["run"] for each in found.facts] == ["a", "b"]
    damaged, empty = found.left_out
    assert damaged.startswith(f"{tmp_path / 'runs' / 'damaged'}: ")
    assert empty == f"{tmp_path / 'runs' / 'empty'}: none of its 0 trials has finished an epoch and ended"


def test_a_run_in_a_folder_that_is_given_too_is_used_once(tmp_path, old_runs):
    space = catalog.load("digits")
    for run in old_runs:
        shutil.copytree(run, tmp_path / "runs" / run.name)
    runs = [str(tmp_path / "runs" / "b"), str(tmp_path / "runs")]
    assert [each["run"] for each in learn_from(runs, space).facts] == ["b", "a"]
    assert [each["run"] for each in learn_from(runs[::-1], space).facts] == ["a", "b"]
    assert [each["run"] for each in learn_from(runs[1:] * 2, space).facts] == ["a", "b"]
    with pytest.raises(InputError, match=f"--learn-from {runs[0]}: this run is given twice"):
        learn_from([*runs, runs[0]], space)


def test_runs_of_the_same_name_are_told_apart(tmp_path, old_runs):
    other = shutil.copytree(old_runs[0], tmp_path / "again")
    facts = learn_from([str(old_runs[0]), str(other)], catalog.load("digits")).facts
    assert [each["run"] for each in facts] == ["a (1)", "a (2)"]


def test_earlier_runs_that_share_only_parameters_with_one_value_teach_nothing(tmp_path: Path) -> None:
    """Modelling them once raised, since a parameter with one value has no column."""
    space = catalog.load("recipes/digits-baseline", ["batch_size={choice: [64]}"])
    config = space.config(space.suggest(next(iter(completions({}, num_random=1))))).model_dump(mode="json")
    trials = [{"trial": number, "config": config, "values": {"1": 0.1 * number}} for number in range(4)]
    file = tmp_path / "earlier_runs.jsonl"
    file.write_text(json.dumps({"run": "old", "trials": trials}) + "\n")
    folder: Any = SimpleNamespace(earlier_runs=file)
    assert recollect(folder, space) is None
