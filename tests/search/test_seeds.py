"""Random streams are independent: no two of them ever get the same seed for related arguments."""

from __future__ import annotations

import itertools

import numpy as np

from winnow.search.data.hold_out import hold_out
from winnow.search.samplers.registry import SamplerContext
from winnow.search.seeds import Stream, derive_seed


def test_no_two_streams_share_a_seed():
    """All short argument lists of all streams: a chance collision of 31 bits has a probability of 2 % here, and the hash is fixed."""
    seeds: dict[int, tuple[int, ...]] = {}
    for stream, seed in itertools.product(Stream, (0, 7, 123)):
        for parts in [(), *((n,) for n in range(100)), *itertools.product(range(15), repeat=2)]:
            derived = derive_seed(stream, seed, *parts)
            assert derived not in seeds, (stream, seed, parts, seeds[derived])
            seeds[derived] = (stream, seed, *parts)
            assert 0 <= derived < 2**31


def test_a_zero_at_the_end_is_another_draw():
    assert derive_seed(Stream.TRIAL, 0, 1) != derive_seed(Stream.TRIAL, 0, 1, 0)


def test_the_sampler_of_a_trial_shares_no_seed_with_a_training():
    for seed, number in itertools.product((0, 7, 123), range(50)):
        context = SamplerContext(seed=seed, number=number, rungs=[1])
        others = {derive_seed(stream, seed, n) for stream in Stream if stream != Stream.SAMPLER for n in range(50)}
        assert context.own_seed not in others
        assert context.common_seed != context.own_seed


def test_seeds_stay_what_they_are():
    """A change here would change every run of every user."""
    assert [derive_seed(Stream.TRIAL, 0, 0), derive_seed(Stream.DROPOUT, 7, 3)] == [1885847632, 1843027703]


def test_a_seed_above_32_bits_is_not_another_one():
    for stream in Stream:
        assert len({derive_seed(stream, 7 + 2**32 * k) for k in range(50)}) == 50
    parts = [hold_out(np.arange(100) % 5, 0.2, True, seed)[1] for seed in (7, 7 + 2**32)]
    assert parts[0].tolist() != parts[1].tolist()
