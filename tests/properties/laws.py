"""The laws that every method keeps. Each takes a method and raises AssertionError where it is broken."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import kofn
from kofn import Items, KofnError, Method, Selection
from kofn.core.objectives import OBJECTIVES
from kofn.items import COLUMNS
from kofn.method import door_metric, parameters
from properties.worlds import (
    ROLES,
    Watched,
    World,
    as_bytes,
    blobs,
    choose,
    column_sets,
    gaussian,
    near_ties,
    three_islands,
    through_the_door,
    world,
)  # fmt: skip


@contextmanager
def refused(words: str) -> Iterator[None]:
    """An error that the caller can mend, whose message has these words; nothing less, and no other exception."""
    try:
        yield
    except KofnError as error:
        message = str(error)
    else:
        raise AssertionError(f"accepted, where an error with {words!r} was due")
    assert re.search(words, message), f"the message says nothing of {words!r}: {message}"


def covers(method: Method) -> bool:
    """Whether the method's objective is that every row has a pick near it."""
    return method.objective is not None and OBJECTIVES[method.objective].covers


def merit(method: Method, w: World, rows: Any) -> float:
    """The method's own objective at these rows, higher is better."""
    objective = OBJECTIVES[method.objective or ""]
    blocks = Items(embeddings=w.x).blocks(door_metric(method))
    value = objective.value(blocks, np.asarray(rows), None, w.scores)
    return value if objective.higher_is_better else -value


def assert_picks(selection: Selection, k: int, n: int, have: Any = ()) -> None:
    """k distinct rows in range that nobody has, weights beside them."""
    indices = selection.indices
    assert indices.dtype == np.int64
    assert indices.shape == selection.weights.shape == (k,)
    assert indices.min() >= 0
    assert indices.max() < n
    assert len(set(indices.tolist())) == k
    assert not np.isin(indices, have).any()
    assert np.isfinite(selection.weights).all()
    assert (selection.weights > 0).all()
    for part in (selection.inclusion, selection.gains, selection.strata):
        assert part is None or part.shape == (k,)


def law_1_picks_are_k_distinct_rows(method: Method) -> None:
    w = gaussian(97)
    for columns in column_sets(method):
        items = w.items(method, columns)
        for k in (1, 2, 30, 96):
            assert_picks(choose(method, items, k), k, w.n)
        everything = choose(method, items, w.n)
        assert_picks(everything, w.n, w.n)
        np.testing.assert_allclose(everything.weights.sum(), items.row_weights.sum(), rtol=1e-6)


def law_1_an_impossible_k_is_an_error(method: Method) -> None:
    w = gaussian(40)
    columns = column_sets(method)[0]
    for k in (0, -3, 41, "0%", "120%", 1.0, True, "many"):
        with refused(re.escape(f"k={k}") if not isinstance(k, str) else "k="):
            through_the_door(method, w, columns, k)
    with refused("37"):
        through_the_door(method, w, columns, 38, have=[0, 1, 2])
    assert_picks(through_the_door(method, w, columns, "10%"), 4, w.n)


def law_1_few_distinct_rows_are_filled_by_row_number(method: Method) -> None:
    distinct = np.random.default_rng(3).normal(size=(5, 3)).astype(np.float32)
    kind = np.random.default_rng(4).permutation(np.repeat(np.arange(5), 6))
    w = world(distinct[kind])
    for columns in column_sets(method):
        selection = choose(method, w.items(method, columns), 12)
        assert_picks(selection, 12, w.n)
        if not covers(method):
            continue
        picks = selection.indices.tolist()
        assert set(kind[picks]) == set(range(5)), "a distinct row was left out for a duplicate"
        fills = [row for at, row in enumerate(picks) if kind[row] in kind[picks[:at]]]
        firsts = [row for row in picks if row not in fills]
        assert picks == firsts + fills, "a duplicate was picked before a distinct row"
        assert fills == [row for row in range(w.n) if row not in firsts][:7]
        assert any(re.search(r"\b7\b", note) for note in selection.provenance.get("notes", [])), (
            "nobody says 7 are fills"
        )


