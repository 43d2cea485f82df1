"""kofn for scikit-learn: a selection as an estimator, for pipelines that resample (imbalanced-learn's `fit_resample`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import validate_data

from kofn.blocks.tables import take_rows
from kofn.errors import UsageError

if TYPE_CHECKING:
    from kofn.method import Method
    from kofn.selection import Selection


class Select(BaseEstimator):
    """Choose k rows of X.

    Parameters
    ----------
    k : int, float in (0, 1), or str
        1000, 0.01 or "1%"; a share is rounded half up, never below one row.
    method : str or Method
        As in `kofn.select`.
    metric : {"euclidean", "cosine"}, optional
        How far apart rows are, where the method measures.
    stratify : bool
        Give `y` to the method as groups; for methods that read groups (`uniform`).
    params : dict, optional
        The method's own parameters.
    memory : int or str
        What the run may use.
    random_state : int, RandomState or None
        An integer is the seed, as in `kofn.select`: same rows, same picks. None: another seed at every fit.

    Attributes
    ----------
    sample_indices_ : int64 (k,)
        Row numbers of the picks, in the order of picking.
    sample_weight_ : float64 (k,)
        How many rows each pick stands for: give it to the next estimator's `fit`.
    selection_ : Selection
        The whole answer.
    n_features_in_ : int
        Columns of X.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from kofn.sklearn import Select
    >>> x = np.random.default_rng(0).normal(size=(500, 4))
    >>> y = x[:, 0] > 0
    >>> select = Select(50, method="kmeans")
    >>> few, labels = select.fit_resample(x, y)
    >>> bool(LogisticRegression().fit(few, labels, sample_weight=select.sample_weight_).score(x, y) > 0.9)
    True
    """

    def __init__(
        self,
        k: int | float | str = "10%",
        *,
        method: str | Method = "auto",
        metric: str | None = None,
        stratify: bool = False,
        params: dict[str, Any] | None = None,
        memory: int | str = "2GiB",
        random_state: Any = 0,
    ) -> None:
        self.k = k
        self.method = method
        self.metric = metric
        self.stratify = stratify
        self.params = params
        self.memory = memory
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, score: Any = None, sample_weight: Any = None) -> Select:
        """Choose.

        Parameters
        ----------
        X : array or sparse matrix (n, d)
            Numbers; converted to float32 as they pass.
        y : array (n,), optional
            Labels: reported on, and groups with `stratify`.
        score : array (n,), optional
            For methods that read scores; higher means more wanted.
        sample_weight : array (n,), optional
            How many rows each row stands for; rows of weight zero are not there.
        """
        from kofn.front import select

        rows = validate_data(self, X, accept_sparse="csr" if self._sparse else False, dtype=[np.float32, np.float64])
        columns = {"score": score, "weight": sample_weight, "group": y if self.stratify else None}
        kept = _with_weight(sample_weight, rows)
        if kept is not None:
            rows = rows[kept]
            columns = {name: None if each is None else np.asarray(each)[kept] for name, each in columns.items()}
        selection = select(
            rows, self.k, method=self.method, metric=self.metric, seed=self._seed(), memory=self.memory, **columns,
            **(self.params or {}),
        )  # fmt: skip
        if kept is not None:
            selection = replace(selection, indices=kept[selection.indices])
        self.selection_: Selection = selection
        self.sample_indices_ = selection.indices
        self.sample_weight_ = selection.weights
        return self

    def fit_resample(self, X: Any, y: Any = None, **columns: Any) -> Any:
        """Choose, and hand back the picked rows of X and y, in the order of picking, in the type they came in."""
        check_consistent_length(X, y)
        self.fit(X, y, **columns)
        rows = self.sample_indices_
        return take_rows(X, rows), None if y is None else _taken(y, rows)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    @property
    def _sparse(self) -> bool:
        """Whether the method takes sparse rows; "auto" may choose one that does not."""
        from kofn.method import Method
        from kofn.registry import METHODS, method_class

        if isinstance(self.method, Method):
            return "sparse" in self.method.accepts
        return self.method in METHODS and "sparse" in method_class(self.method).accepts

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._sparse
        return tags


def _with_weight(sample_weight: Any, rows: Any) -> Any:
    """Numbers of the rows whose weight is not zero, for scikit-learn such a row is not there; None where all count."""
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, np.float64)
    if weights.shape != rows.shape[:1] or (weights != 0).all():
        return None
    if not weights.any():
        raise UsageError("every sample_weight is zero; nothing is left to choose from")
    return np.flatnonzero(weights)


def _taken(y: Any, rows: Any) -> Any:
    return y.iloc[rows] if hasattr(y, "iloc") else np.asarray(y)[rows]
