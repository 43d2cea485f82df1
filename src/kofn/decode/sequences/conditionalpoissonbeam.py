"""Conditional Poisson stochastic beam search: beam search whose choice of the K best is a draw of K by weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kofn.core.block import Doubles
from kofn.core.uniforms import Seeds, child_seeds, uniform_rows
from kofn.decode.model import Generations, LanguageModel, Tokens, checked_lengths, checked_rule, checked_seed
from kofn.decode.sequences.designs import Rows, draw_backward, log_inclusion, no_items, prefix_polynomials
from kofn.decode.sequences.rest import Rest, rest_below
from kofn.decode.sequences.search import Candidates, Rule, Run, above, cut_for

_EXPLICIT = 1_024  # candidates that the first attempt treats one by one
_COINS = 0  # purpose of the uniforms that decide about explicit candidates


@dataclass(frozen=True, kw_only=True)
class ConditionalPoissonBeam:
    """n different sequences by beam search in which each step draws its n prefixes instead of taking the n best.

    At each step the candidates are all continuations of the n prefixes, and the sequences that have ended. A set of n of
    them is drawn with probability proportional to the product of its weights (conditional Poisson sampling), where a
    candidate's weight is the odds p / (1 - p) of its share p of the candidates' probability: the weights of the paper.

    `inclusion` is the product over the steps of the path's conditional inclusion probabilities, each given what the step
    before had kept. Its inverse is unbiased: E sum f(y) p(y) / inclusion(y) = E_p f (`expectation`), because each step's
    expectation gives back the sum over the prefixes that were kept before it. It is not the probability, over all runs,
    of being among the n, which would be a sum over all that the steps before could have kept.

    Meister, Amini, Vieira, Cotterell, Conditional Poisson stochastic beam search (2021). The authors' code cuts the
    candidates to a nucleus before it draws. Here nothing is cut: the candidates of largest weight, about a thousand or
    as many as need be, go through the dynamic programme one by one, and all others enter it through their power sums and
    are drawn by rejection. Exact up to the float32 exponentials of the logits, relative error about 1e-6.

    Needs: a language model. Random: yes. Cost: a pass of at most n sequences for each token, four float32 scans of their
    logits, and O(1000 n) logarithms.

    Parameters
    ----------
    rule : callable, optional
        logits (B, V) -> logits (B, V), those of cut tokens at -inf; the law is the softmax of what it answers.

    Examples
    --------
    >>> from kofn.decode.markov import MarkovModel
    >>> answer = ConditionalPoissonBeam().generate(MarkovModel([[0.5, 0.5], [0.25, 0.75]]), [0], 4, length=2)
    >>> sorted(each.tolist() for each in answer.tokens)
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """

    rule: Rule | None = None

    def __post_init__(self) -> None:
        checked_rule("ConditionalPoissonBeam", self.rule)

    def generate(
        self, model: LanguageModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64, seed: int = 0
    ) -> Generations:
        """n different sequences by falling probability; fewer where the law has fewer.

        Parameters
        ----------
        model : LanguageModel
        prompt : sequence of int
            At least one token.
        n : int
            Sequences wanted.
        length : int
            The most tokens that a sequence gets.
        seed : int

        Returns
        -------
        Generations
            `inclusion`: product of the path's conditional inclusion probabilities. `details["log_inclusion"]`: float64
            (n,), its logarithm, which does not underflow on long sequences.

        Raises
        ------
        ParameterError, UsageError
            For n, length or seed out of range, and for a prompt that is empty or outside the vocabulary.
        """
        checked_lengths(n, length)
        seed = checked_seed(seed)
        run = Run(model, prompt, self.rule)
        own = child_seeds(seed, 0, 1)
        kept = _Kept((), np.zeros(0), np.zeros(0)), _Kept(((),), np.zeros(1), np.zeros(1))
        for step in range(1, length + 1):
            kept, rows = _drawn(run, *kept, n, model.end, _Chance(own, step))
            if step == length or not len(rows):
                break
            run.advance(rows, np.array([path[-1] for path in kept[1].paths], np.int64))
        return _answer(*kept, run)


@dataclass(frozen=True, eq=False)
class _Kept:
    """Sequences that have ended, or live prefixes: tokens, log-probabilities, log inclusion along the path."""

    paths: tuple[tuple[int, ...], ...]
    logprobs: Doubles
    inclusion: Doubles


@dataclass(frozen=True, eq=False)
class _Chance:
    """The uniforms of one step."""

    seed: Seeds
    step: int

    def uniforms(self, count: int, purpose: int) -> Doubles:
        return uniform_rows(self.seed, self.step, count, purpose)[0]


def _drawn(
    run: Run, ended: _Kept, live: _Kept, n: int, end: frozenset[int], chance: _Chance
) -> tuple[tuple[_Kept, _Kept], Tokens]:
    """The n sequences drawn of all candidates, those that have ended and those that live; the latter's parents."""
    offsets = live.logprobs - run.normalizers
    explicit, rest = _parted(run, ended, offsets, n)
    scores = np.concatenate([ended.logprobs, explicit.scores])  # sequences that have ended come first
    places, others, steps_inclusion = _design(scores, rest, n, chance)
    again = places[places < len(ended.paths)]
    fresh = places[places >= len(ended.paths)] - len(ended.paths)
    beams = np.concatenate([explicit.beams[fresh], others.beams])
    tokens = np.concatenate([explicit.tokens[fresh], others.tokens])
    logprobs = live.logprobs[beams] + run.log_probability(beams, tokens)
    inclusion = live.inclusion[beams] + steps_inclusion[len(again) :]
    order = np.lexsort((tokens, beams, -logprobs))
    ends = np.isin(tokens[order], np.fromiter(end, np.int64, len(end)))
    closing, going = order[ends], order[~ends]

    def extended(rows: Rows) -> tuple[tuple[int, ...], ...]:
        return tuple((*live.paths[beams[row]], int(tokens[row])) for row in rows)

    now_ended = _Kept(
        tuple(ended.paths[place] for place in again) + extended(closing),
        np.concatenate([ended.logprobs[again], logprobs[closing]]),
        np.concatenate([ended.inclusion[again] + steps_inclusion[: len(again)], inclusion[closing]]),
    )
    return (now_ended, _Kept(extended(going), logprobs[going], inclusion[going])), beams[going]


