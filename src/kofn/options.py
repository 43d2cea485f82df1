"""Options of the command line that several commands have, each said once."""

from __future__ import annotations

from typing import Annotated

import typer


def whole(text: str) -> int:
    """A whole number, or an error that says so."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number; give one, such as 2") from None


DATA = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Parquet, Arrow, .npy, CSV, JSONL: file, folder, glob in quotes, or URI.",
        show_default=False,
    ),
]
K = Annotated[
    str, typer.Option("-k", metavar="K", help="How many rows: 1000, or a share such as 1%.", show_default=False)
]
METHOD = Annotated[str, typer.Option(metavar="NAME", help="Name of a method (see: kofn methods), or auto.")]
SET = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the method; repeatable.")
]
EMBEDDING = Annotated[
    str | None,
    typer.Option(metavar="COL", help="Embedding column, or glob of numeric ones ('pca_*'); found by itself."),
]
FEATURES = Annotated[
    str | None,
    typer.Option(metavar="auto|COL,COL", help="Plain columns as vectors; auto by itself without an embedding."),
]
TEXT = Annotated[
    str | None,
    typer.Option(metavar="COL", help="Column of texts to make vectors of (pip install 'kofn[text]')."),
]
MODEL = Annotated[
    str | None,
    typer.Option(metavar="PATH|NAME", help="sentence-transformers model for --text; default all-MiniLM-L6-v2."),
]
CACHE = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Keep rows of files there, for later passes and runs; with --text, its vectors."),
]
CACHE_OF_TEXTS = Annotated[str | None, typer.Option(metavar="DIR", help="With --text: where its vectors are kept.")]
DTYPE = Annotated[
    str | None, typer.Option(metavar="TYPE", help="Numbers in a fixed-size binary embedding: float16, float32, ...")
]
SCORE = Annotated[str | None, typer.Option(metavar="COL", help="Score column; higher means more wanted.")]
GROUP = Annotated[str | None, typer.Option(metavar="COL", help="Group column, to stratify by.")]
GROUP_SHOWN = Annotated[str | None, typer.Option("--group", metavar="COL", help="Group column to report on.")]
LABEL = Annotated[str | None, typer.Option(metavar="COL", help="Label column; only reported on.")]
ID = Annotated[str | None, typer.Option(metavar="COL", help="Column that identifies rows.")]
HAVE = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|COL",
        help="Rows you have already: a file of row numbers or ids, an earlier output, or a column.",
    ),
]
METRIC = Annotated[str | None, typer.Option(metavar="NAME", help="euclidean or cosine; kmedoids has more.")]
SEED = Annotated[int, typer.Option(metavar="N", parser=whole, help="Same seed, same rows: same picks.")]
MEMORY = Annotated[str, typer.Option(metavar="SIZE", help="What the run may use.")]
THREADS = Annotated[
    int | None, typer.Option(metavar="N", parser=whole, help="Threads; all by default. Never changes the picks.")
]
ENGINE = Annotated[
    str, typer.Option(metavar="NAME", help="local, or ray: files are worked on by a cluster, with the same picks.")
]
ADDRESS = Annotated[
    str | None,
    typer.Option(metavar="WHERE", help="With --engine ray: auto (a running cluster), local (a new one), or host:port."),
]
CHECKPOINT = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Keep what is finished: the same command goes on there. Deleted at the end."),
]
INVALID = Annotated[str, typer.Option(metavar="WHAT", help="Rows with NaN, infinity or null: error or drop.")]
SHOW = Annotated[
    str | None, typer.Option(metavar="COL", help="On the page: the column that rows are known by, text or pictures.")
]
LAYOUT = Annotated[str, typer.Option(metavar="HOW", help="On the page: tsne, pca, or two columns as COL,COL.")]
JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON (schema: docs/cli.md).")]
DEBUG = Annotated[bool, typer.Option("--debug", hidden=True, help="Show tracebacks.")]
