"""Adding up the results of slabs in an order that no engine can change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def tree_sum(parts: Iterable[Any]) -> Any:
    """Sum of arrays (or tuples of arrays) in a fixed binary tree over their positions.

    The shape of the tree depends on positions alone, so the same bits come out wherever the parts were made.
    Holds at most log2(count) + 1 partial sums. Raises ValueError when there is nothing to add.
    """
    stack: list[tuple[int, Any]] = []
    for part in parts:
        height, total = 0, part
        while stack and stack[-1][0] == height:
            total = add(stack.pop()[1], total)
            height += 1
        stack.append((height, total))
    if not stack:
        raise ValueError("nothing to add")
    total = stack.pop()[1]
    while stack:
        total = add(stack.pop()[1], total)
    return total


def add(left: Any, right: Any) -> Any:
    """`left + right`, element by element for tuples."""
    if isinstance(left, tuple):
        return tuple(add(a, b) for a, b in zip(left, right, strict=True))
    return left + right
