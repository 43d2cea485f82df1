"""The answer: which rows, how much each counts, and how to get it again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kofn.blocks.tables import take_rows
from kofn.core.block import Doubles, Rows
from kofn.errors import UsageError
from kofn.items import Items

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_KEY = b"kofn"
COLUMNS = ("kofn_index", "kofn_rank", "kofn_weight", "kofn_inclusion", "kofn_stratum", "kofn_gain")
"""What a written selection adds to the columns of the data, as far as it has them."""


@dataclass(frozen=True)
class Estimate:
    """A number about all rows, concluded from the picks."""

    mean: float
    total: float
    standard_error: float
    interval: tuple[float, float]
    n: int

    def __str__(self) -> str:
        low, high = self.interval
        return f"mean {self.mean:.6g}, 95 % interval {low:.6g} to {high:.6g}, total {self.total:.6g}"


@dataclass(frozen=True, eq=False)
class Selection:
    """k picks.

    Attributes
    ----------
    indices : int64 (k,)
        Global row numbers in pick order.
    weights : float64 (k,)
        How many rows each pick stands for; positive, summing to the total weight less what `have` stands for.
    inclusion : float64 (k,) or None
        E sum f_i / inclusion_i = sum f_i over the rows that `have` does not hold. Only designs have it.
    gains : float64 (k,) or None
        Increase of the objective by each pick; the running sum is the objective.
    ids : array (k,) or None
        The caller's names of the picks.
    strata : int64 (k,) or None
        The stratum that each pick was drawn in; only stratified designs have it.
    provenance : dict
        Method, parameters, seed, n, files, fingerprint, versions, BLAS kernel, how it was run. Plain JSON.
    """

    indices: Rows
    weights: Doubles
    inclusion: Doubles | None = None
    gains: Doubles | None = None
    ids: NDArray[Any] | None = None
    strata: Rows | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        p = self.provenance
        heavy = int(np.argmax(self.weights))
        shares = self.weights / self.weights.sum()
        lines = [
            f"Selection: {len(self):,} of {p.get('n', 0):,} rows by {p.get('method', 'your method')}, seed {p.get('seed', '-')}",
            f"  rows     {_shortened(self.indices)}",
            f"  weights  {self.weights.min():.6g} to {self.weights.max():.6g}, sum {self.weights.sum():,.6g};"
            f" the heaviest is row {self.indices[heavy]} ({shares[heavy]:.1%})",
            f"  {self._merit()}",
            f"  how      {_how(p)}",
        ]
        return "\n".join(lines)

    def _merit(self) -> str:
        if self.inclusion is not None:
            return f"design   inclusion {self.inclusion.min():.3g} to {self.inclusion.max():.3g}; .estimate(values) is unbiased"
        if self.gains is not None:
            return f"gains    {self.gains[0]:.6g} first, {self.gains[-1]:.6g} last, {self.gains.sum():.6g} in all"
        objective = self.provenance.get("objective")
        return f"merit    {objective['name']} {objective['value']:.6g}" if objective else "merit    not measured"

    def take(self, data: Any) -> Any:
        """The picked rows of a table or array with n rows, in pick order, of the same type as `data`."""
        return take_rows(data, self.indices, self.provenance.get("n"))

    def to_arrow(self, data: Any = None) -> pa.Table:
        """The picks as an Arrow table: every column of `data` (if given), then kofn_index, kofn_rank, kofn_weight and,
        for designs, kofn_inclusion; the provenance in the schema's metadata under "kofn". Columns of these names that the
        data bring along from an earlier selection are left out."""
        import pyarrow as pa

        from kofn.blocks.tables import as_arrow

        columns: dict[str, Any] = {}
        if data is not None:
            table = as_arrow(self.take(data))
            columns = {name: table.column(name) for name in table.schema.names if name not in COLUMNS}
        elif self.ids is not None:
            columns["id"] = pa.array(self.ids)
        columns["kofn_index"] = pa.array(self.indices)
        columns["kofn_rank"] = pa.array(np.arange(len(self), dtype=np.int64))
        columns["kofn_weight"] = pa.array(self.weights)
        for name, values in (("inclusion", self.inclusion), ("stratum", self.strata), ("gain", self.gains)):
            if values is not None:
                columns[f"kofn_{name}"] = pa.array(values)
        text = json.dumps(self.provenance, sort_keys=True, default=_plain)
        return pa.table(columns).replace_schema_metadata({METADATA_KEY: text.encode()})

    def save(self, path: str, data: Any = None, *, force: bool = False) -> None:
        """Write the picks: .parquet, .arrow, .csv, .jsonl, or .npy (row numbers alone). Whole or not at all."""
        from kofn.blocks.write import write_table

        write_table(self.to_arrow(data), path, force=force)

    def represented_by(self, items: Items, *, metric: str | None = None) -> Rows:
        """For every row, the number of the pick or `have` row nearest to it; int64 (n,). One pass, O(n k d) time."""
        from kofn.core.assign import assign

        blocks, rows = items.blocks(metric or self.metric), self._standing(items)
        stands = np.concatenate([rows[labels] for labels, _ in assign(blocks, blocks.take(rows))])
        stands[rows] = rows  # a pick stands for itself, also where another is its duplicate
        return stands

    def weights_from(self, items: Items, *, metric: str | None = None) -> Doubles:
        """Voronoi counts: the total weight of the rows nearest to each pick, `have` rows covering theirs; float64 (k,)."""
        from kofn.core.assign import cell_weights

        blocks, rows = items.blocks(metric or self.metric), self._standing(items)
        return cell_weights(blocks, blocks.take(rows), items.weights, rows)[: len(self)]

    def estimate(self, values: Any) -> Estimate:
        """The mean and total of `values` over all rows that `have` does not hold, unbiased, with a 95 % interval.

        Parameters
        ----------
        values : (k,) numbers or truth values
            Measured on the picks, in pick order.

        Raises
        ------
        UsageError
            When the method is no design: its picks say nothing unbiased about the rest.
        """
        from kofn.core.designs import horvitz_thompson

        if self.inclusion is None:
            raise UsageError(
                f"{self.provenance.get('method', 'this method')} chooses without known chances, so nothing unbiased can be "
                "estimated from its picks; use uniform or sensitivity"
            )
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.shape != (len(self),):
            raise UsageError(
                f"values has shape {numbers.shape}; give one number for each of the {len(self)} picks, in pick order"
            )
        if not np.isfinite(numbers).all():
            raise UsageError(
                f"values holds NaN or infinity, the first at pick {int(np.flatnonzero(~np.isfinite(numbers))[0])}"
            )
        design = self.provenance["design"]
        total, error = horvitz_thompson(numbers, self.inclusion, design["kind"], self.strata)
        n = design["population"]
        mean, error = total / n, error / n
        return Estimate(mean, total, error, (mean - 1.959964 * error, mean + 1.959964 * error), n)

    @property
    def metric(self) -> str:
        """The metric that the method measured with; euclidean where it measured nothing."""
        return str(self.provenance.get("parameters", {}).get("metric") or "euclidean")

    def _standing(self, items: Items) -> Rows:
        if self.provenance.get("n", items.n) != items.n:
            raise UsageError(f"the picks were made among {self.provenance['n']} rows, these items have {items.n}")
        return np.concatenate([self.indices, items.have_rows])


def _shortened(values: Rows) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return f"{shown}, ... {values[-1]}" if len(values) > 8 else shown


def _how(p: dict[str, Any]) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in p.get("parameters", {}).items())
    return f"{settings or 'no parameters'}; {p.get('run', {}).get('mode', 'called directly')}"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