def law_2_ties_go_to_the_lowest_row_number(method: Method) -> None:
    once = gaussian(2_101, 6, seed=2)
    twice = once.rows(np.concatenate([np.arange(once.n)] * 2))
    for columns in column_sets(method):
        if method.random or "weights" in columns:
            continue
        rank = {row: at for at, row in enumerate(choose(method, twice.items(method, columns), 40).indices.tolist())}
        for row in rank:
            twin = row - once.n
            assert twin < 0 or rank.get(twin, 99) < rank[row], f"row {row} was picked before its twin {twin}"


def law_2_asking_twice_is_asking_once(method: Method) -> None:
    w, other = gaussian(200), gaussian(150, 7, seed=8)
    for columns in column_sets(method):
        first = as_bytes(choose(method, w.items(method, columns), 20, seed=3))
        choose(method, other.items(method, columns), 11, seed=4)
        assert as_bytes(choose(method, w.items(method, columns), 20, seed=3)) == first
        if method.random:
            seeds = {as_bytes(choose(method, w.items(method, columns), 20, seed=s))["indices"] for s in range(8)}
            assert len(seeds) > 1, "the method calls itself random, and the seed changes nothing"
        else:
            assert as_bytes(choose(method, w.items(method, columns), 20, seed=4)) == first, (
                "not random, yet the seed counts"
            )


def law_3_have_is_never_picked(method: Method) -> None:
    w = gaussian(120)
    have = np.r_[0:40:3, 119]
    for columns in column_sets(method):
        for k in (1, 17, w.n - len(have)):
            assert_picks(choose(method, w.items(method, columns, have=have), k), k, w.n, have)


def law_3_have_counts_as_covered(method: Method) -> None:
    if not covers(method):
        return
    w, island = three_islands()
    have = np.flatnonzero(island == 0)[::6]
    for columns in column_sets(method):
        for seed in range(5):
            picks = choose(method, w.items(method, columns, have=have), 2, seed).indices
            assert set(island[picks]) == {1, 2}, "a pick went to rows that `have` covers"


def law_3_a_smaller_k_is_a_prefix(method: Method) -> None:
    if not method.prefix:
        return
    w = gaussian(160)
    for columns in column_sets(method):
        for have in (None, np.arange(0, 60, 7)):
            items = w.items(method, columns, have=have)
            longest = choose(method, items, 50).indices
            for k in (1, 8, 33, 49):
                np.testing.assert_array_equal(choose(method, items, k).indices, longest[:k])


def law_5_awkward_rows_work(method: Method) -> None:
    base = gaussian(90, 4)
    rows = {
        "duplicates": base.x[np.arange(90) % 31],
        "one value": np.full((90, 3), 2.5, np.float32),
        "constant columns": np.hstack([base.x, np.full((90, 2), 7.0, np.float32)]),
        "one dimension": base.x[:, :1],
        "far from the origin": base.x + 1e4,
        "far from one another": base.x * 1e15,
        "hardly apart": base.x * 1e-15,
        "one far row": np.where(np.arange(90)[:, None] == 50, 1e6, base.x),
        "small integers": np.round(base.x).astype(np.int8),
    }
    cosine = getattr(method, "metric", "") == "cosine"
    for name, x in rows.items():
        if cosine and not np.abs(x).sum(axis=1).all():
            x = x + np.ones_like(x) * 10
        w = base.with_rows(x)
        for columns in column_sets(method)[:1]:
            for k in (1, 13, 90):
                try:
                    selection = choose(method, w.items(method, columns), k)
                    assert_picks(selection, k, w.n)
                    np.testing.assert_allclose(selection.weights.sum(), 90, rtol=1e-6)
                except (AssertionError, KofnError) as error:
                    raise AssertionError(f"{name}, k={k}: {error}") from error


