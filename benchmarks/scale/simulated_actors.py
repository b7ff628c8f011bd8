"""Tune's own controller without workers: what it would start as actors lives here, in simulated time, in this process.

`SimulatedActors` stands in for `ray.air`'s `RayActorManager`, through which the controller does everything with actors: add and remove
one, call `train` and `reset` on it, wait for what comes back. An actor takes `START_SECONDS` of simulated time to start, an epoch as long as
its trial's speed says. (Ray 2.60; the interface is Ray's own affair and may change.)
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from ray.air.execution._internal.tracked_actor import TrackedActor

START_SECONDS = 5.0
Curve = Callable[[dict[str, Any], int, float], dict[str, Any]]
"""(assignment, epoch, seconds of an epoch) -> what a worker reports"""


class SimulatedActors:
    """Simulated workers in the place of Ray's actors; at most `num_slots` live at once."""

    num_slots = 1
    curve: Curve

    def __init__(self, resource_manager: Any) -> None:
        self.now = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, TrackedActor, int, Callable[[], None]]] = []
        self._versions: dict[
            TrackedActor, int
        ] = {}  # an actor's calls of before are forgotten where its tasks are cleared
        self._waiting: dict[TrackedActor, _Actor] = {}
        self._starting: dict[TrackedActor, _Actor] = {}
        self._live_actors_to_ray_actors_resources: dict[TrackedActor, tuple[_Actor, None]] = {}
        self.rng = random.Random(0)
        self.num_started = 0

    def add_actor(
        self, cls: Any, kwargs: dict[str, Any], resource_request: Any, *, on_start: Any, on_stop: Any, on_error: Any
    ) -> TrackedActor:
        tracked = TrackedActor(uuid.uuid4().int, on_start=on_start, on_stop=on_stop, on_error=on_error)
        self._versions[tracked] = 0
        self._waiting[tracked] = _Actor(kwargs["config"], self.rng)
        self._start_some()
        return tracked

    def remove_actor(self, tracked: TrackedActor, kill: bool = False, stop_future: Any = None) -> bool:
        if self._waiting.pop(tracked, None) is not None:
            return False
        self._starting.pop(tracked, None)
        lived = self._live_actors_to_ray_actors_resources.pop(tracked, None) is not None
        self.clear_actor_task_futures(tracked)
        if lived and tracked._on_stop is not None:
            tracked._on_stop(tracked)
        self._start_some()
        return False  # nothing is left to wait for

    def schedule_actor_task(
        self,
        tracked_actor: TrackedActor,
        method_name: str,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        on_result: Any = None,
        on_error: Any = None,
        _return_future: bool = False,
    ) -> None:
        if method_name == "stop":
            return
        actor, _ = self._live_actors_to_ray_actors_resources[tracked_actor]
        if method_name == "reset":
            actor.begin(args[0])
            self._after(0.0, tracked_actor, lambda: on_result(tracked_actor, True))
        elif method_name == "train":
            self._after(actor.seconds, tracked_actor, lambda: on_result(tracked_actor, actor.train(type(self).curve)))
        else:
            raise ValueError(f"the controller calls {method_name}, which is not simulated")

    def next(self, timeout: float | None = None) -> bool:
        """The next thing that happens."""
        while self._events:
            self.now, _, tracked, version, happen = heapq.heappop(self._events)
            if self._versions.get(tracked) == version:
                happen()
                return True
        return False

    def clear_actor_task_futures(self, tracked_actor: TrackedActor) -> None:
        self._versions[tracked_actor] += 1

    def is_actor_started(self, tracked_actor: TrackedActor) -> bool:
        return tracked_actor in self._live_actors_to_ray_actors_resources

    def is_actor_failed(self, tracked_actor: TrackedActor) -> bool:
        return False

    def get_live_actors_resources(self) -> dict[str, float]:
        return {"CPU": float(self.num_live_actors)}

    def cleanup(self) -> None:
        self._events.clear()

    @property
    def num_live_actors(self) -> int:
        return len(self._live_actors_to_ray_actors_resources)

    @property
    def num_pending_actors(self) -> int:
        return len(self._waiting)

    @property
    def num_total_actors(self) -> int:
        return self.num_live_actors + len(self._starting) + len(self._waiting)

    @property
    def num_actor_tasks(self) -> int:
        return len(self._events)

    def _start_some(self) -> None:
        while self._waiting and self.num_live_actors + len(self._starting) < type(self).num_slots:
            tracked = next(iter(self._waiting))
            self._starting[tracked] = self._waiting.pop(tracked)
            self.num_started += 1
            self._after(START_SECONDS, tracked, partial(self._started, tracked))

    def _started(self, tracked: TrackedActor) -> None:
        self._live_actors_to_ray_actors_resources[tracked] = (self._starting.pop(tracked), None)
        tracked._on_start(tracked)

    def _after(self, seconds: float, tracked: TrackedActor, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), tracked, self._versions[tracked], happen))


class _Actor:
    """A function trainable, as far as the controller sees it."""

    def __init__(self, config: dict[str, Any], rng: random.Random) -> None:
        self.rng = rng
        self.get_auto_filled_metrics = self  # called as `actor.get_auto_filled_metrics.remote(...)`
        self.begin(config)

    def begin(self, config: dict[str, Any]) -> None:
        self.config = config
        self.assignment = json.loads(config["assignment"])
        self.iteration = 0
        self.seconds = self.rng.lognormvariate(0, 0.5)

    def train(self, curve: Curve) -> dict[str, Any]:
        self.iteration += 1
        report = curve(self.assignment, self.iteration, self.seconds)
        return {**report, **self._filled(), "done": False}

    def remote(self, debug_metrics_only: bool) -> dict[str, Any]:
        return self._filled()

    def _filled(self) -> dict[str, Any]:
        """Add the keys that Tune adds to every report."""
        return {
            "training_iteration": self.iteration,
            "time_this_iter_s": self.seconds,
            "time_total_s": self.iteration * self.seconds,
            "time_since_restore": self.iteration * self.seconds,
            "iterations_since_restore": self.iteration,
            "timestamp": int(time.time()),
            "date": "2026-11-21_00-00-00",
            "pid": 1,
            "hostname": "simulated",
            "node_ip": "127.0.0.1",
            "config": {"assignment": self.config["assignment"]},
        }
