"""Speculative sampling with several drafts a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from kofn.core.block import Floats
from kofn.decode.model import Generations, LanguageModel, Tokens, checked_rule
from kofn.decode.speculation.drafter import Drafter, checked_drafter
from kofn.decode.speculation.law import Law
from kofn.decode.speculation.policy import Draft, checked_whole
from kofn.decode.speculation.rounds import ACCEPT, CORRECT, KEY, ROW, Chances, Room, Tally, decoded, drawn
from kofn.decode.speculation.selection import DraftChoice
from kofn.decode.speculation.tapes import DraftTape, TargetTape


@dataclass(frozen=True)
class MultiDraft:
    """As `Speculative`, with several independent drafts a round, of which one batched pass of the target judges all.

    At each place the drafts that share the emitted prefix are alive. Their tokens are independent draws from one law q;
    `DraftChoice` picks one of them so that it can be accepted as often as any scheme could, and a speculative step accepts it
    or draws from what is left. The drafts with the emitted token stay alive; where it is none's, the round ends.

    Parameters
    ----------
    drafter : Drafter
        Drafts differ only where its law is no certainty: `NGramDrafter` wants `counts=True` here.
    drafts : int
        K, drafts a round.
    length : int
        Tokens of each draft.
    rule : callable, optional
        As in `Speculative`.

    Notes
    -----
    Khisti, Ebrahimi, Dbouk, Behboodi, Memisevic and Louizos, "Multi-Draft Speculative Sampling: Canonical Architectures and
    Theoretical Limits", 2024; see `DraftChoice`. Cost a round: one pass of K rows over `length` + 1 tokens, K copies of the
    target's state, and O(V log V) at each place.
    """

    drafter: Drafter
    _: KW_ONLY
    drafts: int = 2
    length: int = 4
    rule: Callable[[Floats], Floats] | None = None

    def __post_init__(self) -> None:
        checked_drafter("MultiDraft", self.drafter)
        checked_rule("MultiDraft", self.rule)
        checked_whole("drafts", self.drafts)
        checked_whole("length", self.length)

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64, seed: int = 0
    ) -> Generations:
        """n independent sequences, one after another; parameters, answer and errors as those of `Speculative`.

        In `details`, `drafted` counts the tokens of all drafts, `tested` and `accepted` places of a block (one token each,
        however many drafts hold it); `features` and `chances` are of the picks.
        """

        def play(
            target: TargetTape, draft: DraftTape, room: Room, chances: Chances, tally: Tally
        ) -> tuple[list[int], list[float]]:
            block, laws = drafted_blocks(draft, self.drafts, self.length, room, chances)
            tally.drafted += block.size
            target.judge(block)
            tokens, values, accepted, row = judged(target, block, laws, room, chances, tally)
            last = tokens[-1] if len(tokens) > accepted else None
            target.keep(row, block.shape[1], accepted, last)
            draft.keep(row, tokens[:accepted], last)
            return tokens, values

        return decoded(model, self.drafter, prompt, self.rule, play, Tally(self.length), n=n, length=length, seed=seed)


def drafted_blocks(
    tape: DraftTape, drafts: int, length: int, room: Room, chances: Chances
) -> tuple[Tokens, list[list[Law]]]:
    """Tokens (drafts, m) of a round, and the laws of each place; where nothing is proposed, one row without a token."""
    most = min(length, room.left - 1)
    tokens: list[Tokens] = []
    laws: list[list[Law]] = []
    if most < 1:
        return np.zeros((1, 0), np.int64), laws
    found = tape.open(drafts)
    while all(law is not None for law in found):
        laws.append([law for law in found if law is not None])
        tokens.append(drawn(laws[-1], room, chances, len(tokens)))
        if len(tokens) == most or all(set(row) & room.end for row in np.stack(tokens, axis=1).tolist()):
            break
        found = tape.read(tokens[-1])
    return np.stack(tokens, axis=1) if tokens else np.zeros((1, 0), np.int64), laws


def judged(
    target: TargetTape, block: Tokens, laws: Sequence[Sequence[Law]], room: Room, chances: Chances, tally: Tally
) -> tuple[list[int], list[float], int, int]:
    """Tokens emitted, their log-probabilities, how many of them are accepted, and the row that they stand in."""
    alive = list(range(len(block)))
    tokens: list[int] = []
    values: list[float] = []
    for depth, at_depth in enumerate(laws):
        row = alive[0]
        p, q = target.law(row, depth), at_depth[row]
        token, accepted, pick_chance = _chosen(p, q, block[:, depth], alive, room.step + depth, chances)
        tally.judged(depth, accepted)
        tally.features.append(Draft.of(q, pick_chance[0], depth).features())
        tally.chances.append(pick_chance[1])
        tokens.append(token)
        values.append(p.logprob(token))
        if not accepted:
            return tokens, values, depth, row
        alive = [row for row in alive if block[row, depth] == token]
        if token in room.end:
            return tokens, values, depth + 1, alive[0]
    p = target.law(alive[0], len(laws))
    tokens.append(p.draw(chances.at(CORRECT, room.step + len(laws))))
    values.append(p.logprob(tokens[-1]))
    return tokens, values, len(laws), alive[0]


def _chosen(
    p: Law, q: Law, drafted: Tokens, alive: Sequence[int], step: int, chances: Chances
) -> tuple[int, bool, tuple[int, float]]:
    """The emitted token, whether it is a draft's, and the pick with its chance of acceptance."""
    if len(alive) == 1:
        pick, mass = int(drafted[alive[0]]), q.probabilities()
        served = q.probability(pick)
    else:
        here = q.probabilities()
        choice = DraftChoice(p.probabilities() if _same(p, q) else p.at(_tokens(q)), here, len(alive))
        places = [_row(q, int(drafted[row])) for row in alive]
        pairs = np.array([[chances.at(KEY + ROW * row + part, step) for part in (0, 1)] for row in alive])
        pick, mass = int(drafted[alive[choice.pick(places, pairs)]]), choice.intermediate
        served = float(mass[_row(q, pick)])
    chance = min(1.0, p.probability(pick) / served) if served > 0 else 0.0  # zero by rounding alone
    if chances.at(ACCEPT, step) < chance:
        return pick, True, (pick, chance)
    return p.excess(q.tokens, mass, chances.at(CORRECT, step)), False, (pick, chance)


def _same(p: Law, q: Law) -> bool:
    return p.tokens is None and q.tokens is None


def _tokens(q: Law) -> Tokens:
    return np.arange(len(q.logits)) if q.tokens is None else q.tokens


def _row(q: Law, token: int) -> int:
    """The place of a token in the law's arrays."""
    return token if q.tokens is None else int(np.searchsorted(q.tokens, token))
