"""Seeds from seeds; apart from the samplers, so that workers need not import Optuna."""

from __future__ import annotations

import numpy as np


def derive_seed(*parts: int) -> int:
    """A well-mixed 31-bit seed from several small integers (numpy's SeedSequence)."""
    return int(np.random.SeedSequence([part & 0xFFFFFFFF for part in parts]).generate_state(1)[0] >> 1)
