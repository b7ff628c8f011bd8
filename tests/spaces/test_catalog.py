"""The shipped spaces and recipes, overrides, start points and baselines."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FixedTrial

from winnow.reports.tables.build import config_values
from winnow.spaces import catalog
from winnow.spaces.shapes import known_image_shape
from winnow.spaces.sizes import known_excess, size_of
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import KnownTrial
from winnow.spaces.validation import check

ALL = [*catalog.names(), *catalog.recipe_names()]


def recipe(name: str) -> Any:
    space = catalog.load(name)
    return space.config(space.suggest(KnownTrial({})))


@pytest.mark.parametrize("name", ALL)
def test_every_shipped_file(name: str) -> None:
    """Loads, draws configs that are valid, finds the way back from each, and survives `study.yaml` and pickle."""
    space = catalog.load(name)
    image_shape = known_image_shape(space.tree["data"])
    assert space.is_recipe == name.startswith("recipes/")
    assert space.name == name.removeprefix("recipes/")
    assert pickle.loads(pickle.dumps(space)) == space
    assert Space.from_tree(yaml.safe_load(yaml.safe_dump(space.tree)), space.source) == space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    num_feasible = 0
    for _ in range(30):
        trial = study.ask()
        raw = space.suggest(trial)
        if space.infeasible(raw, image_shape) is None:
            num_feasible += 1
            config = space.config(raw, image_shape).model_dump(mode="json")
            encoded = space.encode(config)
            assert encoded == trial.params
            assert space.suggest(FixedTrial(encoded)) == raw
    assert num_feasible > 20, "most of what is sampled can be built"


@pytest.mark.parametrize("name", catalog.names())
def test_every_start_point_and_baseline(name: str) -> None:
    space = catalog.load(name)
    assert space.start_from_named()
    assert not space.notes
    for _, raw in space.start_from_named():
        encoded = space.encode(raw)
        drawn = space.suggest(KnownTrial(encoded))
        assert space.config(drawn) == space.config(raw)
    assert space.baseline is not None
    assert space.config(space.baseline, known_image_shape(space.tree["data"]))


def test_the_fast_recipe_is_in_the_space_around_it() -> None:
    """With its test-time views, its schedule and its normalization, so that a search can find it."""
    space = catalog.load("cifar10-fast")
    fast = recipe("recipes/cifar10-fast")
    complete = fast.model_dump(mode="json")
    drawn = space.suggest(KnownTrial(space.encode(complete)))
    assert space.config(drawn) == fast
    assert known_excess(space.settings.limits, fast, (3, 32, 32), 10) is None
    assert space.baseline is not None
    measured = [space.config(raw) for raw in (space.baseline, drawn)]
    assert [(config.test_flip, config.test_shift, config.data.normalize) for config in measured] == [
        (True, 1, "dataset")
    ] * 2


def test_the_fast_recipe_for_100_classes_takes_an_hour_on_two_cores() -> None:
    """By its multiply-adds, at 39 microseconds of one core for each million of them and each training image."""
    fast, more = recipe("recipes/cifar10-fast"), recipe("recipes/cifar100-fast")
    assert more.model == fast.model
    assert more.optimizer == fast.optimizer
    size = size_of(more.model, (3, 32, 32), 100)
    assert size is not None
    seconds = more.epochs * 50_000 * size.multiply_adds * 39e-12 / 2
    assert 2400 < seconds < 3600


def test_listing_has_a_description_of_each() -> None:
    listing = dict(catalog.listing())
    assert list(listing) == ALL
    assert all(len(text) > 20 for text in listing.values())


def test_recipes_are_listed_by_number() -> None:
    rows = [name for name in catalog.recipe_names() if "cifar100-a" in name]
    assert rows == [f"recipes/cifar100-a{number}" for number in range(1, 11)]
    steps = [name for name in catalog.recipe_names() if "ablation" in name]
    assert steps == [f"recipes/cifar100-d-ablation-{number}" for number in range(1, 11)]


# --- the reference experiments ------------------------------------------------------------------------------------------

PUBLISHED = [43.68, 46.76, 49.50, 38.40, 56.87, 51.23, 48.44, 40.44, 41.44, 46.16]


@pytest.mark.parametrize("row", range(1, 11))
def test_reference_rows_a(row: int) -> None:
    name = f"recipes/cifar100-a{row}"
    assert dict(catalog.listing())[name].startswith(f"Reference row A{row} ({PUBLISHED[row - 1]:.2f} % ")
    config = recipe(name)
    assert config.data.name == "cifar100"
    assert config.data.validation == 0.2
    assert config.data.normalize.mean == [0.507, 0.487, 0.441]
    assert config.data.normalize.std == [0.267, 0.256, 0.276]
    assert config.data.augment == []
    assert config.epochs == (75 if row == 5 else 50)
    assert config.weights == "lowest_validation_loss"
    assert [stage.filters for stage in config.model.stages] == ([32, 64, 128] if row < 3 else [32, 64, 128, 256])
    kind = "avg" if row == 7 else "max"
    assert [stage.pool for stage in config.model.stages] == [kind, kind, kind, "none"][: len(config.model.stages)]
    assert {(stage.kernel, stage.padding, stage.stride, stage.pool_size) for stage in config.model.stages} == {
        (3, "same", 1, 2)
    }
    assert config.model.norm == ("none" if row == 1 else "batch")
    assert config.model.norm_place == "after_conv"
    assert config.model.head == {1: [1024, 512], 2: [1024, 512], 4: [1024, 256, 512, 128]}.get(row, [1024, 256])
    assert config.model.dropout == (0.0 if row < 4 else 0.5)
    assert config.model.dropout_place == "hidden"
    assert config.model.activation == {5: "elu", 6: "leaky_relu"}.get(row, "relu")
    assert config.loss.name == ("margin" if row == 8 else "cross_entropy")
    assert config.optimizer.name == {9: "sgd", 10: "rmsprop"}.get(row, "adam")
    assert config.optimizer.lr == 0.001
    assert config.optimizer.weight_decay == (0.0005 if row == 10 else 0.0)
    assert getattr(config.optimizer, "momentum", 0.0) == 0.0
    assert config.schedule.name == "constant"


# --- overrides ------------------------------------------------------------------------------------------------------------


def test_an_override_of_a_config_path_goes_to_every_sub_space_that_has_it() -> None:
    space = catalog.load("digits", ["optimizer.lr=1e-2", "optimizer.momentum=0.9"])
    assert "optimizer.lr" not in space.columns()
    assert "optimizer.momentum" not in space.columns()
    for name in ("adam", "adamw", "sgd"):
        assert space.tree["optimizer"]["choice"][name]["lr"] == 0.01
    assert "momentum" not in space.tree["optimizer"]["choice"]["adam"]


def test_an_override_of_one_sub_space() -> None:
    space = catalog.load("digits", ["optimizer.sgd.lr={choice: [0.1, 0.2]}"])
    domains = {parameter.study_name: parameter.domain.to_tree() for parameter in space.parameters()}
    assert domains["optimizer.sgd.lr"] == {"choice": [0.1, 0.2]}
    assert "log" in domains["optimizer.adam.lr"]


def test_an_override_narrows_a_choice_of_sub_spaces() -> None:
    space = catalog.load("digits", ["optimizer.name=sgd", "schedule.name={choice: [cosine, constant]}"])
    assert {name for name in space.columns() if name.startswith("optimizer.")} == {
        *("optimizer.name", "optimizer.lr", "optimizer.momentum")
    }
    assert list(space.tree["schedule"]["choice"]) == ["cosine", "constant"]


def test_an_override_of_all_items_of_a_repeat() -> None:
    space = catalog.load("digits", ["model.stages.kernel=5", "model.stages.filters=16"])
    assert space.tree["model"]["stages"]["of"]["kernel"] == 5
    assert "model.stages.0.filters" not in space.columns()


def test_an_override_may_replace_a_part_or_add_a_key() -> None:
    space = catalog.load(
        "digits", ["schedule=cosine", "data.limit=100", "early_stopping.patience=3", "search.trials=5"]
    )
    config = space.example()
    assert config.schedule.name == "cosine"
    assert config.data.limit == 100
    assert config.early_stopping is not None
    assert config.early_stopping.patience == 3
    assert space.settings.trials == 5


def test_overrides_apply_in_order() -> None:
    assert catalog.load("digits", ["epochs=3", "epochs=7"]).max_epochs == 7


def test_overridden_trees_survive_study_yaml() -> None:
    space = catalog.load("digits", ["optimizer.lr=1e-7", "schedule=one_cycle"])
    assert Space.from_tree(yaml.safe_load(yaml.safe_dump(space.tree)), space.source) == space


def test_start_points_and_baseline_follow_the_data_and_the_epochs_of_the_space() -> None:
    """So that `cifar10-cnn` can be searched from Parquet files, on a part of them, for fewer epochs."""
    overrides = ["data.name=parquet", "data.path=some/where", "data.limit=8000", "epochs=8"]
    space = catalog.load("cifar10-cnn", overrides)
    assert not space.notes
    (_, start), baseline = space.start_from_named()[0], space.baseline
    for raw in (start, baseline):
        config = space.config(raw)
        assert config.epochs == 8
        assert (config.data.name, config.data.path, config.data.limit) == ("parquet", "some/where", 8000)
        assert [step.name for step in config.data.augment] == ["flip", "crop"], "the recipe's own"
    check(space, (3, 32, 32))


def test_start_points_and_baseline_are_tested_over_the_views_of_the_space() -> None:
    """Otherwise the gain would be that of the views: the winners had them, and the baseline had not."""
    space = catalog.load("digits", ["test_flip=true", "test_shift=1", "baseline=recipes/digits-baseline"])
    (_, start), baseline = space.start_from_named()[0], space.baseline
    for raw in (start, baseline):
        config = space.config(raw)
        assert (config.test_flip, config.test_shift) == (True, 1)


def test_a_start_point_that_does_not_fit_the_overrides_is_left_out_with_a_note_and_stays_the_baseline() -> None:
    space = catalog.load("digits", ["model.dropout=0.3"])
    assert space.start_from_named() == []
    assert space.notes == (
        "start_from: recipes/digits-baseline is left out because it does not fit the overrides: "
        "model.dropout: the space has 0.3 here, but the config has 0.0",
    )
    baseline = space.baseline_named()
    assert baseline is not None
    assert baseline[0] == "recipes/digits-baseline"
    assert baseline[1]["model"]["dropout"] == 0.0


def test_recipes_beside_the_file_and_points_written_out(tmp_path: Path) -> None:
    recipe_text = (
        "data: digits\nepochs: 9\nbatch_size: 32\nmodel: {name: mlp, hidden: [8]}\noptimizer: {name: adam, lr: 0.1}\n"
    )
    (tmp_path / "mine.yaml").write_text(recipe_text)
    (tmp_path / "space.yaml").write_text(
        recipe_text.replace("lr: 0.1", "lr: {float: [0.01, 0.5]}").replace("epochs: 9", "epochs: 4")
        + "start_from: [mine.yaml]\nbaseline:\n  best-guess:\n    batch_size: 16\n"
        + "    model: {name: mlp, hidden: []}\n    optimizer: {name: sgd, lr: 0.1}\n"
    )
    space = catalog.load(tmp_path / "space.yaml")
    ((name, start),) = space.start_from_named()
    assert name == "mine.yaml"
    assert space.encode(start) == {"optimizer.lr": 0.1}
    assert start["epochs"] == 4
    baseline = space.baseline_named()
    assert baseline is not None
    assert baseline[0] == "best-guess"
    assert space.config(baseline[1]).epochs == 4


# --- imports ----------------------------------------------------------------------------------------------------------------


def test_the_list_of_spaces_needs_nothing_heavy() -> None:
    code = "import sys, winnow.spaces.catalog as c; c.listing(); print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"torch", "ray", "optuna", "pandas", "numpy", "pydantic", "rich"}


def test_a_space_needs_no_torch_and_no_ray() -> None:
    code = (
        "import sys, winnow.spaces.catalog as c, winnow.spaces.describe as s, winnow.spaces.schema.json_schema as j; "
        "s.render(c.load('digits')); j.json_schema(); print(*sys.modules)"
    )
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"torch", "ray", "optuna", "pandas", "numpy"}


@pytest.mark.parametrize(
    "more",
    [{"stop_after": 2}, {"schedule": {"name": "plateau", "patience": 1, "reductions": [3]}}],
    ids=["the epoch after which it ended", "the reductions of its plateau"],
)
def test_a_winner_as_it_was_retrained_starts_the_next_search(tmp_path: Path, more: dict[str, Any]) -> None:
    """Retraining adds both to the config that it writes; they are no choices of a space."""
    tree = {
        "data": "digits",
        "epochs": 6,
        "batch_size": 32,
        "model": {"name": "mlp", "hidden": {"choice": [[8], [16]]}},
        "optimizer": {"name": "sgd", "lr": {"log": [0.01, 1.0]}},
        **({"schedule": {"name": "plateau", "patience": {"int": [1, 3]}}} if "schedule" in more else {}),
    }
    config = {**tree, "model": {"name": "mlp", "hidden": [16]}, "optimizer": {"name": "sgd", "lr": 0.1}, **more}
    (tmp_path / "winner.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({**tree, "start_from": [str(tmp_path / "winner.yaml")]}))
    space = catalog.load(str(tmp_path / "space.yaml"))
    ((_, start),) = space.start_from_named()
    complete = space.config(start).model_dump(mode="json")
    assert complete["model"]["hidden"] == [16]
    assert "stop_after" not in complete
    assert "reductions" not in complete["schedule"]
    assert not space.notes


PLATEAU = {"name": "plateau", "patience": 1, "reductions": [3]}


@pytest.mark.parametrize(
    "schedule",
    [
        PLATEAU,
        {"choice": {"constant": {}, "plateau": {"patience": 1, "reductions": [3]}}},
        {"choice": [PLATEAU, "constant"]},
    ],
    ids=["fixed", "branches", "options"],
)
def test_what_retraining_sets_is_kept_where_the_space_mentions_it(tmp_path: Path, schedule: Any) -> None:
    """Without these keys the config does not lie in the space: a start point was refused, and its columns of `winners` were null."""
    tree = {"data": "digits", "epochs": 6, "stop_after": 4, "batch_size": 32, "model": {"name": "mlp", "hidden": [8]}}
    tree |= {"optimizer": {"name": "sgd", "lr": {"log": [0.01, 1.0]}}, "schedule": schedule}
    config = {**tree, "optimizer": {"name": "sgd", "lr": 0.1}, "schedule": PLATEAU}
    (tmp_path / "winner.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({**tree, "start_from": [str(tmp_path / "winner.yaml")]}))
    space = catalog.load(str(tmp_path / "space.yaml"))
    ((_, start),) = space.start_from_named()
    complete = space.config(start).model_dump(mode="json")
    assert complete["schedule"]["reductions"] == [3]
    assert complete["stop_after"] == 4
    for stop_after in (2, 4):  # early stopping may have kept an earlier epoch
        values = config_values(space, complete | {"stop_after": stop_after}, space.columns())
        assert values["optimizer.lr"] == 0.1
