"""Randomness as an argument: named streams, and numbers that belong to a row."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from kofn.core.block import Doubles
from kofn.core.numbers import is_whole
from kofn.errors import UsageError


@dataclass(frozen=True)
class Rng:
    """Chance, by purpose. Asking twice is asking once: nothing in here moves on.

    Parameters
    ----------
    seed : int
        Non-negative.
    path : tuple of str
        Names of the children that led here; see `child`.

    Examples
    --------
    >>> rng = Rng(0)
    >>> bool((rng.rows(5, 9, "draw") == rng.rows(0, 9, "draw")[5:]).all())
    True
    """

    seed: int
    path: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_whole(self.seed, 0):
            raise UsageError(f"seed={self.seed!r} is not a whole number >= 0; give one, for example seed=0")
        object.__setattr__(self, "seed", int(self.seed))

    def generator(self, purpose: str) -> np.random.Generator:
        """A fresh NumPy generator for this purpose, always at its beginning."""
        return np.random.Generator(np.random.Philox(key=self._key("generator", purpose)))

    def rows(self, start: int, stop: int, purpose: str) -> Doubles:
        """Uniform numbers in (0, 1) that belong to rows start..stop-1, float64 (stop - start,).

        Philox4x64-10 of (seed, purpose, row number): word `row % 4` of counter `row // 4`. The same row gets the same
        number whichever block it is asked in. 52 bits, never 0 nor 1.
        """
        first = start // 4
        bits = np.random.Philox(key=self._key("rows", purpose), counter=first)
        raw = bits.random_raw(stop - 4 * first)[start - 4 * first :]
        return ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def child(self, name: str) -> Rng:
        """An independent Rng, for a stage that draws by itself."""
        return Rng(self.seed, (*self.path, name))

    def _key(self, *purpose: str) -> int:
        words = "\x1f".join((str(self.seed), *self.path, "\x1e", *purpose))
        return int.from_bytes(blake2b(words.encode(), digest_size=16).digest(), "little")
