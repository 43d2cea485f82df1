"""What `kofn tokens`, `kofn rules` and `kofn generate` do once their arguments are parsed."""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from copy import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kofn.errors import ParameterError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from kofn.decode.model import Generations
    from kofn.decode.nexttokens import NextTokens

_BAR = 16  # characters of the longest bar
_PASSES = (
    "start", "next_logits", "all_logits", "start_with_hidden", "next_with_hidden", "next_logits_of_embeddings",
)  # fmt: skip
"""What runs a model of transformers once."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def run_tokens(
    prompt: str, *, model: str, rules: list[str], temperatures: str, top: int, dtype: str, as_json: bool
) -> None:
    """`kofn tokens`: a table for each temperature."""
    from kofn.decode.nexttokens import next_tokens

    if top < 1:
        raise ParameterError(f"--top {top} shows nothing; give at least 1")
    parsed = [_rule(text) for text in rules]
    heats = _numbers(temperatures)
    text = _prompt(prompt)
    reader, tokenizer = _load(model, dtype)
    logits, _ = reader.start([_encoded(tokenizer, text)])
    tables = [next_tokens(logits[0], parsed, temperature=heat, shown=top) for heat in heats]

    def text_of(token: int) -> str:
        return str(tokenizer.decode([token]))

    if as_json:
        print(json.dumps([table.as_dict(text_of, rules) for table in tables], indent=2, ensure_ascii=False))
        return
    for number, table in enumerate(tables):
        if number:
            print()
        _print_tokens(table, rules, text_of)


def run_rules(*, as_json: bool) -> None:
    """`kofn rules`: each rule, how it is written, and what it keeps."""
    from kofn.decode.rules.parse import EXAMPLES
    from kofn.decode.table import COMPARING, RULES, rule_class

    rows = []
    for word in RULES:
        cls = rule_class(word)
        parameters = list(inspect.signature(cls).parameters.values())[1:]
        names = [each.name if each.default is each.empty else f"{each.name}={each.default}" for each in parameters]
        idea = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
        idea += " In Python only: it compares two rows." if word in COMPARING else ""
        rows.append({"rule": word, "class": cls.__name__, "example": EXAMPLES[word], "more": names, "idea": idea})
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("written", no_wrap=True, style="cyan")
    table.add_column("what it does")
    for row in rows:
        table.add_row(str(row["example"]), Text(str(row["idea"])))
    console = Console()
    console.print(table)
    console.print("\nRules are composed from left to right: --rule 'temp=1.5|minp=0.1'. More parameters after commas:")
    console.print("--rule 'topp=0.9,min_keep=2'. In Python: from kofn.decode import TopP, MinP; TopP(0.9) | MinP(0.1)")


def run_generate(
    prompt: str,
    *,
    model: str,
    rules: list[str],
    decoder: str,
    settings: list[str],
    n: int,
    length: int,
    seed: int,
    dtype: str,
    as_json: bool,
) -> None:
    """`kofn generate`: n continuations with their log-probabilities."""
    from kofn.progress import Progress

    def text_of(tokens: list[int]) -> str:
        return str(tokenizer.decode(tokens, skip_special_tokens=True))

    chosen = _decoder(decoder, rules, settings, text_of)  # before the model is loaded: a slip is said at once
    takes_seed = "seed" in inspect.signature(chosen.generate).parameters
    text = _prompt(prompt)
    reader, tokenizer = _load(model, dtype)
    with Progress() as progress:
        counting = watched(reader, lambda done: progress("tokens", min(done, length), length))
        chance = {"seed": seed} if takes_seed else {}
        found = chosen.generate(counting, _encoded(tokenizer, text), n, length=length, **chance)
    texts = found.texts(text_of)
    if as_json:
        about = {"prompt": text, "model": model, "decoder": repr(chosen), "seed": seed if takes_seed else None}
        print(json.dumps(about | _as_dict(found, texts), indent=2, ensure_ascii=False))
        return
    _print_generations(found, texts, asked=n, ruled=bool(rules))


def watched(model: Any, tell: Callable[[int], None]) -> Any:
    """A copy of a language model that says after each pass how many it has made; the network itself is shared."""
    own = copy(model)
    passes = 0

    def counted(run: Callable[..., Any]) -> Callable[..., Any]:
        def told(*args: Any, **kwargs: Any) -> Any:
            nonlocal passes
            answer = run(*args, **kwargs)
            passes += 1
            tell(passes)
            return answer

        return told

    for name in _PASSES:
        if hasattr(model, name):
            setattr(own, name, counted(getattr(model, name)))
    return own


def _prompt(given: str) -> str:
    """The prompt, or what stdin holds where it is a dash, without the newline that ends a file."""
    return sys.stdin.read().removesuffix("\n") if given == "-" else given


def _rule(text: str) -> Any:
    """The rule that a text spells, if the command line can give it all that it looks at."""
    from kofn.decode.rules.parse import parse_rule
    from kofn.decode.table import COMPARING, rule_class

    rule = parse_rule(text)
    for word in COMPARING:
        if any(isinstance(each, rule_class(word)) for each in getattr(rule, "rules", [rule])):
            raise UsageError(f"{word} compares two rows of logits, and a prompt gives one; it is for Python (beside=)")
    return rule


def _decoder(name: str, rules: list[str], settings: list[str], text_of: Callable[[list[int]], str]) -> Any:
    from kofn.decode.rules.parse import value_of
    from kofn.decode.table import decoder_class

    cls = decoder_class(name)
    known = list(inspect.signature(cls).parameters)
    given: dict[str, Any] = {}
    if len(rules) > 1:
        raise UsageError(f"--rule is given {len(rules)} times; write the rules from left to right: {'|'.join(rules)!r}")
    if rules:
        if "rule" not in known:
            raise UsageError(f"decoder {name} takes no rule; leave --rule out, or take --decoder sample")
        given["rule"] = _rule(rules[0])
    for setting in settings:
        key, equals, value = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ParameterError(f"--set {setting} has no value; write --set {key}=VALUE")
        if key not in known:
            raise ParameterError(f"{name} has no parameter {key!r}; it takes {', '.join(known) or 'none'}")
        given[key] = value_of(value)
    if "pattern" in given:
        given |= {"pattern": str(given["pattern"]), "decode": text_of}
    return cls(**given)


def _load(path: str, dtype: str) -> Any:
    from kofn.decode.transformers_model import load

    return load(path, dtype=dtype)


def _encoded(tokenizer: Any, prompt: str) -> list[int]:
    tokens = tokenizer(prompt).input_ids
    if not tokens:
        raise UsageError("the prompt is empty and the tokenizer adds no first token; write a word at least")
    return [int(token) for token in tokens]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ParameterError(f"--temperature {text!r} is no list of numbers; write for example 0.7,1,1.5") from None


def _print_tokens(table: NextTokens, rules: Sequence[str], text_of: Callable[[int], str]) -> None:
    """As wide as the screen; a narrow one gets shorter bars, then none, then several tables with some rules each."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=max(console.width, _width(console, _token_table(table, rules, 0, text_of, _BAR))))
    console.print(
        f"temperature {table.temperature:g}: entropy {table.entropy / math.log(2):.2f} bits, as uncertain as "
        f"{math.exp(table.entropy):,.1f} equally likely tokens",
        highlight=False,
    )
    for number, shown in enumerate(_tables(console, table, rules, text_of)):
        if number:
            console.print()
        console.print(shown)


