"""Builds a user's own models in a process of its own: what they do there, such as to exit or to crash, does not reach the search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from winnow.spaces.errors import InputError, ModelRefused
from winnow.spaces.schema import Custom


def check_custom_models(
    models: Sequence[Custom], image_shape: tuple[int, int, int], num_classes: int
) -> list[str | None]:
    """Build each model once and run one batch, all in one new process.

    Args:
        models: The `model` sections to build.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.

    Returns:
        For each model the error that it raised while it was built, which refuses its config; None if it was built.

    Raises:
        InputError: A model does not fit, or ended the process.
    """
    request = {
        "models": [model.model_dump(mode="json") for model in models],
        "image_shape": image_shape,
        "num_classes": num_classes,
        "path": sys.path,
    }
    reader, writer = os.pipe()
    with os.fdopen(reader, encoding="utf-8") as answers:
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(writer)],
                stdin=subprocess.PIPE,
                stdout=sys.__stderr__,  # what the models print is no result of ours
                pass_fds=(writer,),
                text=True,
            )
        finally:
            os.close(writer)
        assert child.stdin is not None
        with suppress(BrokenPipeError), child.stdin:
            child.stdin.write(json.dumps(request))
        found = [json.loads(line) for line in answers]
        child.wait()
    if found and (problem := found[-1]["problem"]):
        raise InputError(problem)
    if len(found) < len(models):
        raise InputError(f"model {models[len(found)].name}: {_ending(child.returncode)} while it was built")
    return [each["refusal"] for each in found]


def _ending(code: int) -> str:
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name} ({signal.strsignal(-code)})"
    return f"it ended its process with exit code {code}"


def _build_each(answers: int) -> None:
    """Run in the new process: write a line for each model, with what is wrong with it; end at the first that does not fit."""
    from winnow.models import check_buildable

    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    for tree in request["models"]:
        problem = refusal = None
        try:
            check_buildable(Custom.model_validate(tree), tuple(request["image_shape"]), request["num_classes"])
        except ModelRefused as error:
            refusal = str(error)
        except InputError as error:
            problem = str(error)
        os.write(answers, (json.dumps({"problem": problem, "refusal": refusal}) + "\n").encode())
        if problem:
            return


if __name__ == "__main__":
    _build_each(int(sys.argv[1]))
