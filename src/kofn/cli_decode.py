"""The command line of `kofn.decode`: tokens, rules, generate."""

from __future__ import annotations

from typing import Annotated

import typer

from kofn.options import DEBUG, JSON, whole

PROMPT = Annotated[
    str, typer.Argument(metavar="PROMPT", help="The text to go on from; - reads it from stdin.", show_default=False)
]
MODEL = Annotated[
    str, typer.Option(metavar="PATH", help="Folder of a transformers model (pip install 'kofn[decode]').")
]
DTYPE = Annotated[str, typer.Option(metavar="TYPE", help="Precision of the weights: float32, bfloat16, float16.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(tokens)
    app.command()(rules)
    app.command()(generate)


def tokens(
    prompt: PROMPT,
    model: MODEL,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="topp=0.9, minp=0.1, ... (see: kofn rules); repeatable.")
    ] = None,
    temperature: Annotated[str, typer.Option(metavar="T,T,...", help="Divide the logits first; a table each.")] = "1",
    top: Annotated[int, typer.Option(metavar="N", parser=whole, help="Tokens to show.")] = 20,
    dtype: DTYPE = "float32",
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Show a model's next tokens and where each rule cuts them.

    Example: kofn tokens "The capital of France is" --model ./gemma --rule topp=0.9 --rule minp=0.1
    """
    from kofn.commands_decode import run_tokens

    run_tokens(prompt, model=model, rules=rule or [], temperatures=temperature, top=top, dtype=dtype, as_json=as_json)


def rules(as_json: JSON = False, debug: DEBUG = False) -> None:
    """List the rules that say which next tokens may be emitted."""
    from kofn.commands_decode import run_rules

    run_rules(as_json=as_json)


def generate(
    prompt: PROMPT,
    model: MODEL,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="Rules from left to right: 'minp=0.1|temp=1.5'.")
    ] = None,
    n: Annotated[int, typer.Option("--n", metavar="N", parser=whole, help="Sequences.")] = 1,
    length: Annotated[int, typer.Option(metavar="N", parser=whole, help="Most tokens of a sequence.")] = 64,
    seed: Annotated[int, typer.Option(metavar="N", parser=whole, help="Same seed: same sequences.")] = 0,
    decoder: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="sample, greedy, beam, diverse-beam, stochastic-beam, poisson-beam, arithmetic, priority, superposed, "
            "contrastive.",
        ),
    ] = "sample",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the decoder; repeatable.")
    ] = None,
    dtype: DTYPE = "float32",
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Generate several continuations, with their log-probabilities.

    Example: kofn generate "Once upon a time" --model ./gemma --rule "minp=0.1|temp=1.5" --n 8
    """
    from kofn.commands_decode import run_generate

    run_generate(
        prompt, model=model, rules=rule or [], decoder=decoder, settings=settings or [], n=n, length=length, seed=seed,
        dtype=dtype, as_json=as_json,
    )  # fmt: skip
