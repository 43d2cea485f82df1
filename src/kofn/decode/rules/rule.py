"""Rules: which tokens of a row of logits may be emitted, and with which chances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.core.numbers import is_whole
from kofn.core.uniforms import uniforms
from kofn.decode.rules.rows import Rows, rows_of
from kofn.decode.rules.support import Support
from kofn.decode.rules.together import each_row
from kofn.errors import ParameterError, UsageError


class Rule(ABC):
    """A map of a row's law to another one. Pure: the same row gives the same answer, alone or in a batch.

    A rule has one verb of its own, `narrow`; all that a user calls is built on it. Rules are composed from left to
    right: `TopK(50) | MinP(0.05) | Temperature(0.8)` cuts, cuts what is left, and then sharpens.
    """

    @abstractmethod
    def narrow(self, support: Support) -> Support:
        """The support after this rule."""

    def __call__(self, logits: Any, *, beside: Any = None) -> Any:
        """Logits with the tokens that are left out at -inf.

        Parameters
        ----------
        logits : array or tensor (..., V)
            NumPy, torch or anything with DLPack, of any float dtype; computed in float32.
        beside : array or tensor (..., V), optional
            The second row of rules that compare two (`KLGuidedTemperature`, `KNNLM`).

        Returns
        -------
        array or tensor (..., V)
            Same kind, dtype and device. softmax of it is the law to draw from.

        Raises
        ------
        UsageError
            A row with NaN or +inf, or with no possible token; it is named.
        """
        rows = rows_of(logits)
        return rows.answer(self.supports(rows, beside=beside))

    def draw(self, logits: Any, seeds: Any, step: int, *, beside: Any = None) -> Any:
        """A token a row, by rule and draw together: nothing of the vocabulary's size is written.

        Parameters
        ----------
        logits : array or tensor (..., V)
        seeds : int, or uint64 (...)
            Of each row's sequence: `child_seeds(seed, 0, n)`. An int: the seed of which rows 0, 1, ... are sequences
            0, 1, ...; a NumPy number is a row's own seed.
        step : int
            Number of the token in its sequence.

        Returns
        -------
        array or tensor (...), int64
            The same token for (row, seed, step), whatever else is in the batch.
        """
        rows = rows_of(logits)
        u = uniforms(row_seeds(seeds, len(rows.values)), checked_step(step))
        pairs = list(zip(entries(rows, beside), u.tolist(), strict=True))
        tokens = each_row(lambda pair: self.narrow(pair[0]).drawn(pair[1]), pairs, rows.values.shape[1])
        return rows.numbers(np.array(tokens, np.int64))

    def supports(self, logits: Any, *, beside: Any = None) -> list[Support]:
        """What is left of each row: tokens, their logits, and with them their chances."""
        rows = logits if isinstance(logits, Rows) else rows_of(logits)
        return each_row(self.narrow, entries(rows, beside), rows.values.shape[1])

    def __or__(self, other: Any) -> Any:
        """This rule and then the other."""
        from kofn.decode.rules.chain import chained

        return chained(self, other)

    def generate_kwargs(self, *, beside: Callable[[Any], Any] | None = None) -> dict[str, Any]:
        """All that `model.generate` of transformers needs for this rule to be the only one.

        `beside` gets input_ids and returns the second rows of rules that compare two.

        Examples
        --------
        >>> from kofn.decode import MinP
        >>> sorted(MinP(0.1).generate_kwargs())[:3]  # doctest: +SKIP
        ['do_sample', 'epsilon_cutoff', 'eta_cutoff']
        """
        from kofn.decode.rules.processors import generate_kwargs

        return generate_kwargs(self, beside)


def entries(rows: Rows, beside: Any) -> list[Support]:
    """The rows as they come in, none of them narrowed."""
    if beside is None:
        return [Support(row, known_top=top) for row, top in zip(rows.values, rows.tops, strict=True)]
    second = rows_of(beside, "rows beside")
    if second.shape != rows.shape:
        raise UsageError(f"rows beside have shape {second.shape} and the logits {rows.shape}; give one for each row")
    trios = zip(rows.values, rows.tops, second.values, strict=True)
    return [Support(row, beside=other, known_top=top) for row, top, other in trios]


def row_seeds(seeds: Any, count: int) -> Any:
    """Seeds of the rows, uint64 (count,)."""
    from kofn.core.uniforms import child_seeds

    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if not 0 <= seeds < 2**64:
            raise UsageError(f"seed={seeds} is outside 0..2**64 - 1; give a whole number in it")
        return child_seeds(seeds, 0, count)
    array = np.asarray(seeds).reshape(-1)
    if array.dtype.kind not in "iu" or (array.dtype.kind == "i" and (array < 0).any()):
        raise UsageError(f"seeds of type {array.dtype} are not whole numbers >= 0; child_seeds(seed, 0, n) makes them")
    if len(array) != count:
        raise UsageError(f"{len(array)} seeds for {count} rows; give one for each row, or one whole number for all")
    return array.astype(np.uint64)


def checked_step(step: int) -> int:
    """A whole number >= 0 that 64 bits hold."""
    if not is_whole(step, 0, 2**63 - 1):
        raise UsageError(
            f"step={step!r} is not a whole number in 0..2**63 - 1; it is the token's number in its sequence"
        )
    return int(step)


@dataclass(frozen=True)
class Interval:
    """Which numbers a parameter may be; `checked` says it to those who give others."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def checked(self, rule: str, name: str, value: object, example: str) -> float:
        """The value as a float."""
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise ParameterError(f"{rule}: {name}={value!r} is not a number; give for example {example}")
        number = float(value)
        below = number <= self.low if self.open_low else number < self.low
        above = number >= self.high if self.open_high else number > self.high
        if below or above or number != number:
            left, right = "[("[self.open_low], "])"[self.open_high]
            raise ParameterError(
                f"{rule}: {name}={value} is outside {left}{self.low:g}, {self.high:g}{right}; give for example {example}"
            )
        return number


def whole(rule: str, name: str, value: object, example: str) -> int:
    """A whole number >= 1."""
    if not is_whole(value, 1):
        raise ParameterError(f"{rule}: {name}={value!r} is not a whole number >= 1; give for example {example}")
    return int(value)
