"""What counts as a whole number where callers give one."""

from __future__ import annotations

import math
from typing import TypeGuard

import numpy as np


def is_whole(value: object, least: float = -math.inf, most: float = math.inf) -> TypeGuard[int]:
    """Whether this is a whole number from `least` to `most`, of Python or NumPy: 2.0 and True are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(least <= value <= most)
