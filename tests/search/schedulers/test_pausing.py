"""Which rungs are trusted."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.search.schedulers.pausing import NUM_PAIRS, Pausing, agreement


def test_rungs_start_at_the_first_epoch() -> None:
    assert Pausing(3, 3.0, 50, "maximize").rungs == [1, 3, 9, 27]
    assert Pausing(6, 3.0, 100, "maximize").rungs == [1, 2, 6, 18, 54]
    assert Pausing(1, 3.0, 9, "maximize").rungs == [1, 3]


def test_noise_at_the_level_of_chance_pauses_nobody() -> None:
    """Nothing differs before epoch 27 but noise; trials then go on to it, and pause there."""
    rng = np.random.default_rng(0)
    rule = Pausing(3, 3.0, 50, "maximize")
    paused_at: list[int] = []
    for trial in range(60):
        for epoch in range(1, 51):
            value = trial / 60 if epoch >= 27 else 0.001 * rng.random()
            if not rule.judge(trial, epoch, value) and epoch < 50:
                paused_at.append(epoch)
                if trial >= 10 or epoch >= 27:
                    break  # the first ten go on, as if resumed
    assert not rule.is_trusted(1)
    assert not rule.is_trusted(9)
    assert rule.is_trusted(27)
    assert paused_at[-20:] == [27] * 20


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_an_early_rung_is_trusted_once_it_has_proved_itself(direction: str) -> None:
    rule = Pausing(3, 3.0, 50, "maximize" if direction == "maximize" else "minimize")
    for trial in range(NUM_PAIRS):
        assert rule.judge(trial, 1, trial / 10)
        assert not rule.judge(trial, 3, trial / 5)  # the first rung of successive halving is trusted from the start
    assert not rule.judge(NUM_PAIRS, 1, 0.05)


def test_a_rung_is_no_longer_trusted_where_the_order_turns_round() -> None:
    rule = Pausing(1, 3.0, 9, "maximize")
    for trial in range(NUM_PAIRS):
        assert not rule.judge(trial, 1, trial / 10)
        rule.judge(trial, 3, -trial / 10)
    assert rule.judge(NUM_PAIRS, 1, 0.3)


def test_the_last_rung_is_compared_with_the_last_epoch_also_after_a_restart() -> None:
    rule = Pausing(1, 3.0, 9, "maximize")
    for trial in range(NUM_PAIRS):
        for epoch, value in ((1, trial), (3, trial), (9, -trial)):
            rule.record(trial, epoch, float(value))
    assert rule.is_trusted(1)
    assert not rule.is_trusted(3)


def test_near_duplicates_have_little_say_in_the_agreement() -> None:
    rng = np.random.default_rng(0)
    first = np.concatenate([np.linspace(0, 1, 5), 1 + 1e-6 * rng.random(20)])
    second = np.concatenate([np.linspace(0, 1, 5), 1 + 1e-6 * rng.random(20)])
    assert agreement(first, second) > 0.99
    assert agreement(first, -first) == -1
    assert agreement(np.ones(5), second[:5]) == 0
