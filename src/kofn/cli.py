"""The command line: parses, calls the front door, prints. Results go to stdout, messages to stderr."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from kofn.cli_decode import register
from kofn.options import (
    ADDRESS,
    CACHE,
    CACHE_OF_TEXTS,
    CHECKPOINT,
    DATA,
    DEBUG,
    DTYPE,
    EMBEDDING,
    ENGINE,
    FEATURES,
    GROUP,
    GROUP_SHOWN,
    HAVE,
    ID,
    INVALID,
    JSON,
    LABEL,
    LAYOUT,
    MEMORY,
    METHOD,
    METRIC,
    MODEL,
    SCORE,
    SEED,
    SET,
    SHOW,
    TEXT,
    THREADS,
    K,
    whole,
)

app = typer.Typer(
    name="kofn",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: half the time, and it fits 80 columns
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Keep k of n: choose the rows of a table that stand for the whole, with their weights, and check the answer.

Example: kofn select data.parquet -k 1000 --out subset.parquet

DATA is a Parquet, Arrow IPC, .npy, CSV or JSONL file, a folder, a glob in quotes, or a URI (s3://, gs://, ...).""",
)


def _print_version(asked: bool) -> None:
    if asked:
        from kofn.version import __version__

        typer.echo(f"kofn {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Shared options."""


@app.command()
def select(
    data: DATA,
    k: K,
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Where the picks go: .parquet, .arrow, .csv, .jsonl, .npy.", show_default=False
        ),
    ],
    method: METHOD = "auto",
    settings: SET = None,
    embedding: EMBEDDING = None,
    features: FEATURES = None,
    text: TEXT = None,
    model: MODEL = None,
    cache: CACHE = None,
    dtype: DTYPE = None,
    score: SCORE = None,
    group: GROUP = None,
    label: LABEL = None,
    id: ID = None,
    have: HAVE = None,
    metric: METRIC = None,
    seed: SEED = 0,
    memory: MEMORY = "2GiB",
    threads: THREADS = None,
    engine: ENGINE = "local",
    address: ADDRESS = None,
    checkpoint: CHECKPOINT = None,
    order: Annotated[
        str, typer.Option(metavar="HOW", help="Order of the output's rows: rank (as picked) or input.")
    ] = "rank",
    invalid: INVALID = "error",
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write a page that shows what was kept and lost: .html.")
    ] = None,
    show: SHOW = None,
    layout: LAYOUT = "tsne",
    as_json: JSON = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
    debug: DEBUG = False,
) -> None:
    """Choose k rows and write them with their weights.

    Example: kofn select embeddings.parquet -k 1% --method kmeans --out subset.parquet
    """
    from kofn.commands import run_select

    run_select(
        data, k, out=out, method=method, settings=settings or [], order=order, page=report, as_json=as_json, force=force,
        embedding=embedding, features=features, text=text, model=model, cache=cache, dtype=dtype, score=score, group=group,
        label=label, id=id, have=have, metric=metric, seed=seed, memory=memory, threads=threads, invalid=invalid,
        engine=engine, address=address, checkpoint=checkpoint, show=show, layout=layout,
    )  # fmt: skip


