"""Products of matrices whose numbers are known to be finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def finite_product(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """`np.matmul(a, b, out)` for finite numbers, without NumPy's word on "invalid" values.

    The front door lets finite rows in only, so an invalid value (inf - inf) can come of an overflow alone, of which NumPy
    warns still. A kernel of BLAS works on whole vectors, and may leave the processor's flag for an invalid operation behind
    from lanes that it throws away.
    """
    with np.errstate(invalid="ignore"):
        return np.matmul(a, b, out=out)
