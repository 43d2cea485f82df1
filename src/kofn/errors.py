"""What a user can cause: every error says what is wrong, with the value, and how to mend it."""

from __future__ import annotations


class KofnError(ValueError):
    """Base of everything that the caller can mend. The command line prints it without a traceback, exit code 2."""


class UsageError(KofnError):
    """An argument of the call is wrong: its name, type or range."""


class ParameterError(UsageError):
    """A method's parameter is unknown, of the wrong type or out of its range."""


class DataError(KofnError):
    """The data cannot be used as they are: missing column, NaN, ragged lists, corrupt file."""


class InvalidRows(DataError):
    """Some rows hold NaN or infinity (or are zero vectors under cosine). Carries the first such row number."""

    def __init__(self, message: str, first: int) -> None:
        super().__init__(message)
        self.first = first

    def __reduce__(self) -> tuple[type[InvalidRows], tuple[str, int]]:
        """Whole again on the other side of a process."""
        return InvalidRows, (str(self), self.first)


class BudgetError(KofnError):
    """The run would need more memory than `memory` allows and cannot be split."""


class OutputError(KofnError):
    """The output cannot be written where it was asked for."""


class EngineError(KofnError):
    """The cluster cannot do the work: it cannot be reached, its workers differ from this process, or a block fails for good."""


class CheckpointError(KofnError):
    """A checkpoint cannot be gone on with: the input, the versions or the folder are not those that it was begun with."""


class MissingExtra(KofnError):
    """An optional dependency is not installed; the message is the pip command."""


class Stopped(Exception):
    """Ctrl-C, where something is left of the run: the message says what."""
