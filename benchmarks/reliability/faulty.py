"""The network and the space of `benchmarks.reliability.reliability`, the same for Winnow and for stock Ray Tune.

Every training batch sleeps, so that kills hit trainings rather than start-ups and two CPUs serve many processes, and writes one
byte into a file of its trial (the width tells trials apart): what was trained, once or twice, is then counted exactly.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch
from torch import nn

EPOCHS = 9
BATCH_SIZE = 256
TRIALS = 8
SECONDS_PER_BATCH = 0.06  # unless the environment says otherwise

SPACE = f"""
data: {{name: digits, validation: 0.2}}
epochs: {EPOCHS}
batch_size: {BATCH_SIZE}
model: {{name: "benchmarks.reliability.faulty:build", width: {{int: [4, 512]}}}}
optimizer: {{name: adam, lr: {{log: [0.0003, 0.03]}}}}
search: {{trials: {TRIALS}}}
"""


class Net(nn.Module):
    """64 pixels, one hidden layer."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) > 32:  # not when it is only tried on a few images
            time.sleep(float(os.environ.get("BATCH_SECONDS", SECONDS_PER_BATCH)))
            _die_if_poisoned(self.width)
            if len(x) > int(os.environ.get("MEMORY", "1000000")):
                raise torch.OutOfMemoryError(f"{len(x)} images at once")
            if folder := os.environ.get("BATCH_LOG"):
                with open(os.path.join(folder, str(self.width)), "ab") as log:
                    log.write(b".")
        logits: torch.Tensor = self.layers(x)
        return logits


def _die_if_poisoned(width: int) -> None:
    """The first width that is trained kills its worker, every time, as the OOM killer or a segfault would."""
    if file := os.environ.get("POISON"):
        try:
            with open(file, "x") as poison:
                poison.write(str(width))
        except FileExistsError:
            pass
        with open(file) as poison:
            if poison.read() == str(width):
                os.kill(os.getpid(), signal.SIGKILL)


def build(image_shape: tuple[int, int, int], num_classes: int, width: int) -> Any:
    return Net(width, num_classes)
