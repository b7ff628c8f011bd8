"""Imported by the processes that Ray starts before there is a trial for them: most of the time until a first epoch."""

from search.ray_backend.no_compiler import postpone_compiler

postpone_compiler()

import ray.tune  # noqa: E402, F401

import models  # noqa: E402, F401
import search.training.checkpoint  # noqa: E402
import search.training.loop  # noqa: E402
import search.training.ranks  # noqa: E402, F401
