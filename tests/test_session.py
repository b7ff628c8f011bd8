"""Ray's start on a busy machine: tried again, and in the end refused in words."""

from __future__ import annotations

import pytest

from search import session
from spaces.errors import InputError


class SlowRay:
    """Stands for the module: its first starts take too long."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.shutdowns = failures, error, 0

    def init(self, **options: object) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error

    def shutdown(self) -> None:
        self.shutdowns += 1


def test_a_start_that_took_too_long_is_tried_again():
    ray = SlowRay(2, Exception("The current node timed out during startup. This could happen because ..."))
    session._init(ray, None, {})
    assert ray.shutdowns == 2
    ray.failures = 99
    with pytest.raises(InputError, match="this machine is too busy"):
        session._init(ray, None, {})
    assert 99 - ray.failures == session.START_ATTEMPTS


@pytest.mark.parametrize("error", [ValueError("timed out during startup"), Exception("another thing")])
def test_other_errors_are_not_hidden(error):
    ray = SlowRay(1, error)
    with pytest.raises(type(error), match=str(error)):
        session._init(ray, None, {})
