"""The one function that turns what a user calls k into a number of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from kofn.errors import UsageError

THOUSANDS = {"k": 10**3, "m": 10**6, "b": 10**9}


def count(k: Any, n: int, *, what: str = "rows") -> int:
    """k as a whole number of the n things.

    A whole number is itself; "10k", "1M" and "1B" are thousands, millions and billions; a fraction strictly between 0 and 1, or
    a percentage such as "1%", is a share of n, rounded half up and never below one. Everything else is an error: 1.0 could
    mean one row or all of them.

    Examples
    --------
    >>> count(1000, 5000), count("2k", 5000), count("10%", 10), count(0.25, 10), count("1%", 10)
    (1000, 2000, 1, 3, 1)
    """
    picked = _parse(k, n, what)
    if picked < 1:
        raise UsageError(f"k={k} is not a positive number of {what}; ask for at least 1")
    if picked > n:
        raise UsageError(f"k={k} is more than the {n:,} {what} there are; ask for at most {n}")
    return picked


def _parse(k: Any, n: int, what: str) -> int:
    if isinstance(k, str):
        return _parse_text(k, n, what)
    if isinstance(k, bool | np.bool_):
        raise UsageError(f"k={k} is not a number of {what}; give a whole number, or a share such as 0.01 or '1%'")
    if isinstance(k, int | np.integer):
        return int(k)
    if isinstance(k, float | np.floating) and 0.0 < k < 1.0:
        return _share(float(k), n)
    raise UsageError(f"k={k!r} is not a number of {what}; give a whole number, or a share such as 0.01 or '1%'")


def _parse_text(k: str, n: int, what: str) -> int:
    text = k.strip().replace("_", "")
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if not 0.0 < share <= 1.0:
                raise UsageError(f"k={k} is not a share of the {n:,} {what}; give more than 0% and at most 100%")
            return _share(share, n)
        if text.lstrip("+-").isdigit():
            return int(text)
        if text[-1:].lower() in THOUSANDS and (many := float(text[:-1]) * THOUSANDS[text[-1].lower()]).is_integer():
            return int(many)
        return _parse(float(text), n, what)
    except UsageError:
        raise
    except ValueError:
        raise UsageError(f"k={k!r} is not a number of {what}; give a whole number, or a share such as 1%") from None


def _share(share: float, n: int) -> int:
    return max(1, int(np.floor(share * n + 0.5)))


def memory_bytes(memory: Any) -> int:
    """Bytes that "2GiB", "500 MB" or a plain number mean."""
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    units |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
    text = str(memory).strip().lower().replace(" ", "").replace("_", "")
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        amount = int(float(number) * units[text[len(number) :]])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"memory={memory!r} is not an amount of memory; write it as 2GiB or 500MB") from None
    if amount < 1:
        raise UsageError(f"memory={memory!r} is not a positive amount of memory; write it as 2GiB or 500MB")
    return amount
