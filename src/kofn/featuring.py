"""When a plain table's columns become its vectors: what was asked for, what may be used, and the sample that it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kofn.core.block import Rows
from kofn.errors import DataError, UsageError

if TYPE_CHECKING:
    from kofn.intake import Source


def wish(source: Source, features: Any, embedding: Any) -> None:
    """Note which columns shall become features; what the data hold as an embedding is then left alone."""
    if embedding is not None:
        raise UsageError("features and embedding were both given; the vectors are one or the other: leave one out")
    if source.dataset is None:
        raise UsageError("features name columns of a table, but the data is an array, whose columns are the vectors")
    if isinstance(features, Mapping):
        from kofn.blocks.features import from_recipe

        try:
            source.embedding = from_recipe(features)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the recipe of the features is damaged ({error!r}); select again") from error
        asked: Any = source.embedding.columns
    elif isinstance(features, str) and features == "auto" and "auto" not in source.dataset.schema.names:
        source.features, source.embedding = "auto", None
        return
    else:
        asked = _listed(source, features)
        source.features, source.embedding = asked, None
    for name in asked:
        source.dataset.check_column(name, "features")


def _listed(source: Source, features: Any) -> tuple[str, ...]:
    if isinstance(features, str):
        whole = features in source.dataset.schema.names
        features = [features] if whole else [name.strip() for name in features.split(",")]
    if not isinstance(features, Sequence) or not features or not all(isinstance(name, str) for name in features):
        raise UsageError(f"features={features!r} names no columns; give 'auto', or names: features=['age', 'city']")
    twice = [name for at, name in enumerate(features) if name in features[:at]]
    if twice:
        raise UsageError(f"features name {twice[0]!r} twice; name every column once")
    return tuple(features)


def settle_features(source: Source, columns: Mapping[str, Any]) -> None:
    """Make vectors of plain columns where there are none, and of those alone that were asked for.

    Parameters
    ----------
    columns : mapping
        What was given for each role: columns that are used so do not become features.

    Raises
    ------
    UsageError
        When a column that was asked for cannot be used, or none that can be was found.
    """
    asked = source.features
    if source.dataset is None or source.array is not None or source.embedding is not None or source.passed_over:
        return
    from kofn.blocks.features import fit_features

    roles = {value: role for role, value in columns.items() if isinstance(value, str) and role != "embedding"}
    given = {role: value for role, value in columns.items() if not isinstance(value, str) and value is not None}
    roles |= _named_by_arrays(source, given)
    rows = _sampled(source.n)
    wanted = asked if isinstance(asked, tuple) else None
    found = fit_features(source.dataset, wanted, roles, rows, source.run.threads, _sampled_arrays(source, given, rows))
    if found.parts:
        source.embedding = found
        return
    source.passed_over = found
    if asked is not None:
        raise UsageError(
            f"features: no column of {source.dataset.describe()} can be used: {found.lost()}; give embeddings, "
            "or use --method uniform"
        )


def _named_by_arrays(source: Source, given: Mapping[str, Any]) -> dict[str, str]:
    """Columns that were given as what a table's library hands out for them: a Series knows its column's name."""
    names = {role: getattr(value, "name", None) for role, value in given.items()}
    return {name: role for role, name in names.items() if isinstance(name, str) and name in source.dataset.schema.names}


def _sampled_arrays(source: Source, given: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
    """The values that were given as arrays, at the sampled rows: a column that holds the same must not leak into the vectors."""
    arrays = {role: np.asarray(value) for role, value in given.items() if role != "have"}
    return {role: values[rows] for role, values in arrays.items() if values.shape == (source.n,)}


def fit_again(source: Source) -> Any:
    """The features of these columns, fitted anew."""
    from kofn.blocks.features import fit_features

    return fit_features(source.dataset, source.embedding.columns, {}, _sampled(source.n), source.run.threads)


def _sampled(n: int) -> Rows:
    """The rows that features are fitted on: those with the smallest numbers of their own, ascending."""
    from kofn.blocks.features import SAMPLE
    from kofn.core.designs import smallest_numbers
    from kofn.rng import Rng

    if n <= SAMPLE:
        return np.arange(n)
    return np.sort(smallest_numbers(n, SAMPLE, lambda start, stop: Rng(0).rows(start, stop, "features")))
