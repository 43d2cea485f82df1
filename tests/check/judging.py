"""Small data that everything is measured on, and picks written down."""

import numpy as np

from kofn.check.context import Context
from kofn.items import Items
from kofn.selection import Selection


def judged(x, metric="euclidean"):
    items = Items(embeddings=np.asarray(x, np.float32))
    rows = np.arange(items.n)
    return Context(items, rows, np.asarray(items.blocks(metric).take(rows)), metric)


def chosen(rows, weights=None):
    return Selection(np.array(rows), np.ones(len(rows)) if weights is None else np.array(weights, float))
