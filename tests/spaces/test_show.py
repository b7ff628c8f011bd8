"""What `winnow spaces` prints, the JSON schema for editors, and the shapes of networks."""

from __future__ import annotations

import io
import re
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter
from rich.console import Console

from winnow.spaces import catalog
from winnow.spaces import describe as show
from winnow.spaces.grammar import yaml12
from winnow.spaces.schema import Model
from winnow.spaces.schema.json_schema import json_schema
from winnow.spaces.shapes import KNOWN_IMAGE_SHAPES, ShapeError, known_image_shape, recorded_shape, trace
from winnow.spaces.space import Space

ALL = [*catalog.names(), *catalog.recipe_names()]

# --- text ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_everything_shipped_can_be_shown(name: str) -> None:
    console = Console(file=io.StringIO(), width=160)
    space = catalog.load(name)
    console.print(show.render(space))
    text = console.file.getvalue()
    assert dict(catalog.listing())[name] in text
    for row in show.rows(space):
        assert row.name in text
        assert row.values in text


def test_rows_of_parameters() -> None:
    rows = {row.name: row for row in show.rows(catalog.load("digits"))}
    assert rows["model.stages.*.filters"].values == "16, 32, 64"
    assert rows["model.stages.*.filters"].condition == "for each of model.depth"
    assert rows["optimizer.sgd.lr"].condition == "optimizer = sgd"
    assert rows["optimizer.sgd.lr"].values == "log 0.003 to 0.3"
    assert rows["model.head"].values == "[], [64], [128]"


def test_the_settings_name_the_first_objective_and_all_of_them() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(show.render(catalog.load("digits", ["search.objectives=[validation_macro_f1, validation_loss]"])))
    text = console.file.getvalue()
    assert "validation_macro_f1, sampler" in text
    assert "objectives: validation_macro_f1, validation_loss; the winners are the Pareto front" in text


def test_size_and_share_of_what_cannot_be_built() -> None:
    base = {"data": "digits", "epochs": 1, "batch_size": 8, "optimizer": {"name": "adam", "lr": 0.1}}
    pools = {"filters": 8, "pool": {"choice": ["max", "none"]}}
    model = {"name": "cnn", "stages": {"repeat": 4, "of": pools}}
    space = Space.from_tree({**base, "model": model}, "test.yaml")
    share = show.infeasible_share(space, num_samples=4000)
    assert share is not None
    assert abs(share - 1 / 16) < 0.025  # four pools of four are one too many; six sigma
    assert re.search(r"^4 parameters, 16 configs; about \d% of them cannot be built", show.size_text(space))
    space = Space.from_tree({**base, "data": {"name": "parquet", "path": "x"}, "model": model}, "test.yaml")
    assert show.infeasible_share(space) is None
    assert show.size_text(space) == "4 parameters, 16 configs"


# --- JSON schema --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def tree_of(name: str) -> dict[str, Any]:
    folder = "" if name.startswith("recipes/") else "catalog/"
    return yaml12.load((catalog.PACKAGE / f"{folder}{name}.yaml").read_text(), name).tree


@pytest.mark.parametrize("name", ALL)
def test_the_schema_accepts_everything_shipped(validator: Any, name: str) -> None:
    assert [error.message for error in validator.iter_errors(tree_of(name))] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "cosine"},
        {"schedule": {"choice": ["cosine", "constant"]}},
        {"batch_size": {"log": [16, 128], "step": 2}},
        {"model": {"name": "my.nets:build", "width": 3}},
        {"model": {"choice": {"my.nets:build": {"width": {"int": [1, 2]}}}}},
        {"model": {"name": "mlp", "depth": {"int": [1, 2]}, "hidden": {"repeat": "depth", "of": {"int": [8, 9]}}}},
        {"model": {"name": "mlp", "hidden": [{"int": [8, 9]}, 4]}},
        {"data": "digits"},
        {"data": {"name": "cifar10", "augment": ["flip", {"name": "crop", "padding": {"int": [1, 4]}}]}},
        {"early_stopping": {"patience": {"int": [1, 4]}}},
        {"start_from": {"mine": {"epochs": 3}}, "baseline": "recipes/cifar10-baseline"},
    ],
    ids=str,
)
def test_the_schema_accepts(validator: Any, changes: dict[str, Any]) -> None:
    assert [error.message for error in validator.iter_errors({**tree_of("cifar10-cnn"), **changes})] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizr": {}},
        {"epochs": "many"},
        {"epochs": 0},
        {"batch_size": {"chioce": [1]}},
        {"batch_size": {"int": [1, 2], "stp": 1}},
        {"optimizer": {"choice": {"adm": {"lr": 0.1}}}},
        {"optimizer": {"choice": {"adam": {"lrr": 0.1}}}},
        {"optimizer": {"name": "adam", "lr": "fast"}},
        {"model": {"choice": {"cn": {}}}},
        {"model": {"name": "cnn", "stages": [{"filterz": 3}]}},
        {"data": {"name": "cifar10", "limit": {"int": [1, 2]}}},
        {"schedule": "cosin"},
        {"search": {"trails": 3}},
    ],
    ids=str,
)
def test_the_schema_refuses(validator: Any, changes: dict[str, Any]) -> None:
    assert not validator.is_valid({**tree_of("cifar10-cnn"), **changes})


