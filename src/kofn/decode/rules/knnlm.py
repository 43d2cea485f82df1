"""kNN-LM: a law interpolated with that of the nearest stored contexts."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kofn.core.block import Doubles, Floats
from kofn.decode.model import Tokens, checked_prompt
from kofn.decode.rules.rule import Interval, Rule, whole
from kofn.decode.rules.support import Support
from kofn.errors import DataError, ParameterError, UsageError

_SCREENED = 1 << 24  # products of queries and keys that are held at once
_LARGEST = 1e15  # squares of larger numbers, summed, leave float32


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


class HiddenModel(Protocol):
    """What `Datastore.from_texts` needs of a language model."""

    vocabulary: int

    def start_with_hidden(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, tuple[Floats, ...], Any]:
        """Logits of the next tokens, hidden states of every token of each prompt, and the state."""


class Datastore:
    """Hidden states of a text and the tokens that followed them.

    Parameters
    ----------
    keys : array (n, H)
        Last hidden states, float32. The paper takes the input of the last layer's feed-forward part; here it is what
        the output layer takes, which is what `start_with_hidden` and `next_with_hidden` give.
    tokens : array (n,)
        The token that came next, in 0..V-1.
    vocabulary : int
        V.

    Raises
    ------
    UsageError
        Keys that are no table of finite numbers, another number of tokens, a token outside the vocabulary.

    Notes
    -----
    Memory: the keys, 4 n H bytes. A query costs O(n H): every key is looked at, and the nearest are exact, ties to the
    lowest row. They are the same for a state alone and in a batch.
    """

    def __init__(self, keys: Any, tokens: Any, vocabulary: int) -> None:
        self.keys, self.tokens = _states("keys", keys), np.asarray(tokens, np.int64)
        if len(self.tokens) != len(self.keys) or not len(self.tokens):
            raise UsageError(
                f"{len(self.keys)} keys and {len(self.tokens)} tokens; give one token for each key, one at least"
            )
        outside = np.flatnonzero((self.tokens < 0) | (self.tokens >= vocabulary))
        if len(outside):
            raise UsageError(
                f"token {self.tokens[outside[0]]} of key {outside[0]} is outside the vocabulary 0..{vocabulary - 1}"
            )
        self.vocabulary = vocabulary
        self._squares = _squares(self.keys)

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_texts(cls, model: HiddenModel, texts: Sequence[Sequence[int] | Tokens], *, batch: int = 8) -> Datastore:
        """Read texts once; each of their tokens but the first is stored under the hidden state before it.

        Parameters
        ----------
        model : HiddenModel
            `TransformersModel`, or another with `start_with_hidden`.
        texts : sequence of sequences of int
            Tokens of each text, the tokenizer's first token (<bos>) included. Texts of one token store nothing.
        batch : int
            Texts that are read in one pass; those of like length go together. It changes nothing but time and memory.

        Returns
        -------
        Datastore
            In the order of the texts.
        """
        whole("Datastore.from_texts", "batch", batch, "batch=8")
        listed = [checked_prompt(text, model.vocabulary) for text in texts]
        order = sorted((i for i, text in enumerate(listed) if len(text) > 1), key=lambda i: len(listed[i]))
        if not order:
            raise UsageError("no text has two tokens, so there is nothing to store; give longer texts")
        states: dict[int, Floats] = {}
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            _, hidden, _ = model.start_with_hidden([listed[i][:-1] for i in part])
            # copied, because a row may be a view of all that the pass computed
            states.update({i: np.array(rows, np.float32) for i, rows in zip(part, hidden, strict=True)})
        keys = np.concatenate([states[i] for i in sorted(order)])
        return cls(keys, np.concatenate([listed[i][1:] for i in sorted(order)]), model.vocabulary)

    def save(self, path: str | Path) -> None:
        """Write keys, tokens and V into one file (NumPy's .npz, under the very name given)."""
        with open(Path(path).expanduser(), "wb") as file:
            np.savez(file, keys=self.keys, tokens=self.tokens, vocabulary=self.vocabulary)

    @classmethod
    def load(cls, path: str | Path) -> Datastore:
        """Read what `save` wrote. DataError where the file is something else."""
        try:
            with np.load(Path(path).expanduser(), allow_pickle=False) as held:
                return cls(held["keys"], held["tokens"], int(held["vocabulary"]))
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist; write a datastore with Datastore.save first") from error
        except (KeyError, ValueError, OSError, AttributeError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is no datastore; write one with Datastore.save") from error

    def logits(self, hidden: Any, *, neighbors: int = 64, temperature: float = 1.0) -> Floats:
        """log p_kNN of each query, float32 (B, V): softmax of -squared distance / temperature over the neighbors.

        Parameters
        ----------
        hidden : array (B, H)
        neighbors : int
            How many stored contexts vote, at most n. The paper: 1,024.
        temperature : float
            > 0, in squared units of the hidden states. The paper has 1, for its own states; choose it on text that you
            hold out. Far below the typical squared distance to a neighbor the nearest key alone decides.

        Notes
        -----
        O(B n H) time; 4 B V bytes for the answer, so ask for as many rows at once as you decode at once, and 128 MB
        or less for distances.
        """
        whole("Datastore.logits", "neighbors", neighbors, "neighbors=64")
        if not temperature > 0:
            raise ParameterError(
                f"temperature={temperature} is not above 0; give a squared distance, for example 100.0"
            )
        queries = _states("hidden states", hidden)
        if queries.shape[1] != self.keys.shape[1]:
            raise UsageError(
                f"hidden states of {queries.shape[1]} numbers for keys of {self.keys.shape[1]}; "
                "give those of the model that the datastore was made with"
            )
        places, squared = self._nearest(queries, min(neighbors, len(self)))
        score = -squared / temperature
        votes = np.exp(score - score.max(axis=1, keepdims=True))
        votes /= votes.sum(axis=1, keepdims=True)
        # only the cells that get votes are touched again: a row has few of them and V is large
        rows = np.arange(len(queries))[:, None]
        cells, cell = np.unique(rows * self.vocabulary + self.tokens[places], return_inverse=True)
        law = np.bincount(cell.reshape(-1), votes.reshape(-1))
        out = np.full((len(queries), self.vocabulary), -np.inf, np.float32)
        with np.errstate(divide="ignore"):
            out.reshape(-1)[cells] = np.log(law)
        return out

    def _nearest(self, queries: Floats, count: int) -> tuple[Tokens, Doubles]:
        """Rows of the nearest keys of each query, and their squared distances; both (B, count), nearest first.

        Products of float32 only screen: who may be among the nearest is measured again by differences in float64, so
        that neither the batch nor the processor decides between keys that are equally far.
        """
        from kofn.core.distance import CLOSE, distances_to_point
        from kofn.core.products import finite_product

        places, squared = np.empty((len(queries), count), np.int64), np.empty((len(queries), count))
        lengths = _squares(queries)
        size = max(1, _SCREENED // len(self))
        for start in range(0, len(queries), size):
            products = finite_product(queries[start : start + size], self.keys.T)
            for i, product in enumerate(products, start):
                both = self._squares + lengths[i]
                apart = both - 2 * product
                noise = np.float32(CLOSE) * both
                limit = np.partition(apart + noise, count - 1)[count - 1]
                near = np.flatnonzero(apart - noise <= limit)
                exact = distances_to_point(self.keys[near], queries[i])
                order = np.argsort(exact, kind="stable")[:count]
                places[i], squared[i] = near[order], exact[order]
        return places, squared


def _squares(table: Floats) -> Floats:
    """Squared length of each row, float32."""
    return np.einsum("ij,ij->i", table, table, dtype=np.float64).astype(np.float32)


def _states(what: str, given: Any) -> Floats:
    """A table of float32 numbers whose squares are finite."""
    table = np.ascontiguousarray(given, np.float32)
    if table.ndim != 2:
        raise UsageError(f"{what} have shape {table.shape}; give a table, a row for each state")
    broken = np.flatnonzero(~(np.abs(table) < _LARGEST).all(axis=1))
    if len(broken):
        raise UsageError(
            f"row {broken[0]} of the {what} holds NaN, infinity or a number beyond {_LARGEST:g}; give hidden states"
        )
    return table
