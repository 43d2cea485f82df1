"""Rounds of drafting and judging, one sequence after another: what both speculative decoders share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from kofn.core.block import Doubles, Floats
from kofn.core.uniforms import Seeds, child_seeds, uniform_rows
from kofn.decode.model import Generations, LanguageModel, Tokens, checked_lengths, checked_seed, prompt_for
from kofn.decode.speculation.drafter import Drafter, checked_vocabulary
from kofn.decode.speculation.law import Law
from kofn.decode.speculation.tapes import DraftTape, TargetTape

ROW = 4
DRAFT, KEY = 16, 17  # purposes of the uniforms: a draft and two of its key, ROW more for each next row
ACCEPT, CORRECT = 19, 23  # of the step, once for all rows


@dataclass(frozen=True, eq=False)
class Chances:
    """The uniforms of a sequence: one for each (purpose, step), whichever round asks for it.

    A step that is drafted in several rounds gets the same number again. Its earlier drafts were thrown away with the
    tokens before them and had no part in what was emitted, so the number is still independent of the prefix.
    """

    seeds: Seeds
    length: int
    _made: dict[int, Doubles] = field(default_factory=dict)

    def at(self, purpose: int, step: int) -> float:
        """The number in (0, 1)."""
        if purpose not in self._made:
            self._made[purpose] = uniform_rows(self.seeds, 0, self.length, purpose)[0]
        return float(self._made[purpose][step])


@dataclass(frozen=True)
class Room:
    """Where a round stands: tokens emitted so far, tokens that may still be, and the tokens that end."""

    step: int
    left: int
    end: frozenset[int]


@dataclass(eq=False)
class Tally:
    """What was drafted and accepted; the log of every draft that the target was asked about."""

    limit: int
    drafted: int = 0
    rounds: int = 0
    tested: Any = None
    accepted: Any = None
    features: list[tuple[float, ...]] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tested = np.zeros(self.limit, np.int64)
        self.accepted = np.zeros(self.limit, np.int64)

    def judged(self, depth: int, accepted: bool) -> None:
        """A token at this depth of its block was accepted, or not."""
        self.tested[depth] += 1
        self.accepted[depth] += accepted

    def details(self, emitted: int, passes: int) -> dict[str, Any]:
        """As `Generations.details`."""
        tested, accepted = int(self.tested.sum()), int(self.accepted.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            by_position = self.accepted / self.tested
        return {
            "drafted": self.drafted,
            "tested": tested,
            "accepted": accepted,
            "acceptance": accepted / tested if tested else float("nan"),
            "acceptance_by_position": by_position,
            "rounds": self.rounds,
            "tokens_per_pass": emitted / (passes - 1) if passes > 1 else float("nan"),
            "features": np.array(self.features, np.float64).reshape(-1, 4),
            "chances": np.array(self.chances, np.float64),
        }


class Play(Protocol):
    """One round: the tokens that it emits and their log-probabilities. Both tapes stand behind them afterwards."""

    def __call__(
        self, target: TargetTape, draft: DraftTape, room: Room, chances: Chances, tally: Tally, /
    ) -> tuple[list[int], list[float]]:
        """What is emitted."""


def decoded(
    model: LanguageModel,
    drafter: Drafter,
    prompt: Sequence[int] | Tokens,
    rule: Callable[[Floats], Floats] | None,
    play: Play,
    tally: Tally,
    *,
    n: int,
    length: int,
    seed: int,
) -> Generations:
    """n sequences, each by rounds until it ends; the prompt is read once."""
    checked_lengths(n, length)
    seed = checked_seed(seed)
    listed = prompt_for(model, prompt)
    checked_vocabulary(drafter, model.vocabulary)
    target, draft = TargetTape(model, listed, rule), DraftTape(drafter, listed)
    sequences, logprobs = [], np.zeros(n)
    for number in range(n):
        if number:
            target.restart()
            draft.restart()
        chances = Chances(child_seeds(seed, number, number + 1), length)
        emitted: list[int] = []
        while len(emitted) < length and not (emitted and emitted[-1] in model.end):
            room = Room(len(emitted), length - len(emitted), frozenset(model.end))
            tokens, values = play(target, draft, room, chances, tally)
            tally.rounds += 1
            emitted += tokens
            logprobs[number] += sum(values)
        sequences.append(np.array(emitted, np.int64))
    return Generations(
        tokens=tuple(sequences),
        logprobs=logprobs,
        finished=np.array([int(each[-1]) in model.end for each in sequences]),
        passes=target.passes,
        rows=target.rows,
        details=tally.details(sum(map(len, sequences)), target.passes),
    )


def drawn(laws: Sequence[Law], room: Room, chances: Chances, depth: int) -> Tokens:
    """The next token of each draft, each with a number of its own."""
    step = room.step + depth
    return np.array([law.draw(chances.at(DRAFT + ROW * row, step)) for row, law in enumerate(laws)], np.int64)