@app.command()
def compare(
    data: DATA,
    k: Annotated[
        str,
        typer.Option("-k", metavar="K,K,...", help="How many rows: 100,300,1000 or shares: 1%,5%.", show_default=False),
    ],
    methods: Annotated[
        str | None, typer.Option(metavar="A,B|all", help="Names of methods, or all; a few that suit by default.")
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", parser=whole, help="Runs of every method that draws.")] = 5,
    embedding: EMBEDDING = None,
    features: FEATURES = None,
    text: TEXT = None,
    model: MODEL = None,
    cache: CACHE_OF_TEXTS = None,
    dtype: DTYPE = None,
    label: Annotated[
        str | None, typer.Option(metavar="COL", help="Label column: adds label metrics and probes on rows set aside.")
    ] = None,
    score: SCORE = None,
    metric: METRIC = None,
    memory: MEMORY = "2GiB",
    threads: THREADS = None,
    invalid: INVALID = "error",
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write every run: .parquet, .arrow, .csv, .jsonl.")
    ] = None,
    report: Annotated[str | None, typer.Option(metavar="FILE", help="Also write a page: .html.")] = None,
    as_json: JSON = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the outputs.")] = False,
    debug: DEBUG = False,
) -> None:
    """Compare methods on your data, beside random rows and all rows.

    Ends with how many rows each of them needs.

    Example: kofn compare embeddings.parquet -k 100,300,1000 --label class
    """
    from kofn.commands_compare import run_compare

    run_compare(
        data, k, methods=methods, seeds=seeds, out=out, page=report, as_json=as_json, force=force, embedding=embedding,
        features=features, text=text, model=model, cache=cache, dtype=dtype, label=label, score=score, metric=metric,
        memory=memory, threads=threads, invalid=invalid,
    )  # fmt: skip


@app.command()
def estimate(
    subset: Annotated[
        str,
        typer.Argument(metavar="SUBSET", help="What kofn select wrote: .parquet or .arrow.", show_default=False),
    ],
    value: Annotated[
        str,
        typer.Option(metavar="COL", help="What you measured on the picks: numbers, true/false.", show_default=False),
    ],
    by: Annotated[str | None, typer.Option(metavar="COL", help="Also an estimate for each group.")] = None,
    over: Annotated[str | None, typer.Option(metavar="COL", help="Ratio of the total to this column's total.")] = None,
    of: Annotated[str | None, typer.Option(metavar="WHAT", help="mean, total or share; by the column's kind.")] = None,
    values: Annotated[
        str | None, typer.Option(metavar="FILE", help="File with kofn_index and the columns, measured on a copy.")
    ] = None,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Use the known number of rows: closer, not quite unbiased.")
    ] = False,
    level: Annotated[float, typer.Option(metavar="P", help="Confidence of the interval.")] = 0.95,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Conclude a number about all rows from the picks.

    With its interval; for picks of uniform and sensitivity, whose chances are known.

    Example: kofn estimate subset.parquet --value correct --by language
    """
    from kofn.commands_estimate import run_estimate

    run_estimate(
        subset, value, by=by, over=over, of=of, values=values, calibrated=calibrated, level=level, as_json=as_json
    )


@app.command()
def report(
    subset: Annotated[
        str,
        typer.Argument(metavar="SUBSET", help="What kofn select wrote: .parquet or .arrow.", show_default=False),
    ],
    data: DATA,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the page goes: .html.", show_default=False)],
    show: SHOW = None,
    layout: LAYOUT = "tsne",
    label: LABEL = None,
    group: GROUP_SHOWN = None,
    id: ID = None,
    have: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the file of rows you had lies, if it has moved.")
    ] = None,
    threads: THREADS = None,
    as_json: JSON = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the page.")] = False,
    debug: DEBUG = False,
) -> None:
    """Show a written selection: what was kept and what was lost.

    One HTML page that holds all it shows.

    Example: kofn report subset.parquet data.parquet --out page.html
    """
    from kofn.commands_report import run_report

    run_report(
        subset, data, out=out, show=show, layout=layout, as_json=as_json, force=force, label=label, group=group, id=id,
        have=have, threads=threads,
    )  # fmt: skip


@app.command()
def plan(
    data: DATA,
    k: K,
    method: METHOD = "auto",
    settings: SET = None,
    embedding: EMBEDDING = None,
    features: FEATURES = None,
    cache: CACHE = None,
    dtype: DTYPE = None,
    score: SCORE = None,
    group: GROUP = None,
    label: LABEL = None,
    id: ID = None,
    have: HAVE = None,
    metric: METRIC = None,
    seed: SEED = 0,
    memory: MEMORY = "2GiB",
    threads: THREADS = None,
    engine: ENGINE = "local",
    invalid: INVALID = "error",
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Say what a selection would read, hold and take.

    All checks of kofn select are made, a few rows are tried, nothing is written.

    Example: kofn plan embeddings.parquet -k 1% --method kmeans
    """
    from kofn.commands_plan import run_plan

    run_plan(
        data, k, method=method, settings=settings or [], as_json=as_json, embedding=embedding, features=features, cache=cache,
        dtype=dtype, score=score, group=group, label=label, id=id, have=have, metric=metric, seed=seed, memory=memory,
        threads=threads, engine=engine, invalid=invalid,
    )  # fmt: skip


