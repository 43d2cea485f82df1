"""Buffers that a thread uses again: a fresh array of some MB costs its page faults every time."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from kofn.core.block import Floats

_local = threading.local()


def scratch(purpose: str, *shape: int) -> Floats:
    """An uninitialised float32 array that belongs to this thread and purpose until the next call for it."""
    held: dict[str, Any] = _local.__dict__
    size = int(np.prod(shape))
    buffer = held.get(purpose)
    if buffer is None or buffer.size < size or buffer.size > 4 * size + (1 << 20):
        buffer = held[purpose] = np.empty(size, np.float32)
    return buffer[:size].reshape(shape)