def test_the_schema_describes_its_keys() -> None:
    definitions = json_schema()["$defs"]
    assert definitions["Cnn"]["properties"]["head"]["description"].startswith("Units in each hidden layer of the head")
    # Of a base class, in a module of the schema that is not its face.
    assert definitions["AdamW"]["properties"]["beta1"]["description"].startswith("Decay rate of the running mean")


# --- shapes (against real networks in test_models_registries.py) ----------------------------------------------------------


def model(**keys: Any) -> Any:
    return TypeAdapter(Model).validate_python(keys)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ({"image_shape": [1, 8, 9]}, (1, 8, 9)),
        ({}, None),
        (None, None),
        ({"image_shape": [8, 9]}, None),
        ({"image_shape": "1x8x9"}, None),
    ],
)
def test_the_shape_that_a_run_has_recorded(data: Any, shape: Any) -> None:
    assert recorded_shape({"data": data}) == shape


def test_shapes_of_a_cnn() -> None:
    stages = [
        {"filters": 6, "kernel": 5, "padding": 0, "pool": "avg"},
        {"filters": 16, "kernel": 4, "padding": 1, "stride": 2, "pool": "none"},
        {"filters": 8, "stride": 2, "pool": "max"},
    ]
    assert trace(model(name="cnn", stages=stages, head=[10]), (3, 32, 20), 7) == [
        ("stages.0.conv", (6, 28, 16)),
        ("stages.0.pool", (6, 14, 8)),
        ("stages.1.conv", (16, 7, 4)),
        ("stages.2.conv", (8, 4, 2)),
        ("stages.2.pool", (8, 2, 1)),
        ("features", (16,)),
        ("head.0", (10,)),
        ("classes", (7,)),
    ]
    averaged = trace(model(name="cnn", stages=stages, features="avg"), (3, 32, 20), 7)
    assert dict(averaged)["features"] == (8,)


def test_shapes_of_the_other_families() -> None:
    assert trace(model(name="mlp", hidden=[5]), (1, 8, 8), 10) == [
        ("flatten", (64,)),
        ("hidden.0", (5,)),
        ("classes", (10,)),
    ]
    stages = [{"blocks": 2, "filters": 8}, {"blocks": 1, "filters": 16, "stride": 2, "pool": "avg"}]
    residual = dict(trace(model(name="residual", stem=4, stages=stages), (3, 9, 9), 10))
    assert residual["stages.1.blocks"] == (16, 5, 5)
    assert residual["stages.1.pool"] == (16, 2, 2)
    assert residual["features"] == (16,)
    mixture = trace(model(name="mixture", blocks=[{"filters": 8}, {"filters": 4, "pool": "none"}]), (3, 8, 8), 10)
    assert dict(mixture)["blocks.1.conv"] == (4, 4, 4)
    assert trace(model(name="a:b"), (3, 8, 8), 10) == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"name": "cnn", "stages": [{"filters": 1, "pool_size": 3}, {"filters": 1, "pool_size": 3}]},
            "model.stages.1.pool: pooling 3x3 of a 2x2 feature map leaves nothing; "
            "use `pool: none` here or earlier, or fewer stages",
        ),
        (
            {"name": "cnn", "stages": [{"filters": 1, "kernel": 9, "padding": 0}]},
            "model.stages.0.kernel: kernel 9x9 with padding 0 on a 8x8 feature map leaves nothing; "
            "use a larger padding, a smaller kernel or fewer stages",
        ),
        (
            {"name": "residual", "stages": [{"blocks": 1, "filters": 1, "pool": "max"}] * 4},
            "model.stages.3.pool: pooling 2x2 of a 1x1 feature map leaves nothing; "
            "use `pool: none` here or earlier, or fewer stages",
        ),
        (
            {"name": "mixture", "blocks": [{"filters": 1}] * 4},
            "model.blocks.3.pool: pooling 2x2 of a 1x1 feature map leaves nothing; "
            "use `pool: none` here or earlier, or fewer blocks",
        ),
    ],
    ids=range(4),
)
def test_shapes_that_leave_nothing(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError) as error:
        trace(model(**keys), (1, 8, 8), 10)
    assert str(error.value) == message


def test_image_shapes_that_need_no_data() -> None:
    for name, shape in KNOWN_IMAGE_SHAPES.items():
        assert known_image_shape(name) == known_image_shape({"name": name}) == shape
    assert known_image_shape({"name": "cifar10", "image_size": 24, "channels": 1}) == (1, 24, 24)
    assert known_image_shape({"name": "npz", "path": "x", "image_size": 24}) == (3, 24, 24)
    assert known_image_shape({"name": "npz", "image_size": 24, "normalize": {"mean": [0.5], "std": [1]}}) == (1, 24, 24)
    assert known_image_shape({"name": "npz", "path": "x"}) is None
