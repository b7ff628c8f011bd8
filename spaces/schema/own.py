"""Own parts: a function by import path in place of a name of Winnow's; the other keys are its arguments."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from winnow.spaces.schema.fields import ImportPath, Positive


class OwnPart(BaseModel):
    """Base class of all own parts."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: ImportPath
    """Import path of the function, `package.module:function`; the module is installed or lies in the working directory."""

    @property
    def keys(self) -> dict[str, Any]:
        """The keys that are arguments of the function."""
        return dict(self.model_extra or {})


class OwnOptimizer(OwnPart):
    """An own optimizer: `function(parameters, lr, **other_keys)` returns a `torch.optim.Optimizer`; `parameters` are parameter groups."""

    lr: Positive
    """Peak learning rate; scaled by the schedule."""


class OwnSchedule(OwnPart):
    """An own schedule: `function(step, total_steps, steps_per_epoch, **other_keys)` returns the factor of the peak learning rate at a step, counted from 0."""


class OwnLoss(OwnPart):
    """An own loss: `function(logits, labels, **other_keys)` returns the mean over the images, for logits [N, K] and labels [N]. Validation and test losses are its values too."""


class OwnAugmentation(OwnPart):
    """An own augmentation: `function(images, generator, **other_keys)` returns images of the same shape.

    Images are float32 [N, C, H, W] on the device, with pixels in [0, 255]. All random draws must come from the generator.
    """

    per_image: bool = False
    """Call it as `function(image, generator, **other_keys)` for one image [C, H, W] at a time."""


class OwnInitialization(OwnPart):
    """An own initialization: `function(network, images, **other_keys)` changes the initial weights in place.

    Images are up to 5,000 training images, float32 [N, C, H, W], normalized. torch's global generators are seeded.
    """


class OwnLoop(OwnPart):
    """An own training loop: `function(config, data, device, checkpoint)` is a generator that yields a dict of figures after every epoch.

    The other keys are entries of `config`, beside `epochs`, `batch_size` and `seed`; `config.network()` builds the network of
    the `model` section. The loop takes the place of `optimizer`, `schedule`, `loss`, `mix`, `averaging`, `gradient_clip`, `initialization` and `precision`.
    """

    @model_validator(mode="after")
    def _no_key_twice(self) -> OwnLoop:
        taken = sorted(self.keys.keys() & {"epochs", "batch_size", "seed", "network"})
        if taken:
            raise ValueError(
                f"the loop has {', '.join(taken)} from elsewhere: epochs and batch_size are keys of the space itself, and seed and "
                "network are Winnow's; choose another name"
            )
        return self


def kind_of(value: Any) -> str:
    """Tell an own part from Winnow's by its name, for the unions of the schema: `own` or `built_in`."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "own" if isinstance(name, str) and ":" in name else "built_in"
