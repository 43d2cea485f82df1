"""The front function: measure, lay out, write whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from kofn.answer import read_answer
from kofn.blocks import Run
from kofn.blocks.write import check_output, write_whole
from kofn.core.blas import one_blas_thread
from kofn.page.html import prepare
from kofn.page.subject import Subject, read_subject
from kofn.selection import Selection

ENDINGS = (".html",)


def report(
    selection: Selection | str | os.PathLike[str],
    data: Any,
    path: str | os.PathLike[str],
    *,
    label: Any = None,
    group: Any = None,
    id: Any = None,
    have: Any = None,
    embedding: Any = None,
    weight: Any = None,
    show: Any = None,
    layout: Any = "tsne",
    subset: str | None = None,
    force: bool = False,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Write one HTML page that shows what was kept, what was lost, and how many random rows would have done as well.

    The page loads nothing from anywhere, stays under 5 MB, and is the same, byte for byte, for the same selection.

    Parameters
    ----------
    selection : Selection or path
        What `kofn.select` returned, or wrote as .parquet or .arrow.
    data : array, table, path or Items
        What was chosen from; see `kofn.select`. Without embeddings the page has no map and no distances.
    path : str
        Where the page goes; ends in .html.
    label, group, id : str or array (n,), optional
        Columns to report on and to name rows by; by default those that were given to `select`.
    have, embedding, weight : optional
        Only what was given to `select` as an array.
    show : str or array (n,), (n, pixels) or (n, height, width), optional
        What people know rows by: a column of texts, of pictures (PNG, JPEG, GIF, WebP: bytes, paths, or both as Hugging Face
        keeps them) or of grey pixels, height times height. Default: pictures of Hugging Face, else the column of the longest
        texts. Addresses stay texts: nothing is loaded.
    layout : {"tsne", "pca"}, "COL,COL" or array (n, 2)
        Where the map puts rows: k-means centers by exact t-SNE, the two principal components, or two columns of numbers.
    subset : str, optional
        Where the picks were written, for the commands that the page prints.
    force : bool
        Whether a file of this name is written over.
    threads : int, optional
        As many as the process may use, by default. Never changes the page.
    progress : callable, optional
        Called as `progress(stage, done, total)`.

    Raises
    ------
    OutputError
        When the page cannot be written; before anything is measured.
    KofnError
        When the data are not those that were chosen from, or a column must be given again.

    Notes
    -----
    Distances are measured on at most 20,000 rows, chosen by row hash, against 5 random choices of k rows (the method uniform,
    seeds 0 to 5 without the selection's own) and of more and fewer; the page says on how many rows. O(20,000 k d) time; memory:
    the picks' vectors, at most 256 MiB of others, and 4 to 16 bytes a row for each column that is read.

    Examples
    --------
    >>> import kofn, numpy as np, tempfile, os
    >>> x = np.random.default_rng(0).normal(size=(1000, 8))
    >>> page = os.path.join(tempfile.mkdtemp(), "page.html")
    >>> kofn.report(kofn.select(x, k=10, method="kmeans"), x, page)
    >>> os.path.getsize(page) < 5_000_000
    True
    """
    target = os.fspath(path)
    check_output(target, force=force, endings=ENDINGS)
    given = {
        "label": label,
        "group": group,
        "id": id,
        "have": have,
        "embedding": embedding,
        "weight": weight,
        "show": show,
    }
    if not isinstance(selection, Selection):
        subset = subset or os.fspath(selection)
        selection = read_answer(subset).in_rank_order()
    subject = read_subject(selection, data, given, Run(threads, progress))
    prepare()
    look = {"show": show, "layout": None if isinstance(layout, str) and layout == "tsne" else layout}
    with one_blas_thread():
        page = _page(subject, target, subset, look).encode()
    write_whole(target, lambda file: file.write(page), force=force, endings=ENDINGS)


def check_look(data: str, show: str | None, layout: str) -> None:
    """Raise where the data at this path have no such columns. Reads footers; of text files all."""
    from kofn.blocks.dataset import Dataset
    from kofn.page.atlas import LAYOUTS, columns_of
    from kofn.page.faces import find_show

    dataset = Dataset.open(data)
    if show is not None:
        find_show(dataset, show, [], dataset.n)
    for name in [] if layout in LAYOUTS else columns_of(layout):
        dataset.check_column(name, "layout")


def _page(subject: Subject, page: str, out: str | None, look: dict[str, Any]) -> str:
    from kofn.page.atlas import draw_map
    from kofn.page.coverage import measure
    from kofn.page.gallery import choose
    from kofn.page.layout import Findings, lay_page
    from kofn.page.shares import compare, weigh

    layout = "tsne" if look["layout"] is None else look["layout"]
    coverage = measure(subject) if subject.blocks is not None else None
    atlas = draw_map(subject, coverage, layout) if coverage is not None or look["layout"] is not None else None
    weighing = weigh(subject.selection.weights)
    gallery = choose(subject, coverage, equal=weighing.equal)
    drawn = () if atlas is None else (atlas.picks.rows, atlas.held.rows, atlas.whole.rows)
    subject = subject.meeting(gallery.named(subject, coverage), np.concatenate([np.zeros(0, np.int64), *drawn]))
    shares = [compare(subject, each) for each in subject.kinds]
    return lay_page(Findings(subject, coverage, atlas, gallery, weighing, shares, page, out, look))
