"""One BLAS thread inside a tile: bits depend on the number of threads, so it is fixed around every run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_depth = 0
_limit: Any = None


@cache
def _controller() -> Any:
    import numpy.linalg  # noqa: F401  loads the BLAS that the controller must see
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread while at least one such block is open, then give it back as it was."""
    global _depth, _limit
    with _lock:
        if _depth == 0:
            _limit = _controller().limit(limits=1)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _limit.restore_original_limits()
                _limit = None


def blas_kernel() -> str:
    """The kernel that NumPy's BLAS runs, such as "openblas 0.3.30 Haswell"; "unknown" where it cannot be told."""
    for library in _controller().info():
        if "numpy" in str(library.get("filepath", "")):
            words = (library.get("internal_api"), library.get("version"), library.get("architecture"))
            return " ".join(str(word) for word in words if word)
    return "unknown"
