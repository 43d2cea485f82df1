"""FR-Spec: a drafter whose output layer knows the frequent tokens only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kofn.core.block import Floats
from kofn.decode.model import LanguageModel, Tokens, checked_model
from kofn.decode.speculation.drafter import ModelDrafter
from kofn.decode.speculation.earlyexit import first_layers, with_head
from kofn.decode.speculation.law import Law
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import ParameterError, UsageError


class FrequencyRanked(ModelDrafter):
    """Drafts from the most frequent tokens; the target judges them on the whole vocabulary, so the law is the target's.

    A drafter that reads a few layers spends most of its time in the output layer. Few tokens make up most of any text, so
    rows of the others are left out: memory and operations of the layer fall by the share that is left out, and what a rare
    token would have been accepted is lost.

    Parameters
    ----------
    model : LanguageModel
        A `TransformersModel`: its output layer is cut (the rows are copied, the model is not changed). Any other: the
        columns of its logits are taken, which saves nothing and has the same law.
    tokens : sequence of int
        Those that may be drafted, for example of `most_frequent`.
    layers : int, optional
        Of a `TransformersModel`: draft with its first layers only, as `EarlyExit`.
    rule : callable, optional
        As in `ModelDrafter`; it sees the logits of these tokens.

    Attributes
    ----------
    tokens : int64 (m,), ascending

    Notes
    -----
    Zhao et al., "FR-Spec: Accelerating Large-Vocabulary Language Models via Frequency-Ranked Speculative Sampling", 2025.
    The output layer costs 2 H m operations a token instead of 2 H V.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokens: Sequence[int] | Tokens,
        *,
        layers: int | None = None,
        rule: Callable[[Floats], Floats] | None = None,
    ) -> None:
        checked_model(model)
        self.tokens: Tokens = np.unique(np.asarray(tokens, np.int64))
        if not len(self.tokens) or self.tokens[0] < 0 or self.tokens[-1] >= model.vocabulary:
            raise UsageError(f"tokens must be some of 0..{model.vocabulary - 1}, one at least")
        vocabulary = model.vocabulary
        self._cut = isinstance(model, TransformersModel)
        if isinstance(model, TransformersModel):
            reduced = model.model if layers is None else first_layers(model.model, layers)
            model = TransformersModel(with_head(reduced, self.tokens), end=model.end)
        elif layers is not None:
            raise ParameterError(
                f"layers={layers} is for a TransformersModel; {type(model).__name__} has none to leave out"
            )
        super().__init__(model, rule=rule)
        self.vocabulary = vocabulary  # a cut model's laws are over the target's tokens, some of them

    @property
    def share(self) -> float:
        """m / V: of the output layer's rows, operations and bytes, what is left."""
        return len(self.tokens) / self.vocabulary

    def _laws(self, logits: Floats) -> list[Law | None]:
        return self._laws_of(logits if self._cut else logits[:, self.tokens], self.tokens)


def most_frequent(corpus: Tokens | Sequence[int], vocabulary: int, share: float = 0.25) -> Tokens:
    """The most frequent tokens of a corpus, ascending: `share` of the vocabulary, rounded half up, one at least.

    Ties, tokens that never came among them, go to the lowest token. O(corpus + V log V).
    """
    if isinstance(share, bool) or not isinstance(share, int | float | np.number) or not 0 < share <= 1:
        raise ParameterError(
            f"share={share!r} is not a part of the vocabulary; give a number in (0, 1], for example 0.25"
        )
    counts = counted(corpus, vocabulary)
    keep = max(1, int(np.floor(share * vocabulary + 0.5)))
    return np.sort(np.argsort(-counts, kind="stable")[:keep])


def coverage(tokens: Tokens, corpus: Tokens | Sequence[int], vocabulary: int) -> float:
    """The part of a corpus that these tokens make up. Measure it on text that the ranking has not seen."""
    counts = counted(corpus, vocabulary)
    return float(counts[tokens].sum() / counts.sum())


def counted(corpus: Tokens | Sequence[int], vocabulary: int) -> NDArray[np.int64]:
    """How often each token comes, int64 (V,)."""
    array = np.asarray(corpus, np.int64).ravel()
    if not len(array) or array.min() < 0 or array.max() >= vocabulary:
        raise UsageError(f"the corpus must be tokens in 0..{vocabulary - 1}, one at least")
    return np.bincount(array, minlength=vocabulary)
