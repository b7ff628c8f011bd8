"""Tests custom parts in a separate process, so that an exit or a crash does not affect the search."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from winnow.search.ray_backend.silence import STARTING
from winnow.spaces.errors import InputError, ModelRefused
from winnow.spaces.own_code import own_parts
from winnow.spaces.schema import Config

IMPORTING = 600.0
"""Seconds that the new process may take for Winnow's own imports, which do not count as time of a part."""
PATIENCE = 10.0
"""Seconds after which the user is told that a part is still being built or tried."""


class Tried(NamedTuple):
    """The result of testing custom parts."""

    num_models: int
    """Number of custom models that were built."""
    refusals: list[str]
    """The error of each custom model that refused its config by raising `ModelRefused` when it was built."""
    notes: list[str]
    """A note for each custom loop that did not read all of its keys."""


def check_own_parts(
    configs: Sequence[Config],
    image_shape: tuple[int, int, int],
    num_classes: int,
    trial_timeout: float | None = None,
    say: Callable[[str], None] | None = None,
    kinds: Collection[str] | None = None,
) -> Tried:
    """Build and run each custom part of some configs once, all in one new process. Equal parts are tested only once.

    Args:
        configs: The configs.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of classes, which is the number of logits.
        trial_timeout: Seconds that each part may take. A part always has `STARTING` seconds, as in a worker. Default: `STARTING`.
        say: Receives one message about each part that takes longer than `PATIENCE` seconds. Default: there is no message.
        kinds: Kinds of the parts that are tested, such as `model`. Default: all.

    Returns:
        The number of models, their refusals, and notes for the user.

    Raises:
        InputError: A part does not work as required, takes too long, or ended the process.
    """
    tries = {}
    for config in configs:
        for index, (what, part) in enumerate(own_parts(config)):
            if kinds is not None and what not in kinds:
                continue
            model = config.model if what in ("initialization", "train") else None
            tries[repr((what, part, model))] = (what, part.name, config, index)
    if not tries:
        return Tried(0, [], [])
    request = {
        "configs": [(config.model_dump(mode="json"), index) for _, _, config, index in tries.values()],
        "image_shape": image_shape,
        "num_classes": num_classes,
        "path": sys.path,
    }
    named = [(f"{what} {name}", "built" if what == "model" else "tried") for what, name, _, _ in tries.values()]
    limit = max(STARTING, trial_timeout or 0.0)
    lines: list[dict[str, Any]] = []
    with _child(request) as (child, answers):
        for label, verb in named:
            answer = answers.next(PATIENCE)
            if answer is None:
                if say is not None:
                    say(f"{label} is still being {verb} after {PATIENCE:.0f} s")
                answer = answers.next(limit - PATIENCE)
            if answer is None:
                raise InputError(
                    f"{label}: it was still being {verb} after {limit:.0f} s; a higher search.trial_timeout allows more time"
                )
            if not answer:
                raise InputError(f"{label}: {_ending(child.wait())} while it was {verb}")
            lines.append(json.loads(answer))
            if problem := lines[-1]["problem"]:
                raise InputError(problem)
    num_models = sum(what == "model" for what, _, _, _ in tries.values())
    unread: dict[str, set[str]] = {}
    for (_, name, _, _), line in zip(tries.values(), lines, strict=True):
        unread[name] = unread.get(name, set(line["unread"])) & {*line["unread"]}
    notes = [
        f"{name} did not read {', '.join(sorted(keys))} in the epochs that were tried; is it misspelt in `train`?"
        for name, keys in unread.items()
        if keys
    ]
    return Tried(num_models, [line["refusal"] for line in lines if line["refusal"]], notes)


class _Answers:
    """The lines that a process writes into a pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._read = b""

    def next(self, seconds: float) -> bytes | None:
        """Wait for the next line, and return it with its end; empty if the pipe was closed, None if there was no line in time."""
        until = time.monotonic() + seconds
        while b"\n" not in self._read:
            if not select.select([self._pipe], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            if not (more := os.read(self._pipe, 65536)):
                return b""
            self._read += more
        line, end, self._read = self._read.partition(b"\n")
        return line + end


@contextmanager
def _child(request: dict[str, object]) -> Iterator[tuple[subprocess.Popen[str], _Answers]]:
    """Send a request to a new process, and yield it and its answers. The process ends with the context."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"):
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(writer)],
                stdin=subprocess.PIPE,
                stdout=sys.__stderr__,  # what the parts print is not a result
                pass_fds=(writer,),
                text=True,
            )
        finally:
            os.close(writer)
        assert child.stdin is not None
        try:
            with suppress(BrokenPipeError):
                child.stdin.write(json.dumps(request) + "\n")
                child.stdin.flush()
            answers = _Answers(reader)
            if not answers.next(IMPORTING):  # a line that says that our own imports are done
                raise InputError(
                    f"the process in which custom parts are tried did not start within {IMPORTING:.0f} s, or ended before; "
                    "see standard error"
                )
            yield child, answers
        finally:
            child.kill()  # after an interruption; importing torch alone can take long
            child.wait()
            with suppress(BrokenPipeError):
                child.stdin.close()


def _ending(code: int) -> str:
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name} ({signal.strsignal(-code)})"
    return f"it ended its process with exit code {code}"


def _try_each(answers: int) -> None:
    """Write a line for each part with its problem, if any, and stop after the first problem. This runs in the new process."""
    from winnow.search.training.own_parts import check_own_part

    line = sys.stdin.readline()
    if not line:  # the driver is dead
        return
    request = json.loads(line)
    _end_with_driver()
    os.write(answers, b"\n")
    sys.path[:] = request["path"]
    for tree, index in request["configs"]:
        problem = refusal = None
        unread: set[str] = set()
        config = Config.model_validate(tree)
        what, part = list(own_parts(config))[index]
        try:
            unread = check_own_part(what, part, config, tuple(request["image_shape"]), request["num_classes"])
        except ModelRefused as error:
            refusal = str(error)
        except InputError as error:
            problem = str(error)
        os.write(
            answers, (json.dumps({"problem": problem, "refusal": refusal, "unread": sorted(unread)}) + "\n").encode()
        )
        if problem:
            return


def _end_with_driver() -> None:
    """End this process when the driver ends, which closes our standard input. Code of the user finds an empty one."""
    driver = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)

    def wait() -> None:
        os.read(driver, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _try_each(int(sys.argv[1]))
