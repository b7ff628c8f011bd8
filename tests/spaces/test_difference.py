"""The difference of two spaces in words."""

from __future__ import annotations

import pytest

from winnow.spaces import catalog
from winnow.spaces.diff import differences
from winnow.spaces.space import Space

BASE = catalog.load("digits")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], []),
        (["epochs=20"], ["epochs: changed from 18 to 20"]),
        (["batch_size={choice: [32, 64]}"], ["batch_size: narrowed from {choice: [32, 64, 128]} to {choice: [32, 64]}"]),
        (["batch_size={choice: [128, 64, 32]}"], []),
        (["batch_size={int: [32, 128]}"], ["batch_size: widened from {choice: [32, 64, 128]} to {int: [32, 128]}"]),
        (["batch_size=16"], ["batch_size: changed from {choice: [32, 64, 128]} to 16"]),
        (["model.dropout=0.5"], ["model.dropout: narrowed from {float: [0.0, 0.6]} to 0.5"]),
        (["model.dropout={float: [0.0, 0.8]}"], ["model.dropout: widened from {float: [0.0, 0.6]} to {float: [0.0, 0.8]}"]),
        (["model.dropout={float: [0.1, 0.8]}"], ["model.dropout: changed from {float: [0.0, 0.6]} to {float: [0.1, 0.8]}"]),
        (["model.dropout={float: [0.0, 0.6], step: 0.2}"], ["model.dropout: narrowed from {float: [0.0, 0.6]} to {float: [0.0, 0.6], step: 0.2}"]),
        (["model.depth={int: [1, 3]}"], ["model.depth: narrowed from {int: [1, 4]} to {int: [1, 3]}"]),
        (["model.stages.filters={choice: [16, 32]}"], ["model.stages.*.filters: narrowed from {choice: [16, 32, 64]} to {choice: [16, 32]}"]),
        (["model.stages.kernel=5"], ["model.stages.*.kernel: added 5 (had its default)"]),
        (["optimizer.name={choice: [adam, sgd]}"], ["optimizer: narrowed by adamw"]),
        (["optimizer.sgd.lr={log: [0.001, 1.0]}"], ["optimizer.sgd.lr: widened from {log: [0.003, 0.3]} to {log: [0.001, 1.0]}"]),
        (["schedule={name: cosine, warmup: 2}"], ["schedule: narrowed to cosine (was a choice of constant, cosine, one_cycle)", "schedule.warmup: narrowed from {choice: [0, 2]} to 2"]),
        (["search.trials=5"], []),
    ],
)  # fmt: skip
def test_words(overrides, expected):
    assert [str(difference) for difference in differences(BASE, catalog.load("digits", overrides))] == expected


def test_back_again():
    """What is removed one way is added the other way; narrowed and widened change places."""
    fixed = Space.from_tree({k: v for k, v in BASE.tree.items() if k != "schedule"} | {"gradient_clip": 1.0}, "x")
    assert [(d.path, d.kind) for d in differences(BASE, fixed)] == [("schedule", "removed"), ("gradient_clip", "added")]
    other = catalog.load("digits", ["optimizer={name: adam, lr: 0.001}"])
    assert [d.kind for d in differences(BASE, other)] == ["narrowed", "narrowed"]
    assert [d.kind for d in differences(other, BASE)] == ["widened", "widened"]