def _parted(run: Run, ended: _Kept, offsets: Doubles, n: int) -> tuple[Candidates, Rest]:
    """The live beams' candidates of largest probability, and the rest, where it is even enough to be treated as one."""
    mass = float(np.logaddexp.reduce(np.concatenate([ended.logprobs, offsets + run.normalizers])))
    count = max(_EXPLICIT, 4 * n)
    while True:
        cut = cut_for(run.logits, offsets, count)
        found = above(run.logits, offsets, cut)
        toward = -np.inf
        if len(found) > 2 * count:  # many near the cut: those from the count-th largest down are left to the rest
            cut, toward = np.partition(found.scores, len(found) - count)[len(found) - count], np.inf
        cuts = np.nextafter((cut - offsets).astype(np.float32), np.float32(toward))
        rest = rest_below(run.logits, offsets, cuts, mass, n)
        if rest.even_for(n):
            return found.take(run.logits[found.beams, found.tokens] > cuts[found.beams]), rest
        count *= 4


def _design(scores: Doubles, rest: Rest, n: int, chance: _Chance) -> tuple[Rows, Candidates, Doubles]:
    """The places drawn of the explicit candidates, what is drawn of the rest, and the log inclusion of both."""
    if rest.empty and len(scores) <= n:
        return np.arange(len(scores)), rest.draw(0, chance.uniforms), np.zeros(len(scores))
    log_weights = _log_odds(scores - rest.mass, rest)
    table = prefix_polynomials(log_weights, rest.log_polynomials(n))
    places, left = draw_backward(log_weights, table, chance.uniforms(len(scores), _COINS))
    others = rest.draw(left, chance.uniforms)
    inclusion = [log_inclusion(log_weights, table, places)]
    if left:
        alone = prefix_polynomials(log_weights, no_items(n - 1))[-1]
        for weight in rest.log_weights(others):
            without = rest.log_polynomials(n - 1, without=weight)
            inclusion.append(np.atleast_1d(weight + np.logaddexp.reduce(alone[::-1] + without) - table[-1, n]))
    return places, others, np.minimum(np.concatenate(inclusion), 0.0)


def _log_odds(log_shares: Doubles, rest: Rest) -> Doubles:
    """log of p / (1 - p); for a p above 1/2 what is missing to 1 is added up, not subtracted."""
    above_half = log_shares > -np.log(2.0)
    log_missing = np.log1p(-np.exp(np.where(above_half, -np.inf, log_shares)))
    for place in np.flatnonzero(above_half):
        log_missing[place] = np.logaddexp.reduce(np.append(np.delete(log_shares, place), rest.log_share))
    return log_shares - log_missing


def _answer(ended: _Kept, live: _Kept, run: Run) -> Generations:
    paths = ended.paths + live.paths
    logprobs = np.concatenate([ended.logprobs, live.logprobs])
    inclusion = np.concatenate([ended.inclusion, live.inclusion])
    order = np.argsort(-logprobs, kind="stable")
    return Generations(
        tokens=tuple(np.array(paths[place], np.int64) for place in order),
        logprobs=logprobs[order],
        finished=order < len(ended.paths),
        passes=run.passes,
        rows=run.rows,
        inclusion=np.exp(inclusion[order]),
        details={"log_inclusion": inclusion[order]},
    )
