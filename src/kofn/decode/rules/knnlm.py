"""kNN-LM: a law interpolated with that of the nearest stored contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.core.block import Floats
from kofn.decode.rules.rule import Interval, Rule, whole
from kofn.decode.rules.support import Support
from kofn.errors import ParameterError, UsageError


@dataclass(frozen=True)
class KNNLM(Rule):
    """weight p_kNN + (1 - weight) p (Khandelwal et al., Generalization through memorization, 2020; what it does and does
    not bring: Wang et al., kNN-LM does not improve open-ended text generation, 2023).

    `beside` holds log p_kNN, as `Datastore.logits` gives it.

    Parameters
    ----------
    weight : float
        In [0, 1]; the first paper uses 0.25. 0 changes nothing, to the bit. Nor does a row of neighbors that
        know none of the tokens left.

    Cost: six passes over two rows. O(V) time.
    """

    weight: float

    def __post_init__(self) -> None:
        Interval(0, 1).checked("KNNLM", "weight", self.weight, "KNNLM(0.25)")

    def narrow(self, support: Support) -> Support:
        """See `Rule`."""
        if support.beside is None:
            raise UsageError("KNNLM mixes two rows: give Datastore.logits(hidden) as beside=")
        if self.weight == 0:
            return support
        other = support.beside if support.tokens is None else support.beside[support.tokens]
        # a token that has been left out stays out, whatever the neighbors say
        other = np.where(support.values > -np.inf, other, np.float32(-np.inf))
        if not (other > -np.inf).any():
            return support
        with np.errstate(divide="ignore"):
            mixed = self.weight * np.exp(other - np.float32(Support(other).log_total()))
            mixed += (1 - self.weight) * np.exp(support.values - np.float32(support.log_total()))
            return support.revalued(np.log(mixed, dtype=np.float32))


class Datastore:
    """Hidden states of a text and the tokens that followed them.

    Parameters
    ----------
    keys : array (n, H)
        Last hidden states, float32.
    tokens : array (n,)
        The token that came next.
    vocabulary : int
        V.

    Memory: the keys, 4 n H bytes. A query costs O(n H).
    """

    def __init__(self, keys: Any, tokens: Any, vocabulary: int) -> None:
        from sklearn.neighbors import NearestNeighbors

        self.tokens = np.asarray(tokens, np.int64)
        if len(self.tokens) != len(keys) or not len(self.tokens):
            raise UsageError(
                f"{len(keys)} keys and {len(self.tokens)} tokens; give one token for each key, one at least"
            )
        self.vocabulary = vocabulary
        self._index = NearestNeighbors(algorithm="brute").fit(np.asarray(keys, np.float32))

    def logits(self, hidden: Any, *, neighbors: int = 64, temperature: float = 1.0) -> Floats:
        """log p_kNN of each query, float32 (B, V): softmax of -squared distance / temperature over the neighbors.

        Parameters
        ----------
        hidden : array (B, H)
        neighbors : int
            How many stored contexts vote, at most n.
        temperature : float
            > 0, in squared units of the hidden states.
        """
        whole("Datastore.logits", "neighbors", neighbors, "neighbors=64")
        if not temperature > 0:
            raise ParameterError(
                f"temperature={temperature} is not above 0; give a squared distance, for example 100.0"
            )
        count = min(neighbors, len(self.tokens))
        distances, places = self._index.kneighbors(np.asarray(hidden, np.float32), count)
        score = -(distances.astype(np.float64) ** 2) / temperature
        chance = np.exp(score - score.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        law = np.zeros((len(chance), self.vocabulary))
        rows = np.repeat(np.arange(len(chance)), count)
        np.add.at(law, (rows, self.tokens[places].reshape(-1)), chance.reshape(-1))
        with np.errstate(divide="ignore"):
            return np.log(law).astype(np.float32)
