"""Speculative sampling: one draft a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from kofn.core.block import Floats
from kofn.decode.model import Generations, LanguageModel, Tokens, checked_rule
from kofn.decode.speculation.drafter import Drafter, checked_drafter
from kofn.decode.speculation.law import Law
from kofn.decode.speculation.policy import Draft, Policy, policy_of
from kofn.decode.speculation.rounds import ACCEPT, CORRECT, Chances, Room, Tally, decoded, drawn
from kofn.decode.speculation.tapes import DraftTape, TargetTape


@dataclass(frozen=True)
class Speculative:
    """Sequences with the target's own law in fewer passes of the target.

    A round: the drafter proposes tokens x_1..x_K from its laws q_1..q_K; one pass of the target gives the laws p_1..p_K+1
    at all their places. x_j is accepted with chance min(1, p_j(x_j) / q_j(x_j)). At the first refusal the token is drawn
    from (p_j - q_j)+ instead, and the rest of the draft is thrown away; when all are accepted, one more token is drawn
    from p_K+1. Each token has the law p, whatever q is: q bears on the number of passes only.

    Parameters
    ----------
    drafter : Drafter
        `ModelDrafter`, `NGramDrafter`, `EarlyExit`, `FrequencyRanked`, or your own.
    length : int or Policy
        Tokens drafted a round: a number, or a policy such as `Threshold(0.5)`.
    rule : callable, optional
        Logits (B, V) in, logits (B, V) out, the rest at -inf: the law decoded from is softmax(rule(target's logits)).
        `TopK(1)` is greedy search.

    Notes
    -----
    Leviathan, Kalman and Matias, "Fast Inference from Transformers via Speculative Decoding", 2023; Chen, Borgeaud,
    Irving, Lespiau, Sifre and Jumper, "Accelerating Large Language Model Decoding with Speculative Sampling", 2023. The
    chance of acceptance is sum min(p, q) = 1 - TV(p, q); where it is a at every place, independently, a pass yields
    (1 - a^(K+1)) / (1 - a) tokens.

    The law is the target's within the rounding of its logits. A pass over several tokens rounds otherwise than one over
    a single token, so greedy output can part from plain greedy search where two logits agree to some 1e-5.

    Cost: one pass over at most K + 1 tokens a round, the drafter's own cost, O(V) for each judged token.

    Examples
    --------
    >>> from kofn.decode.markov import MarkovModel
    >>> from kofn.decode.speculation.ngram import NGramDrafter
    >>> model = MarkovModel([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    >>> answer = Speculative(NGramDrafter(2), length=5).generate(model, [0, 1, 2, 0], length=12)
    >>> answer.tokens[0].tolist(), answer.passes
    ([1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0], 3)
    """

    drafter: Drafter
    _: KW_ONLY
    length: int | Policy = 4
    rule: Callable[[Floats], Floats] | None = None

    def __post_init__(self) -> None:
        checked_drafter("Speculative", self.drafter)
        checked_rule("Speculative", self.rule)
        policy_of(self.length)

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64, seed: int = 0
    ) -> Generations:
        """n independent sequences, one after another.

        Parameters
        ----------
        model : LanguageModel
            The target.
        prompt : sequence of int
            Tokens before the first that is drawn; read once.
        n : int
            Sequences; at least 1.
        length : int
            Most tokens of a sequence.
        seed : int
            A token depends on (seed, sequence, step) and the prefix, not on n.

        Returns
        -------
        Generations
            `details`: `drafted` tokens; `tested`, those that the target was asked about, and `accepted` of them;
            `acceptance`, their ratio; `acceptance_by_position` (limit,), NaN where nothing was tested; `rounds`;
            `tokens_per_pass`, emitted tokens over passes after the prompt's; `features` (tested, 4) and `chances`
            (tested,), the log that `AcceptanceHead.fit` takes.

        Raises
        ------
        ParameterError, UsageError
            For n or length below 1, a seed outside 0..2**64 - 1, an empty prompt, a token outside the vocabulary, a
            drafter of another vocabulary.
        DataError
            When logits hold NaN or +inf, or none is finite.
        """
        policy = policy_of(self.length)

        def play(
            target: TargetTape, draft: DraftTape, room: Room, chances: Chances, tally: Tally
        ) -> tuple[list[int], list[float]]:
            drafts, laws = drafted_block(draft, policy, room, chances)
            tally.drafted += len(drafts)
            target.judge(np.array([[each.token for each in drafts]], np.int64).reshape(1, -1))
            tokens, values, accepted = judged(target, drafts, laws, room, chances, tally)
            last = tokens[-1] if len(tokens) > accepted else None
            target.keep(0, len(drafts), accepted, last)
            draft.keep(0, tokens[:accepted], last)
            return tokens, values

        return decoded(model, self.drafter, prompt, self.rule, play, Tally(policy.limit), n=n, length=length, seed=seed)


def drafted_block(tape: DraftTape, policy: Policy, room: Room, chances: Chances) -> tuple[list[Draft], list[Law]]:
    """Drafts of a round and the laws that they were drawn from; the last token of a sequence is never drafted."""
    most = min(policy.limit, room.left - 1)
    drafts: list[Draft] = []
    laws: list[Law] = []
    if most < 1:
        return drafts, laws
    law = tape.open(1)[0]
    while law is not None:
        token = int(drawn([law], room, chances, len(drafts))[0])
        drafts.append(Draft.of(law, token, len(drafts)))
        laws.append(law)
        if len(drafts) == most or token in room.end or policy.stops(drafts):
            break
        law = tape.read(np.array([token], np.int64))[0]
    return drafts, laws


def judged(
    target: TargetTape, drafts: Sequence[Draft], laws: Sequence[Law], room: Room, chances: Chances, tally: Tally
) -> tuple[list[int], list[float], int]:
    """Tokens emitted, their log-probabilities under the target, and how many of them are accepted drafts."""
    tokens: list[int] = []
    values: list[float] = []
    for depth, (draft, q) in enumerate(zip(drafts, laws, strict=True)):
        p = target.law(0, depth)
        step = room.step + depth
        chance = min(1.0, p.probability(draft.token) / q.probability(draft.token))
        accepted = chances.at(ACCEPT, step) < chance
        tally.judged(depth, accepted)
        tally.features.append(draft.features())
        tally.chances.append(chance)
        token = draft.token if accepted else p.excess(q.tokens, q.probabilities(), chances.at(CORRECT, step))
        tokens.append(token)
        values.append(p.logprob(token))
        if not accepted:
            return tokens, values, depth
        if token in room.end:
            return tokens, values, depth + 1
    p = target.law(0, len(drafts))
    tokens.append(p.draw(chances.at(CORRECT, room.step + len(drafts))))
    values.append(p.logprob(tokens[-1]))
    return tokens, values, len(drafts)
