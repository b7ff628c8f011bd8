"""One training on several ranks gives the figures of one process up to rounding, and resumes exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.rank_training import PLAIN, groups, ray, run  # noqa: F401
from tests.helpers.tiny import same_tensors, tiny_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def assert_close(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    for one, other in zip(some, others, strict=True):
        # Float32 sums in another order: 1e-7 in a step, more after the dozen steps of these trainings.
        if len(one["batch_losses"]) == len(other["batch_losses"]):
            assert one["batch_losses"] == pytest.approx(other["batch_losses"], abs=1e-4)
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-4)
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], abs=1e-4)


@pytest.mark.parametrize(
    ("ranks", "changes"),
    [
        (2, {}),
        (3, {"batch_size": 13}),  # parts of unequal size, and a last batch of a single image, which is not shared out
        (
            2,
            {
                "gradient_clip": 0.5,
                "schedule": {"name": "plateau", "patience": 0},
                "optimizer": {"name": "sgd", "lr": 0.5},
            },
        ),
    ],
)
def test_the_losses_are_those_of_one_process(run, ranks, changes):  # noqa: F811
    config = tiny_config(**{**PLAIN, **changes})
    alone, _, weights = run(config, 1)
    together, _, weights_together = run(config, ranks)
    assert_close(together, alone)
    assert all(torch.allclose(weights[name], weights_together[name], atol=1e-3) for name in weights)


def test_in_pieces_too(run):  # noqa: F811
    config = tiny_config(**PLAIN)
    in_pieces, whole = run(config, 2, micro_batches=3)[0], run(config, 1)[0]
    assert len(in_pieces[0]["batch_losses"]) > len(whole[0]["batch_losses"])  # of each piece
    assert_close(in_pieces, whole)


def test_a_resumed_training_is_the_undisturbed_one_with_batch_norm_and_dropout(run):  # noqa: F811
    """It would not be if the ranks' networks had drifted apart: the checkpoint is that of rank 0."""
    config = tiny_config(epochs=4)
    whole, states, weights = run(config, 2)
    resumed, _, resumed_weights = run(config, 2, states[1])
    assert resumed == whole[2:]
    assert same_tensors(resumed_weights, weights)
    assert run(config, 2)[0] == whole  # and the same seed gives the same figures


def test_a_checkpoint_continues_with_another_number_of_ranks(run):  # noqa: F811
    config = tiny_config(**PLAIN)
    alone, states, _ = run(config, 1)
    assert_close(run(config, 2, states[1])[0], alone[2:])
    _, states, _ = run(config, 2)
    assert_close(run(config, 1, states[1])[0], alone[2:])


def test_a_diverged_training_ends_on_all_ranks(run):  # noqa: F811
    config = tiny_config(optimizer={"name": "sgd", "lr": 1e30}, epochs=3)
    seen, _, _ = run(config, 2)
    assert seen[-1]["diverged"]
    assert run(tiny_config(**PLAIN, epochs=1), 2)[0][0]["epoch"] == 1  # the ranks train on
