"""Custom parts: functions of the user that are named by import path in place of a built-in name; the other keys are arguments."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from winnow.spaces.schema.fields import ImportPath, Positive


class OwnPart(BaseModel):
    """Base class of all custom parts."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: ImportPath
    """Import path of the function, `package.module:function`; the module is installed, or in the working directory."""

    @property
    def keys(self) -> dict[str, Any]:
        """The keys that are arguments of the function."""
        return dict(self.model_extra or {})


class OwnOptimizer(OwnPart):
    """A custom optimizer: `function(parameters, lr, **other_keys)` returns a `torch.optim.Optimizer`; `parameters` are parameter groups."""

    lr: Positive
    """Peak learning rate; scaled by the schedule."""


class OwnSchedule(OwnPart):
    """A custom schedule: `function(step, total_steps, steps_per_epoch, **other_keys)` returns the learning rate at a step as a multiple of the peak. Steps are counted from 0."""


class OwnLoss(OwnPart):
    """A custom loss: `function(logits, labels, **other_keys)` returns the mean over the images, for logits [N, K] and labels [N]. Validation and test losses are computed with it, too."""


class OwnAugmentation(OwnPart):
    """A custom augmentation: `function(images, generator, **other_keys)` returns images of the same shape.

    Images are float32 [N, C, H, W] on the device, with pixels in [0, 255]. All random draws must come from the generator.
    """

    per_image: bool = False
    """Call the function with one image [C, H, W] at a time, as `function(image, generator, **other_keys)`."""


class OwnInitialization(OwnPart):
    """A custom initialization: `function(network, images, **other_keys)` changes the initial weights in place.

    `images` are up to 5,000 normalized training images, float32 [N, C, H, W]. torch's global generators are seeded.
    """


class OwnMetric(OwnPart):
    """A custom metric: `function(labels, probabilities, **other_keys)` returns a number, for NumPy arrays int64 [N] and float32 [N, K].

    Higher must be better, so negate a cost. If it is the objective, an epoch for which it is not a finite number is passed over, and a
    trial without a value at a rung or at its end fails. Return a low number for a network for which the metric is not defined.
    """

    @model_serializer(mode="wrap")
    def _bare_without_keys(self, handler: SerializerFunctionWrapHandler) -> Any:
        """Write a metric without further keys as its import path, as earlier versions did."""
        return handler(self) if self.keys else self.name


class OwnLoop(OwnPart):
    """A custom training loop: `function(config, data, device, checkpoint)` is a generator that yields a dict of figures after every epoch.

    `config` has the entries `epochs`, `batch_size` and `seed`, and the other keys of this mapping; `config.network()` builds the
    network of the `model` section. The loop replaces `optimizer`, `schedule`, `loss`, `mix`, `averaging`, `gradient_clip`,
    `initialization`, `precision` and `cuda_graphs`.
    """

    @model_validator(mode="after")
    def _no_key_twice(self) -> OwnLoop:
        taken = sorted(self.keys.keys() & {"epochs", "batch_size", "seed", "network"})
        if taken:
            raise ValueError(
                f"`train` must not have the keys {', '.join(taken)}: epochs and batch_size are keys of the space itself, and seed "
                "and network are set by Winnow; choose another name"
            )
        return self


def kind_of(value: Any) -> str:
    """Return the tag of a part in the unions of the schema: `own` for an import path, `built_in` for a built-in name."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "own" if isinstance(name, str) and ":" in name else "built_in"