def _tables(
    console: Console, table: NextTokens, rules: Sequence[str], text_of: Callable[[int], str]
) -> Sequence[Table]:
    """The fewest tables that fit, rules shared out evenly among them, with the longest bars for which there is room."""
    for parts in range(1, max(len(rules), 1) + 1):
        edges = [part * len(rules) // parts for part in range(parts + 1)]
        for length in (_BAR, _BAR // 2, 0):
            made = [_token_table(table, rules[a:b], a, text_of, length) for a, b in pairwise(edges)]
            if all(_width(console, each) <= console.width for each in made):
                return made
    return made


def _width(console: Console, table: Table) -> int:
    """Characters that the table takes where nothing limits it."""
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def _token_table(
    table: NextTokens, rules: Sequence[str], first: int, text_of: Callable[[int], str], length: int
) -> Table:
    """The tokens, their chances with bars of `length`, and a column for each of these rules, of which `first` is one."""
    from rich.table import Table
    from rich.text import Text

    cuts = table.cuts[first : first + len(rules)]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("#", justify="right", style="dim", no_wrap=True)
    shown.add_column("token", no_wrap=True, max_width=24)
    shown.add_column("chance", justify="right", no_wrap=True)
    if length:
        shown.add_column("", no_wrap=True, style="cyan", min_width=length)
    blank = [""] if length else []
    for rule in rules:
        shown.add_column(Text(rule.replace("|", "|\n")), justify="right", no_wrap=True)
    highest = table.probabilities[0]
    for rank, (token, p) in enumerate(zip(table.tokens.tolist(), table.probabilities, strict=True), 1):
        cells = [_cell(cut.chances.get(token), rank, cut.last) for cut in cuts]
        bars = [bar(p / highest, length)] if length else []
        shown.add_row(str(rank), Text(repr(text_of(token))[1:-1]), percent(p), *bars, *cells)
    rest = [cut.size - len(cut.chances) for cut in cuts]
    if any(rest):
        shown.add_row("", "", "", *blank, *(f"+ {more:,}" if more else "" for more in rest), style="dim")
    if rules:
        shown.add_section()
        shown.add_row("", "kept tokens", "", *blank, *(f"{cut.size:,}" for cut in cuts), style="bold")
        shown.add_row("", "kept mass", "", *blank, *(percent(cut.mass) for cut in cuts), style="bold")
    return shown


def _cell(chance: float | None, rank: int, last: int) -> str:
    """A chance, a dot for a token left out among those kept, and a line below the last that is kept."""
    if chance is not None:
        return percent(chance)
    return "·" if rank < last else "──────" if rank == last + 1 else ""


def percent(p: float) -> str:
    """A share with three digits that count: 12.3 %, 0.0123 %; 100 % only where nothing is missing."""
    if p == 0:
        return "0 %"
    value = 100 * p
    if p < 1 and value >= 99.95:
        return f"{math.floor(value * 1e4) / 1e4:.4f} %" if value < 99.9999 else "> 99.9999 %"
    if value < 1e-4:
        return f"{value:.0e} %"
    return f"{value:.{max(0, min(4, 2 - math.floor(math.log10(value))))}f} %"


def bar(share: float, length: int = _BAR) -> str:
    """A bar of eighths of characters."""
    eighths = max(1, round(share * length * 8))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _print_generations(found: Generations, texts: Sequence[str], *, asked: int, ruled: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    own = _own_logprobs(found)
    for number, (text, tokens) in enumerate(zip(texts, found.tokens, strict=True), 1):
        logprob = float(found.logprobs[number - 1])
        bits = -logprob / math.log(2) / max(len(tokens), 1)
        ended = "ended" if found.finished[number - 1] else "cut off"
        line = f"{number}  log-probability {logprob:.4f}{' after the rule' if ruled else ''}, "
        line += f"{own[number - 1]:.4f} before" if ruled and own is not None else f"{bits:.2f} bits a token"
        line += f"; {len(tokens)} tokens, {ended}"
        if found.inclusion is not None:
            line += f", inclusion {float(found.inclusion[number - 1]):.3g}"
        console.print(Text(line, style="bold"))
        console.print(Text(text))
        console.print()
    several = (
        f"{len(found)} sequences" if len(found) == asked else f"{len(found)} of {asked} sequences: there are no more"
    )
    console.print(
        f"{several}, {sum(map(len, found.tokens)):,} tokens, {found.passes} passes of the model",
        style="dim",
        highlight=False,
    )


def _own_logprobs(found: Generations) -> list[float] | None:
    """Log-probabilities under the model itself, whatever the rule, where the decoder has noted them."""
    noted = found.details.get("model_token_logprobs")
    return None if noted is None else [math.fsum(each) for each in noted]


def _as_dict(found: Generations, texts: Sequence[str]) -> dict[str, Any]:
    nothing = [None] * len(found)
    inclusion = nothing if found.inclusion is None else found.inclusion.tolist()
    columns = zip(
        texts, found.tokens, found.logprobs, _own_logprobs(found) or nothing, found.finished, inclusion, strict=True
    )
    return {
        "passes": found.passes,
        "rows": found.rows,
        "sequences": [
            {
                "text": text,
                "tokens": tokens.tolist(),
                "logprob": float(logprob),
                "model_logprob": own,
                "finished": bool(finished),
                "inclusion": chance,
            }
            for text, tokens, logprob, own, finished, chance in columns
        ],
    }
