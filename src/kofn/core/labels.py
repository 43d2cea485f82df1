"""Labels as they come in arrays of anything, made so that they can be sorted and told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE = "(none)"


def sortable(labels: Any) -> NDArray[Any]:
    """The labels as an array; objects as their text, and those that are missing (None, NaN, pandas' NA) as "(none)"."""
    found = np.asarray(labels)
    if found.dtype != object:
        return found
    return np.array([NONE if _missing(label) else str(label) for label in found.tolist()])


def _missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except (TypeError, ValueError):  # pandas' NA has no truth value
        return True
