"""The one way to compile a kernel: numba without the GIL, cached on disk where the folder allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numba
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])


def one_form(x: NDArray[Any]) -> NDArray[Any]:
    """A read-only view: a kernel is compiled for arrays that may be written and once more for those that may not."""
    view = x.view()
    view.flags.writeable = False
    return view


def kernel(fn: F) -> F:
    """Compile `fn` at its first call.

    Never `parallel=True` nor `fastmath`: both change the order of additions, hence bits. Where neither the package's
    folder nor the user's cache can be written, the kernel is compiled anew in each process.
    """
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(fn))
    except RuntimeError:  # numba: "cannot cache function: no locator available"
        return cast(F, numba.njit(nogil=True)(fn))


@contextmanager
def compilations() -> Iterator[list[Any]]:
    """Collects what is compiled meanwhile, not what is loaded from the cache."""
    from numba.core import event

    with event.install_recorder("numba:compile") as recorder:
        yield recorder.buffer
