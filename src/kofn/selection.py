"""The answer: which rows, how much each counts, and how to get it again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kofn.blocks.tables import take_rows
from kofn.core.block import Doubles, Rows
from kofn.core.labels import sortable
from kofn.errors import UsageError
from kofn.items import Items

if TYPE_CHECKING:
    import pyarrow as pa

    from kofn.core.estimators import Design, Estimate

METADATA_KEY = b"kofn"
COLUMNS = ("kofn_index", "kofn_rank", "kofn_weight", "kofn_inclusion", "kofn_stratum", "kofn_gain")
"""What a written selection adds to the columns of the data, as far as it has them."""

DESIGNS = "uniform, sensitivity, coreset, leverage"
"""The methods with inclusion, for a message; the registry lies above this module."""


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
        made = next((note for note in p.get("notes", []) if note.startswith("features: ")), None)
        lines = [
            f"Selection: {len(self):,} of {p.get('n', 0):,} rows by {p.get('method', 'your method')}, seed {p.get('seed', '-')}",
            f"  rows     {_shortened(self.indices)}",
            f"  weights  {self.weights.min():.6g} to {self.weights.max():.6g}, sum {self.weights.sum():,.6g};"
            f" the heaviest is row {self.indices[heavy]} ({shares[heavy]:.1%})",
            f"  {self._merit()}",
            f"  how      {_how(p)}",
            *([] if made is None else [f"  vectors  {made}"]),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from kofn.card import selection_card

        return selection_card(self)

    def _merit(self) -> str:
        if self.inclusion is not None:
            return f"design   inclusion {self.inclusion.min():.3g} to {self.inclusion.max():.3g}; .estimate(values) is unbiased"
        if self.gains is not None:
            return f"gains    {self.gains[0]:.6g} first, {self.gains[-1]:.6g} last, {self.gains.sum():.6g} in all"
        objective = self.provenance.get("objective")
        if objective:
            return f"merit    {objective['name']} {objective['value']:.6g}"
        return "merit    not measured yet; kofn verify and kofn report do"

    def take(self, data: Any) -> Any:
        """The picked rows of a table or array with n rows, in pick order, of the same type as `data`."""
        return take_rows(data, self.indices, self.provenance.get("n"))

    def to_arrow(self, data: Any = None, *, picked: pa.Table | None = None) -> pa.Table:
        """The picks as an Arrow table: every column of `data` (if given; or of `picked`, its rows that were picked), then
        kofn_index, kofn_rank, kofn_weight and, for designs, kofn_inclusion; the provenance in the schema's metadata under
        "kofn". Columns of these names that the data bring along from an earlier selection are left out."""
        import pyarrow as pa

        from kofn.blocks.tables import as_arrow

        columns: dict[str, Any] = {}
        if data is not None or picked is not None:
            table = as_arrow(self.take(data)) if picked is None else picked
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

    def estimate(
        self, values: Any, *, of: str | None = None, calibrated: bool = False, level: float = 0.95
    ) -> Estimate:
        """The mean, total or share of `values` over all rows that `have` does not hold, with an interval.

        Parameters
        ----------
        values : (k,) numbers or truth values
            Measured on the picks, in pick order.
        of : {"mean", "total", "share"}, optional
            What to conclude. Default: the mean of numbers, the share of truth values that are true.
        calibrated : bool
            Use the known number of rows: not unbiased any more (the bias is of the order 1 / k), but where chances are
            unequal and values hardly vary, much closer. Means and totals; shares are so anyway.
        level : float
            Confidence of the interval.

        Returns
        -------
        Estimate
            Means and totals of uncalibrated estimates are unbiased. O(k) time.

        Raises
        ------
        UsageError
            When the method is no design: its picks say nothing unbiased about the rest.
        """
        from kofn.core.estimators import estimate_ratio, estimate_total

        design = self._design(level)
        numbers = self._measured(values)
        kind = of or ("share" if np.asarray(values).dtype == bool else "mean")
        if kind == "share":
            _check_share(numbers)
            return estimate_ratio(numbers, np.ones(len(self)), design, of="share", level=level)
        if kind not in ("mean", "total"):
            raise UsageError(f"of={of!r} is unknown; use 'mean', 'total' or 'share'")
        return estimate_total(numbers, design, calibrated=calibrated, of=kind, level=level)

    def estimate_by(
        self, values: Any, groups: Any, *, of: str | None = None, level: float = 0.95
    ) -> dict[Any, Estimate]:
        """The mean, or share, of `values` within each group of rows.

        Parameters
        ----------
        values : (k,) numbers or truth values
            Measured on the picks, in pick order.
        groups : (k,) labels
            The group of each pick. Groups without a pick are not known of.
        of : {"mean", "share"}, optional
            As in `estimate`.
        level : float
            Confidence of each interval.

        Returns
        -------
        dict
            Group to Estimate, in the order of the groups; `n` of each is an estimate of the group's size.
        """
        from kofn.core.estimators import estimate_ratio

        design = self._design(level)
        numbers, labels = self._measured(values), sortable(groups)
        if labels.shape != (len(self),):
            raise UsageError(f"groups has shape {labels.shape}; give the group of each of the {len(self)} picks")
        kind = of or ("share" if np.asarray(values).dtype == bool else "mean")
        if kind not in ("mean", "share"):
            raise UsageError(f"of={of!r} is unknown for groups; use 'mean' or 'share'")
        if kind == "share":
            _check_share(numbers)
        names, codes = np.unique(labels, return_inverse=True)
        ones = np.ones(len(self))
        return {
            name: estimate_ratio(numbers, ones, design, of=kind, level=level, within=codes == code)
            for code, name in enumerate(names.tolist())
        }

    def estimate_ratio(self, values: Any, over: Any, *, level: float = 0.95) -> Estimate:
        """The total of `values` over the total of `over`, both over all rows: words a sentence, errors a token.

        Parameters
        ----------
        values, over : (k,) numbers
            Measured on the picks, in pick order.
        level : float
            Confidence of the interval.
        """
        from kofn.core.estimators import estimate_ratio

        design = self._design(level)
        numbers, base = self._measured(values), self._measured(over, "over")
        if not base.any():
            raise UsageError("over is 0 for every pick; a ratio to it does not exist")
        return estimate_ratio(numbers, base, design, of="ratio", level=level)

    def _design(self, level: float) -> Design:
        from kofn.core.estimators import Design

        if self.inclusion is None:
            raise UsageError(
                f"{self.provenance.get('method', 'this method')} chooses without known chances, so nothing unbiased can be "
                f"estimated from its picks; choose with one that has them: {DESIGNS}"
            )
        if not 0 < level < 1:
            raise UsageError(f"level={level} is no confidence; give a number between 0 and 1, such as 0.95")
        known = self.provenance["design"]
        return Design(self.inclusion, known["kind"], self.strata, known["population"])

    def _measured(self, values: Any, name: str = "values") -> Doubles:
        """One finite number for each pick."""
        try:
            numbers = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name} are not numbers ({error}); give one number for each pick") from None
        if numbers.shape != (len(self),):
            raise UsageError(
                f"{name} has shape {numbers.shape}; give one number for each of the {len(self)} picks, in pick order"
            )
        if not np.isfinite(numbers).all():
            first = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise UsageError(f"{name} holds NaN or infinity, the first at pick {first}")
        return numbers

    @property
    def metric(self) -> str:
        """Under which the method looked at the rows: "cosine", or "euclidean" for every other metric and for none."""
        return "cosine" if self.provenance.get("parameters", {}).get("metric") == "cosine" else "euclidean"

    def _standing(self, items: Items) -> Rows:
        if self.provenance.get("n", items.n) != items.n:
            raise UsageError(f"the picks were made among {self.provenance['n']} rows, these items have {items.n}")
        return np.concatenate([self.indices, items.have_rows])


def _check_share(numbers: Doubles) -> None:
    wrong = np.flatnonzero((numbers != 0) & (numbers != 1))
    if len(wrong):
        raise UsageError(
            f"a share is of truth values or 0 and 1, the value of pick {int(wrong[0])} is {numbers[wrong[0]]:g}; "
            "ask for the mean"
        )


def _shortened(values: Rows) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return f"{shown}, ... {values[-1]}" if len(values) > 8 else shown


def _how(p: dict[str, Any]) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in p.get("parameters", {}).items())
    return f"{settings or 'no parameters'}; {p.get('run', {}).get('mode', 'called directly')}"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