@app.command()
def inspect(
    data: DATA,
    embedding: EMBEDDING = None,
    dtype: DTYPE = None,
    threads: THREADS = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Look at the data: columns, embedding, invalid and repeated rows.

    Ends with a command to run. Reads the embedding once.

    Example: kofn inspect embeddings.parquet
    """
    from kofn.commands_plan import run_inspect

    run_inspect(data, as_json=as_json, embedding=embedding, dtype=dtype, threads=threads)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One method, in full.", show_default=False)] = None,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print BibTeX entries.")] = False,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """List the methods, or show one in full.

    In full: its idea, guarantee, parameters and paper.
    """
    from kofn.commands import run_methods

    run_methods(name, bibtex=bibtex, as_json=as_json)


@app.command()
def demo(
    force: Annotated[bool, typer.Option("--force", help="Write ./kofn-demo again.")] = False,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """See it work: 50 of 1,797 digits, compared with random choice. Writes ./kofn-demo."""
    from kofn.demo import run_demo

    run_demo(force=force, as_json=as_json)


@app.command()
def verify(
    subset: Annotated[
        str,
        typer.Argument(metavar="SUBSET", help="What kofn select wrote: .parquet or .arrow.", show_default=False),
    ],
    data: DATA,
    rerun: Annotated[bool, typer.Option("--rerun", help="Choose again and compare bit for bit.")] = False,
    have: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the file of rows you had lies, if it has moved.")
    ] = None,
    threads: THREADS = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Check a written selection against the data.

    Its rows, its value and, with --rerun, the whole run again.

    Example: kofn verify subset.parquet embeddings.parquet --rerun
    """
    from kofn.commands_verify import run_verify

    run_verify(subset, data, rerun=rerun, as_json=as_json, have=have, threads=threads)


register(app)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code: 0 ok, 2 wrong usage or bad input, 1 a fault of ours, 130 Ctrl-C."""
    from kofn.errors import KofnError, Stopped

    given = sys.argv[1:] if argv is None else argv
    try:
        if app(given, prog_name="kofn", standalone_mode=False) == 130:  # typer's way to say Ctrl-C
            return _say("stopped; nothing was written", 130)
    except KofnError as error:
        if "--debug" in given:
            raise
        return _say(f"error: {error}", 2)
    except Stopped as stopped:
        return _say(f"stopped; {stopped}", 130)
    except KeyboardInterrupt:
        return _say("stopped; nothing was written", 130)
    except BrokenPipeError:
        return 1
    except Exception as error:
        return _other(error, debug="--debug" in given)
    return 0


def _other(error: Exception, *, debug: bool) -> int:
    usage: Any = getattr(error, "format_message", None)
    command: Any = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # a bare `kofn`
        return _say(command.get_help(), 2)
    if usage is not None:  # click's own: wrong option, missing argument
        return _say(f"error: {usage()} (see: {'kofn' if command is None else command.command_path} --help)", 2)
    if type(error).__name__ == "Abort":
        return _say("stopped; nothing was written", 130)
    if debug:
        raise error
    return _say(
        f"fault: {type(error).__name__}: {error}\nThis is a mistake in kofn; run again with --debug and report it.", 1
    )


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def entry() -> None:
    """The console script."""
    sys.exit(main())
