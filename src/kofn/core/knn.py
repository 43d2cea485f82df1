"""The nearest other rows of every row, by blocked products that only screen; see `kofn.core.neighbors`."""

from __future__ import annotations

from typing import Any

import numpy as np

from kofn.core.block import Doubles, Floats, Rows, TileRunner, run_serially
from kofn.core.jit import kernel
from kofn.core.neighbors import CHUNK, LANES, PIECE, Graph, Ids, Points, lists_of, local_radii, pair_distances
from kofn.core.products import finite_product
from kofn.core.scratch import scratch


def nearest(points: Points, m: int, runner: TileRunner = run_serially) -> Graph:
    """The m nearest other rows of each row, nearest first, ties to the lowest row number. O(n^2 d) time, 12 n m bytes.

    Parameters
    ----------
    points : Points
        The rows.
    m : int
        From 1 to n - 1.
    """
    n = points.n
    guess, _ = local_radii(points, min(2 * m, n - 1), np.ones(n), runner)
    found = runner(_nearest_of_rows, [(start, points, m, guess) for start in range(0, n, PIECE)])
    ids = np.concatenate([part for part, _ in found])
    distances = np.concatenate([part for _, part in found])
    return Graph(np.arange(n + 1, dtype=np.int64) * m, ids.ravel(), distances.ravel())


def within_own_radius(lists: Graph, runner: TileRunner = run_serially) -> tuple[Graph, Doubles]:
    """Both ends' lists of `nearest` lists, and each row's radius: the distance of its last neighbour.

    The lists hold the pairs nearer than the larger of the two radii, as those of `pairs_within` do.
    """
    n = len(lists.starts) - 1
    radii = lists.distances[lists.starts[1:] - 1].copy()
    first = np.repeat(np.arange(n, dtype=np.int32), np.diff(lists.starts))
    second, distances = lists.ids, lists.distances
    keep = (distances < radii[first]) & ((first < second) | (distances >= radii[second]))
    return lists_of(n, [(first[keep], second[keep], distances[keep])], radii, runner), radii


def _nearest_of_rows(start: int, points: Points, m: int, guess: Floats) -> tuple[Ids, Doubles]:
    """Lists of a piece's rows: first within a guessed radius; rows that find fewer than m look again without one."""
    stop = min(start + PIECE, points.n)
    ids, distances = np.empty((stop - start, m), np.int32), np.empty((stop - start, m))
    which, limits = np.arange(start, stop), guess[start:stop] ** 2
    while len(which):
        near, counts = np.empty((len(which), 4 * m + CHUNK), np.int32), np.zeros(len(which), np.int64)
        own, apart = np.empty((len(which), m), np.int32), np.empty((len(which), m))
        for left in range(0, points.n, CHUNK):
            columns = slice(left, min(left + CHUNK, points.n))
            products = scratch("products", len(which), columns.stop - left)
            finite_product(points.shifted[which], points.shifted[columns].T, out=products)
            _note(products, which, left, np.float32(points.noise), points.squares, limits, near, counts)
            _keep(points.rows, which, m, 4 * m, near, counts, limits, own, apart)
        _keep(points.rows, which, m, 0, near, counts, limits, own, apart)
        done = counts >= m
        ids[which[done] - start], distances[which[done] - start] = own[done], apart[done]
        which = which[~done]
        limits = np.full(len(which), np.inf, np.float32)
    return ids, distances


@kernel
def _note(
    product: Floats, which: Rows, left: int, noise: Any, squares: Floats, limits: Floats, near: Ids, counts: Rows
) -> None:
    """Append to each row's list the columns that may lie within its limit."""
    two = np.float32(2.0)
    for i in range(product.shape[0]):
        p, limit, q, count = product[i], limits[i], squares[which[i]], counts[i]
        for start in range(0, len(p), LANES):
            stop, close = min(start + LANES, len(p)), 0
            if stop - start == LANES:
                for lane in range(LANES):
                    both = q + squares[left + start + lane]
                    close += both - two * p[start + lane] - noise * both <= limit
            if close or stop - start < LANES:
                for j in range(start, stop):
                    both = q + squares[left + j]
                    if both - two * p[j] - noise * both <= limit and left + j != which[i]:
                        near[i, count] = left + j
                        count += 1
        counts[i] = count


@kernel
def _keep(
    rows: Floats, which: Rows, m: int, room: int, near: Ids, counts: Rows, limits: Floats, ids: Ids, distances: Doubles
) -> None:
    """Where a list has outgrown `room`, leave the m nearest in it, in order, and lower its limit to the last of them."""
    for i in range(len(which)):
        count = counts[i]
        if count <= room or count < m:
            continue
        apart = np.empty(count)
        pair_distances(rows, near[i, :count], rows, np.full(count, np.int32(which[i])), apart)
        order = np.argsort(apart, kind="mergesort")[:m]
        for t in range(m):
            ids[i, t] = near[i, order[t]]
            distances[i, t] = apart[order[t]]
        near[i, :m] = ids[i]
        counts[i] = m
        limits[i] = min(limits[i], np.float32(distances[i, m - 1] ** 2))