def law_5_type_and_layout_of_an_array_change_nothing(method: Method) -> None:
    half = near_ties(1_500).x.astype(np.float16)
    base = near_ties(1_500).with_rows(half.astype(np.float32))
    wide = np.zeros((3_000, 16), np.float32)
    wide[::2, ::-2] = base.x
    frozen = base.x.copy()
    frozen.flags.writeable = False
    forms = {
        "float16": half,
        "float64": half.astype(np.float64),
        "Fortran order": np.asfortranarray(base.x),
        "strided backwards": wide[::2, ::-2],
        "read-only": frozen,
        "big-endian": half.astype(">f8"),
    }
    for columns in column_sets(method)[:1]:
        expected = as_bytes(choose(method, base.items(method, columns), 25))
        for name, x in forms.items():
            got = as_bytes(choose(method, base.with_rows(x).items(method, columns), 25))
            assert got == expected, f"{name} changes the picks"


def law_5_an_offset_costs_nothing(method: Method) -> None:
    if not covers(method) or getattr(method, "metric", "euclidean") != "euclidean":
        return
    w = blobs()
    w = w.with_rows(0.1 * w.x)
    far = w.with_rows(w.x + np.float32(1e4))
    for columns in column_sets(method)[:1]:
        near_loss, far_loss = (
            np.mean([-merit(method, w, choose(method, each.items(method, columns), 40, s).indices) for s in range(3)])
            for each in (w, far)
        )
        assert far_loss <= 1.3 * near_loss, f"objective {near_loss:g} becomes {far_loss:g} under an offset of 1e4"


def law_5_rows_that_are_no_numbers_are_counted_and_named(method: Method) -> None:
    w, columns = gaussian(5_000, 3), column_sets(method)[0]
    x = w.x.copy()
    x[[4_817, 333, 4_999], [0, 2, 1]] = np.nan, np.inf, -np.inf
    if "embeddings" in method.needs:
        with refused(r"\b3 of 5,?000\b.*row 333\b"):
            through_the_door(method, w.with_rows(x), columns, 10)
        dropped = through_the_door(method, w.with_rows(x), columns, 10, invalid="drop")
        assert_picks(dropped, 10, w.n, have=[333, 4_817, 4_999])
    else:
        undisturbed = through_the_door(method, w.with_rows(x), columns, 10)
        assert as_bytes(undisturbed) == as_bytes(through_the_door(method, w, columns, 10))
    if "scores" in method.needs | method.uses:
        scores = w.scores.copy()
        scores[[4_001, 17]] = np.nan, np.inf
        with refused(r"\b2 of 5,?000\b.*row 17\b"):
            through_the_door(method, dataclasses.replace(w, scores=scores), columns | {"scores"}, 10)


def law_5_sparse_rows_work_or_are_refused(method: Method) -> None:
    from scipy.sparse import csr_matrix

    if "embeddings" not in method.needs:
        return
    w, columns = gaussian(150, 5), column_sets(method)[0]
    dense = np.where(w.x > 0, w.x, 0) + np.eye(150, 5, dtype=np.float32)
    dense[:, 0] += 0.1
    sparse = w.with_rows(csr_matrix(dense))
    if "sparse" in method.accepts:
        assert_picks(through_the_door(method, sparse, columns, 12), 12, w.n)
    else:
        with refused("dense"):
            through_the_door(method, sparse, columns, 12)


def law_6_the_order_of_rows_does_not_matter(method: Method) -> None:
    if method.random:
        return
    w = gaussian(900, 4)
    for columns in column_sets(method):
        there = choose(method, w.items(method, columns), 25).indices
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(w.n)
            here = order[choose(method, w.rows(order).items(method, columns), 25).indices]
            if method.objective is None:
                assert set(here) == set(there)
            else:
                np.testing.assert_allclose(merit(method, w, here), merit(method, w, there), rtol=1e-6)


def law_7_inputs_are_never_modified(method: Method) -> None:
    for columns in column_sets(method):
        w = world(np.random.default_rng(1).normal(size=(80, 4)).astype(np.float32))
        have = np.zeros(80, bool)
        have[::9] = True
        arrays = [w.x, w.scores, w.groups, w.weights, have]
        before = [(array.tobytes(), array.flags.writeable) for array in arrays]
        items = w.items(method, columns, have=have)
        seen = [getattr(items, name) for name in COLUMNS if getattr(items, name) is not None]
        seen_before = [array.tobytes() for array in seen]
        answer = choose(method, items, 9)
        through_the_door(method, w, columns, 9, have=have)
        assert [(array.tobytes(), array.flags.writeable) for array in arrays] == before
        assert [array.tobytes() for array in seen] == seen_before
        for part in (answer.indices, answer.weights, answer.inclusion, answer.gains):
            assert part is None or not any(np.shares_memory(part, array) for array in [*arrays, *seen])


