"""The size of a network by arithmetic is the size of the network that is built."""

from __future__ import annotations

from typing import Any

import pytest

from tests.models.test_registries import VARIANTS, parse
from winnow.models import summarize
from winnow.spaces.sizes import SIZES, size_of

SHAPES = [(3, 24, 24), (1, 17, 14)]


@pytest.mark.parametrize("raw", [raw for raw in VARIANTS if raw["name"] in SIZES], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_arithmetic_agrees_with_the_built_network(raw: dict[str, Any], shape: tuple[int, int, int]) -> None:
    if raw["name"] == "vit":
        shape = (shape[0], 24, 12)  # its patches must divide the image
    model = parse(raw)
    summary = summarize(model, shape, 7)
    assert size_of(model, shape, 7) == (summary.num_parameters, summary.multiply_adds)


def test_only_the_code_of_other_families_knows_their_size() -> None:
    assert size_of(parse({"name": "my_nets:build"}), (1, 8, 8), 10) is None
