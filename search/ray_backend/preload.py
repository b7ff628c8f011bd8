"""Imports what trials need. Ray's workers do this before they get a trial: imports take most of the time until a first epoch."""

from winnow.search.ray_backend.lean_imports import prepare_imports

prepare_imports()

import ray.tune  # noqa: E402, F401

import winnow.search.training.checkpoint  # noqa: E402
import winnow.search.training.loop  # noqa: E402
import winnow.search.training.process_state  # noqa: E402
import winnow.search.training.ranks  # noqa: E402, F401
from winnow import models  # noqa: E402, F401