def law_7_a_method_is_equal_to_its_twin_after_select(method: Method) -> None:
    twin = dataclasses.replace(method)
    said = repr(method), hash(method), dict(vars(method)), _class_state(method)
    for columns in column_sets(method):
        choose(method, gaussian(70).items(method, columns), 8)
    assert method == twin
    assert (repr(method), hash(method), dict(vars(method)), _class_state(method)) == said
    assert eval(repr(method), {type(method).__name__: type(method)}) == method
    assert type(method).__dataclass_params__.frozen  # type: ignore[attr-defined]


def _class_state(method: Method) -> dict[str, str]:
    return {name: repr(value) for cls in type(method).__mro__[:-1] for name, value in vars(cls).items()}


def law_9_a_column_that_is_not_named_is_refused_and_not_read(method: Method) -> None:
    w, needed = gaussian(60), column_sets(method)[0]
    for name in sorted({"scores", "groups"} - method.needs - method.uses):
        with refused(name):
            through_the_door(method, w, needed | {name}, 5)
    for name in sorted(needed):
        with refused(name):
            through_the_door(method, w, needed - {name}, 5)
    x = w.x if "embeddings" in method.needs | method.uses else None
    items = Watched(x, np.arange(60), w.groups, w.scores, w.groups, w.weights, np.arange(5), rows=60)
    Watched.asked.clear()
    choose(method, items, 7)
    unsaid = Watched.asked - method.needs - method.uses - {"weights", "have"}
    assert not unsaid, f"reads {sorted(unsaid)} and does not say so"


def law_9_a_column_that_is_read_matters(method: Method) -> None:
    w, needed = gaussian(60), column_sets(method)[0]
    for name in sorted(method.uses & set(ROLES)):
        plain, given = (
            [as_bytes(choose(method, w.items(method, columns), 12, seed)) for seed in range(3)]
            for columns in (needed, needed | {name})
        )
        assert plain != given, f"{name} are read, and change nothing"


def law_9_a_parameter_that_cannot_be_is_an_error(method: Method) -> None:
    for each in parameters(type(method)):
        assert each.metadata.get("doc"), f"{each.name} does not say what it does"
        wrong: list[Any] = [object(), [1]]
        low, high = each.metadata.get("low"), each.metadata.get("high")
        wrong += [] if low is None else [low - 1]
        wrong += [] if high is None else [high + 1]
        wrong += ["no such choice"] if each.metadata.get("choices") else []
        for value in wrong:
            with refused(each.name):
                dataclasses.replace(method, **{each.name: value})


def law_9_a_class_says_what_it_is(method: Method) -> None:
    cls = type(method)
    assert method.needs <= {"embeddings", *COLUMNS}
    assert method.uses <= {"embeddings", *COLUMNS}
    assert not method.needs & method.uses
    assert method.accepts <= {"dense", "sparse", "matrix"}
    assert method.accepts
    assert method.weights in ("count", "design", "equal", "none")
    assert method.objective is None or method.objective in OBJECTIVES
    assert method.summary
    assert cls.__doc__
    assert all(word in cls.__doc__ for word in ("Needs:", "Streams:", "Weights:", "Cost:"))
    for n, d, k in ((1_000, 8, 10), (10**6, 384, 1_000), (10**9, 1_024, 10**6)):
        assert 0 <= method.bytes(n, d, k) <= method.bytes(2 * n, d, k)
        assert method.passes(n, d, k) >= 0
        if method.streams and n >= 10**6:
            assert method.bytes(2 * n, d, k) - method.bytes(n, d, k) <= 32 * n


def law_9_an_unknown_parameter_is_an_error(name: str) -> None:
    """Takes a name, for parameters are read where a method is built."""
    with refused("nonsense"):
        kofn.select(gaussian(30).x, 3, method=name, nonsense=1)


LAWS = [value for name, value in list(globals().items()) if name.startswith("law_") and "unknown_parameter" not in name]
