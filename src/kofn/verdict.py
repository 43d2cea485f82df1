"""What `verify` concludes: checks, gathered in levels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes
    ----------
    name : str
        Such as "contents".
    passed : bool
    sentence : str
        What was found.
    row : int or None
        The first offending row of the data, where there is one.
    expected, found : object
        What should be there and what is, where the check failed. Plain JSON.
    """

    name: str
    passed: bool
    sentence: str
    row: int | None = None
    expected: Any = None
    found: Any = None


def passed(name: str, sentence: str) -> Check:
    """A check that passed."""
    return Check(name, True, sentence)


def failed(name: str, sentence: str, *, expected: Any, found: Any, row: int | None = None) -> Check:
    """A check that failed; the sentence ends with what was expected and what was found."""
    return Check(name, False, f"{sentence}: expected {expected}, found {found}", row, expected, found)


_SAID = {
    "rows": "the picks are rows of the data, with the contents that the data have",
    "value": "what the picks are said to be worth comes out again",
    "rerun": "choosing again gives the same answer",
}


@dataclass(frozen=True)
class Level:
    """The checks of one level, up to the first that failed.

    Attributes
    ----------
    name : {"rows", "value", "rerun"}
    checks : tuple of Check
        Empty where the level was not run.
    why : str
        Why it was not run.
    """

    name: str
    checks: tuple[Check, ...] = ()
    why: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether every check passed; None where the level was not run."""
        return all(check.passed for check in self.checks) if self.checks else None

    def __str__(self) -> str:
        if not self.checks:
            return f"{self.name:<7} not run: {self.why}"
        lines = [f"{self.name:<7} {'pass: ' + _SAID[self.name] if self.passed else 'FAIL'}"]
        lines += [f"  {check.name:<11}{'' if check.passed else 'FAIL: '}{check.sentence}" for check in self.checks]
        return "\n".join(lines)


@dataclass(frozen=True)
class Verification:
    """Whether an answer is what it says it is. True where every level that was run passed.

    Attributes
    ----------
    subset, data : str
        What was checked, and against what.
    levels : tuple of Level
        rows, value, rerun.
    """

    subset: str
    data: str
    levels: tuple[Level, ...]

    @property
    def passed(self) -> bool:
        """Whether every level that was run passed."""
        return all(level.passed is not False for level in self.levels)

    @property
    def failure(self) -> tuple[str, Check] | None:
        """The level that failed and the check that failed in it; None where all passed."""
        return next(((level.name, check) for level in self.levels for check in level.checks if not check.passed), None)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        end = "verified" if self.passed else "REFUSED"
        return "\n".join([*(str(level) for level in self.levels), f"{end}: {self.subset} against {self.data}"])

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: {passed, subset, data, levels: [{name, passed, why, checks: [...]}]}."""
        levels = [
            {
                "name": each.name,
                "passed": each.passed,
                "why": each.why,
                "checks": [vars(check) for check in each.checks],
            }
            for each in self.levels
        ]
        return {"passed": self.passed, "subset": self.subset, "data": self.data, "levels": levels}


def until_failure(name: str, checks: Iterable[Check]) -> Level:
    """The level of these checks; what follows the first failure is not looked at, for it may rest on it."""

    def ended() -> Iterator[Check]:
        for check in checks:
            yield check
            if not check.passed:
                return

    return Level(name, tuple(ended()))
