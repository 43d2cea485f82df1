"""Superposed decoding: k drafts from one pass a step, by feeding the model a mixture of their last tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kofn.core.block import Doubles, Floats
from kofn.core.numbers import is_whole
from kofn.decode.model import Generations, Tokens, checked_lengths, prompt_for
from kofn.decode.sequences.ngrams import NGramModel
from kofn.decode.sequences.sampling import likeliest
from kofn.errors import ParameterError, UsageError


@runtime_checkable
class EmbeddingModel(Protocol):
    """A language model that reads vectors in place of tokens; `TransformersModel` is one.

    Attributes
    ----------
    vocabulary : int
        V. Tokens are 0..V-1.
    end : frozenset of int
        Tokens that end a sequence; may be empty.
    """

    vocabulary: int
    end: frozenset[int]

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, Any]:
        """Read B prompts. Logits of their next tokens, float32 (B, V), and the state."""

    def embed(self, tokens: Tokens) -> Floats:
        """Vectors that stand for the tokens (B,), float32 (B, d)."""

    def next_logits_of_embeddings(self, embeddings: Floats, state: Any) -> tuple[Floats, Any]:
        """Append a vector (B, d) to each sequence. Logits float32 (B, V) of what follows, and the state."""


@dataclass(frozen=True, kw_only=True)
class SuperposedDecoding:
    """k drafts at the cost of one: each step, one pass over a superposition of the k drafts' last tokens.

    The input of a step is sum_i w_i e(last token of draft i), w = softmax of the drafts' scores. Its law stands for
    what follows any of the drafts: each draft is combined with each of the most probable tokens, and the k best of
    these combinations are the next drafts. What tells apart which token belongs to which draft is an n-gram model:
    score += (1 - alpha) log p(token) + alpha log q(token | the draft's own last tokens).

    Parameters
    ----------
    ngrams : NGramModel, optional
        q. Without it the score is log p alone, the same for every draft.
    alpha : float
        Weight of the n-grams, in (0, 1); used with `ngrams` only.
    temperature : float
        p = softmax(logits / temperature) over the candidates. Published settings are 0.04 to 0.12.
    candidates_per_draft : int
        c: the k c most probable tokens are combined with the k drafts. Published: 3.
    penalty : float
        With `ngrams`: subtracted from (1 - alpha) log p where the n-grams know none of a draft's candidates.

    Notes
    -----
    Shen, Fan, Pratt, Park, Wallingford, Kakade, Holtzman, Krishna, Farhadi and Kusupati, "Superposed Decoding: Multiple
    Generations from a Single Autoregressive Inference Pass", 2024. Defaults are those of the published settings for three
    drafts after fifteen tokens.

    Cost: `length` passes of one sequence at most, prompt included, whatever k; then O(V + k^2 c) a step and the n-grams'
    lookups. One draft, without n-grams, is greedy decoding.
    """

    ngrams: NGramModel | None = None
    alpha: float = 0.54
    temperature: float = 0.06
    candidates_per_draft: int = 3
    penalty: float = 200.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ParameterError(f"alpha={self.alpha!r} is outside (0, 1)")
        if not 0 < self.temperature < np.inf:
            raise ParameterError(f"temperature={self.temperature!r} is not a positive number")
        count = self.candidates_per_draft
        if not is_whole(count, 1):
            raise ParameterError(f"candidates_per_draft={count!r} is not a whole number >= 1")
        if not 0 <= self.penalty < np.inf:
            raise ParameterError(f"penalty={self.penalty!r} is not a number >= 0")

    def generate(
        self, model: EmbeddingModel, prompt: Sequence[int] | Tokens, n: int = 1, *, length: int = 64
    ) -> Generations:
        """At most n drafts, all different, the best score first.

        Parameters
        ----------
        model : EmbeddingModel
            What drafts.
        prompt : sequence of int
            Tokens before the drafts.
        n : int
            k, the drafts; at least 1. Fewer come where there are fewer tokens that can be, or that the n-grams know.
        length : int
            Most tokens of a draft.

        Returns
        -------
        Generations
            `logprobs`: sums of log softmax(logits) over the superposed passes, not the model's log-probabilities of the
            drafts (but for one draft, which is not superposed). `details["scores"]`: what the drafts are ranked by.

        Raises
        ------
        ParameterError, UsageError
            For n or length below 1, an empty prompt, a token outside the vocabulary, n-grams of another vocabulary,
            logits with NaN or +inf.
        """
        checked_lengths(n, length)
        listed = prompt_for(model, prompt)
        self._check(model)
        logits, state = model.start([listed])
        passes = 1
        alive = [_Draft((), 0.0, 0.0)]
        ended: list[_Draft] = []
        while True:
            grown = self._grown(alive, logits, listed, n, model.end)
            ended = _best([*ended, *(each for each in grown if each.tokens[-1] in model.end)], n)
            alive = [each for each in grown if each.tokens[-1] not in model.end][:n]
            if not alive or len(alive[0].tokens) == length:
                break
            logits, state = model.next_logits_of_embeddings(_superposed(model, alive), state)
            passes += 1
        drafts = _best([*ended, *alive], n)
        return Generations(
            tokens=tuple(np.array(each.tokens, np.int64) for each in drafts),
            logprobs=np.array([each.logprob for each in drafts]),
            finished=np.array([each.tokens[-1] in model.end for each in drafts], np.bool_),
            passes=passes,
            rows=passes,
            details={"scores": np.array([each.score for each in drafts])},
        )

    def _check(self, model: EmbeddingModel) -> None:
        """Errors for a model that this cannot decode."""
        if not isinstance(model, EmbeddingModel):
            raise UsageError(
                f"{type(model).__name__} reads tokens only, and superposed decoding feeds it mixtures of embeddings; "
                "give a TransformersModel"
            )
        if self.ngrams is not None and self.ngrams.vocabulary != model.vocabulary:
            raise UsageError(f"the n-grams have {self.ngrams.vocabulary} tokens and the model {model.vocabulary}")

    def _grown(
        self, drafts: list[_Draft], logits: Floats, prompt: list[int], n: int, end: frozenset[int]
    ) -> list[_Draft]:
        """Every draft with every candidate, best first, down to the n-th that goes on."""
        tokens, logprobs = likeliest(logits, n * self.candidates_per_draft)
        order = np.argsort(-logprobs, kind="stable")  # best first: that is how ties between drafts are settled
        tokens, logprobs = tokens[order], logprobs[order]
        scaled = logprobs / self.temperature
        scaled = scaled - scaled.max()
        log_p = scaled - np.log(np.exp(scaled).sum())
        gains = np.tile(log_p, (len(drafts), 1))
        if self.ngrams is not None:
            gains = self._interpolated(self.ngrams, gains, drafts, tokens, prompt)
        scores = np.array([each.score for each in drafts])[:, None] + gains
        grown: list[_Draft] = []
        going = 0
        for flat in np.argsort(-scores, axis=None, kind="stable"):
            i, j = divmod(int(flat), len(tokens))
            if going == n or scores[i, j] == -np.inf:
                break
            draft, token = drafts[i], int(tokens[j])
            grown.append(_Draft((*draft.tokens, token), float(scores[i, j]), draft.logprob + float(logprobs[j])))
            going += token not in end
        return grown

    def _interpolated(
        self, ngrams: NGramModel, log_p: Doubles, drafts: list[_Draft], tokens: Tokens, prompt: list[int]
    ) -> Doubles:
        """(1 - alpha) log p + alpha log q; a draft none of whose candidates the n-grams know is left to p, penalised."""
        context = [(prompt + list(each.tokens))[1 - ngrams.order :] for each in drafts]
        q = ngrams.interpolated(context, np.tile(tokens, (len(drafts), 1)))
        with np.errstate(divide="ignore"):
            gains = (1 - self.alpha) * log_p + self.alpha * np.log(q)
        unknown = ~(q > 0).any(axis=1)
        gains[unknown] = (1 - self.alpha) * log_p[unknown] - self.penalty
        return gains


@dataclass(frozen=True, slots=True)
class _Draft:
    tokens: tuple[int, ...]
    score: float
    logprob: float


def _best(drafts: list[_Draft], n: int) -> list[_Draft]:
    """The n of the highest scores; ties to the first."""
    return sorted(drafts, key=lambda each: -each.score)[:n]


def _superposed(model: EmbeddingModel, drafts: list[_Draft]) -> Floats:
    """The drafts' last embeddings, weighted by softmax of their scores: float32 (1, d)."""
    scores = np.array([each.score for each in drafts])
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    vectors = model.embed(np.array([each.tokens[-1] for each in drafts], np.int64))
    mixed: Floats = (weights @ vectors.astype(np.float64)).astype(np.float32)[None]
    return mixed
