"""Decides whether two configs are the same training, so that one of them need not run.

A config is converted to a normal form, in which every value without effect has its default, and this form is hashed. Two configs
count as the same only if their trainings are bit-for-bit equal: with the same seed, both give the same figures (a test trains them).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from winnow.spaces.shapes import ImageShape

Section = dict[str, Any]


def identity(config: Section, image_shape: ImageShape | None = None) -> str:
    """Return a short hash that is equal for configs of the same training.

    Args:
        config: A complete config (`Config.model_dump(mode="json")`).
        image_shape: (C, H, W) of the images. Default: rules that depend on it are not applied.
    """
    return hashlib.sha256(_as_text(_form(config, image_shape)).encode()).hexdigest()[:16]


def same_training(config: Section, other: Section, image_shape: ImageShape | None = None) -> bool:
    """Return whether two configs have the same identity. It is quicker than two hashes, since few pairs need the shape of the images.

    Args:
        config: A complete config.
        other: Another one.
        image_shape: As for `identity`.
    """
    forms = [_form(each, None) for each in (config, other)]
    if _as_text(forms[0]) == _as_text(forms[1]):
        return True
    for form in forms:
        form["model"] = {key: value for key, value in form["model"].items() if key not in OF_SHAPE}
    may_be_same = image_shape is not None and _as_text(forms[0]) == _as_text(forms[1])
    return may_be_same and identity(config, image_shape) == identity(other, image_shape)


OF_SHAPE = ("features", "resize")
"""The keys of a model that have no effect on images of some shapes."""


def _form(config: Section, image_shape: ImageShape | None) -> Section:
    form = normal_form(config, image_shape)
    _drop_newer_defaults(form)
    return form


def _as_text(form: Section) -> str:
    return json.dumps(form, sort_keys=True)


def normal_form(config: Section, image_shape: ImageShape | None = None) -> Section:
    """Return a config in which every value without effect is set to its default.

    Args:
        config: A complete config.
        image_shape: (C, H, W) of the images. Default: rules that depend on it are not applied.
    """
    form = json.loads(json.dumps(config))  # copies a tree of JSON six times as fast as `deepcopy`
    model, epochs, optimizer = form["model"], form["epochs"], form["optimizer"] or {}
    NORMAL_FORMS.get(model["name"], _custom)(model, image_shape)
    has_one_rate = optimizer and optimizer["name"] != "muon" and ":" not in optimizer["name"]
    if has_one_rate and model["name"] == "transfer" and model["frozen"]:
        # Only the head is trained, so only its learning rate matters. Muon has two, and a custom optimizer receives `lr` itself.
        optimizer["lr"] *= model["head_lr_factor"]
        model["head_lr_factor"] = 1.0
    form["cuda_graphs"] = False  # a training has the same figures with and without them
    if optimizer.get("name") == "adamw" and optimizer["weight_decay"] == 0:
        optimizer["name"] = "adam"
    form["schedule"] = _schedule(form["schedule"], epochs)
    if form["early_stopping"] and form["early_stopping"]["patience"] >= epochs - 1:
        form["early_stopping"] = None
    # Steps are dropped only if none has an effect: a step without effect still draws random numbers before the next step.
    if form["data"]["extra"] is None and all(_leaves_images_alone(step) for step in form["data"]["augment"]):
        form["data"]["augment"] = []
    return form


NEWER_KEYS: tuple[tuple[str, str, Any], ...] = (
    ("", "cuda_graphs", False),
    ("data", "sampling", "uniform"),
    ("loss", "class_weights", "none"),
    ("early_stopping", "min_delta", 0.0),
    ("early_stopping", "metric", "validation_loss"),
    ("schedule", "metric", "validation_loss"),
    ("schedule", "lowest_momentum", None),
    ("schedule", "shape", "cosine"),
    ("optimizer", "norm_bias_lr_factor", 1.0),
    ("optimizer", "head_lr_factor", 1.0),
    ("optimizer", "layer_decay", 1.0),
    ("optimizer", "decay_biases", True),
    ("optimizer", "decoupled", False),
    ("model", "whitening", None),
    ("model", "pool_place", "after_activation"),
    ("model", "logits_scale", 1.0),
    ("model", "norm_momentum", 0.1),
    ("model", "norm_gain", True),
    ("model", "stochastic_depth", 0.0),
    ("model", "squeeze", None),
    ("model", "separable", False),
    ("", "initialization", None),
    ("", "train", None),
    ("", "mix", None),
    ("", "averaging", None),
    ("", "test_flip", False),
    ("", "test_shift", 0),
    ("", "own_metric", None),
)
"""Section, key and default of keys that configs of earlier versions lack. The default gives the behaviour of those versions."""
NEWER_KEYS_OF_STAGES = {"separable": False, "squeeze": None}
"""The same for the stages of a `cnn`."""
NEWER_KEYS_OF_STEPS = {"alternate": False, "fill": "zero"}
"""The same for the steps of an augmentation."""


def _drop_newer_defaults(form: Section) -> None:
    """Leave out newer keys that have no effect, so that recorded configs keep their identity."""
    for name, key, default in NEWER_KEYS:
        section = form[name] if name else form
        if section and section.get(key, default) == default:
            section.pop(key, None)
    extra = form["data"]["extra"]
    steps = [*form["data"]["augment"], *(extra["augment"] if extra else [])]
    stages = form["model"]["stages"] if form["model"]["name"] == "cnn" else []
    for items, defaults in ((steps, NEWER_KEYS_OF_STEPS), (stages, NEWER_KEYS_OF_STAGES)):
        for item in items:
            for key, default in defaults.items():
                if item.get(key, default) == default:
                    item.pop(key, None)


# --- models ---------------------------------------------------------------------------------------------------------


def _custom(model: Section, image_shape: ImageShape | None) -> None:
    """Leave a custom model unchanged, since only its code knows which values have an effect."""


def _mlp(model: Section, image_shape: ImageShape | None) -> None:
    if not model["hidden"]:
        model.update(activation="relu", norm="none", dropout=0.0)


def _cnn(model: Section, image_shape: ImageShape | None) -> None:
    for stage in model["stages"]:
        if stage["kernel"] % 2 and stage["padding"] == stage["kernel"] // 2:
            stage["padding"] = "same"
    if model["norm_place"] == "after_pool" and all(stage["pool"] == "none" for stage in model["stages"]):
        model["norm_place"] = "after_activation"
    _layered(model, image_shape)


def _residual(model: Section, image_shape: ImageShape | None) -> None:
    if not model["skip"]:
        model["scale"] = 1.0
    _layered(model, image_shape)


def _layered(model: Section, image_shape: ImageShape | None) -> None:
    """Normalize the keys that all families with convolution stages have in common."""
    _pools(model["stages"])
    if model["norm"] == "none":
        model["norm_place"] = "after_conv"
    norms = {model["norm"], model["head_norm"] if model["head"] else "none", model.get("logits_norm", "none")}
    if norms == {"none"}:
        model["norm_gain"] = True
    if "batch" not in norms:
        model["norm_momentum"] = 0.1
    if model["features"] != "avg" and image_shape and _last_map_is_a_pixel(model, image_shape):
        model["features"] = "avg"
    if not model["head"]:
        model["head_norm"] = "none"
        if model["dropout_place"] == "hidden":
            model["dropout"] = 0.0
    # With one hidden layer, `hidden` and `last` are the same place.
    if model["dropout"] == 0 or len(model["head"]) == 1:
        model["dropout_place"] = "hidden"


def _mixture(model: Section, image_shape: ImageShape | None) -> None:
    _pools(model["blocks"])


def _transfer(model: Section, image_shape: ImageShape | None) -> None:
    if not model["head"]:
        model["activation"] = "relu"
    if image_shape and image_shape[1:] == (model["resize"], model["resize"]):
        model["resize"] = None


def _pools(stages: list[Section]) -> None:
    for stage in stages:
        if stage["pool"] == "none":
            stage["pool_size"] = 2


def _last_map_is_a_pixel(model: Section, image_shape: ImageShape) -> bool:
    """Return whether the last feature map is a single pixel, so that flattening, averaging and the maximum are equal.

    A network that cannot be built for these images, as a run of somebody else may record, has none.
    """
    from winnow.spaces.schema import Cnn, Residual
    from winnow.spaces.shapes import ShapeError, trace

    family = Cnn if model["name"] == "cnn" else Residual
    try:
        shapes = dict(trace(family.model_validate({**model, "features": "flatten"}), image_shape, 1))
    except ShapeError:
        return False
    return shapes["features"] == (model["stages"][-1]["filters"],)


NORMAL_FORMS: dict[str, Callable[[Section, ImageShape | None], None]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "residual": _residual,
    "mixture": _mixture,
    "transfer": _transfer,
}


# --- the rest -------------------------------------------------------------------------------------------------------


def _schedule(schedule: Section, epochs: int) -> Section:
    """Normalize a schedule: steps become milestones, and a schedule that never changes the rate becomes constant."""
    every = {"step": schedule.get("every"), "exponential": 1}.get(schedule["name"])
    milestones = range(every, epochs, every) if every else schedule.get("milestones", [])
    if every or schedule["name"] == "multistep":
        reached = [epoch for epoch in milestones if epoch < epochs]
        schedule = {**schedule, "name": "multistep", "milestones": reached}
        schedule.pop("every", None)
    never_changes = {
        "multistep": schedule.get("gamma") == 1 or not schedule.get("milestones"),
        "cosine": schedule.get("final") == 1,
        # The first epoch always improves. A change needs `patience` + 1 epochs without improvement, and one more that it affects.
        "plateau": not schedule.get("reductions") and schedule.get("patience", 0) + 2 >= epochs,
    }
    if never_changes.get(schedule["name"]):
        return {"name": "constant", "warmup": schedule["warmup"]}
    return schedule


def _leaves_images_alone(step: Section) -> bool:
    return (step["name"] == "flip" and step["p"] == 0) or (
        step["name"] == "brightness" and step["low"] == step["high"] == 1
    )
