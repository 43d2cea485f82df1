"""What `kofn tokens`, `kofn rules` and `kofn generate` do once their arguments are parsed."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from kofn.errors import ParameterError, UsageError

if TYPE_CHECKING:
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
    from kofn.decode.rules.parse import parse_rule

    if top < 1:
        raise ParameterError(f"--top {top} shows nothing; give at least 1")
    parsed = [parse_rule(text) for text in rules]
    heats = _numbers(temperatures)
    reader, tokenizer = _load(model, dtype)
    logits, _ = reader.start([_encoded(tokenizer, prompt)])
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
    from kofn.decode.table import RULES, rule_class

    rows = []
    for word in RULES:
        cls = rule_class(word)
        names = [f"{each.name}={each.default}" for each in inspect.signature(cls).parameters.values()][1:]
        idea = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
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
    rule: str | None,
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

    chosen = _decoder(decoder, rule, settings, text_of)  # before the model is loaded: a slip is said at once
    takes_seed = "seed" in inspect.signature(chosen.generate).parameters
    reader, tokenizer = _load(model, dtype)
    with Progress() as progress:
        counting = watched(reader, lambda done: progress("tokens", min(done, length), length))
        chance = {"seed": seed} if takes_seed else {}
        found = chosen.generate(counting, _encoded(tokenizer, prompt), n, length=length, **chance)
    texts = found.texts(text_of)
    if as_json:
        print(json.dumps(_as_dict(found, texts, chosen, seed if takes_seed else None), indent=2, ensure_ascii=False))
        return
    _print_generations(found, texts)


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


def _decoder(name: str, rule: str | None, settings: list[str], text_of: Callable[[list[int]], str]) -> Any:
    from kofn.decode.rules.parse import parse_rule, value_of
    from kofn.decode.table import decoder_class

    cls = decoder_class(name)
    known = list(inspect.signature(cls).parameters)
    given: dict[str, Any] = {}
    if rule is not None:
        if "rule" not in known:
            raise UsageError(f"decoder {name} takes no rule; leave --rule out, or take --decoder sample")
        given["rule"] = parse_rule(rule)
    for setting in settings:
        key, equals, value = (part.strip() for part in setting.partition("="))
        if not equals or key not in known:
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
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("#", justify="right", style="dim")
    shown.add_column("token", no_wrap=True, max_width=24)
    shown.add_column("chance", justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True, style="cyan", min_width=_BAR)
    for rule in rules:
        shown.add_column(Text(rule.replace("|", "|\n")), justify="right", no_wrap=True)
    highest = table.probabilities[0]
    for rank, (token, p) in enumerate(zip(table.tokens.tolist(), table.probabilities, strict=True), 1):
        cells = [_cell(cut.chances.get(token), rank, cut.last) for cut in table.cuts]
        shown.add_row(str(rank), Text(repr(text_of(token))[1:-1]), percent(p), bar(p / highest), *cells)
    rest = [cut.size - len(cut.chances) for cut in table.cuts]
    if any(rest):
        shown.add_row("", "", "", "", *(f"+ {more:,}" if more else "" for more in rest), style="dim")
    if rules:
        shown.add_section()
        shown.add_row("", "kept tokens", "", "", *(f"{cut.size:,}" for cut in table.cuts), style="bold")
        shown.add_row("", "kept mass", "", "", *(percent(cut.mass) for cut in table.cuts), style="bold")
    console = Console()
    console.print(
        f"temperature {table.temperature:g}: entropy {table.entropy / math.log(2):.2f} bits, as uncertain as "
        f"{math.exp(table.entropy):,.1f} equally likely tokens",
        highlight=False,
    )
    console.print(shown)


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


def bar(share: float) -> str:
    """A bar of eighths of characters."""
    eighths = max(1, round(share * _BAR * 8))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _print_generations(found: Generations, texts: Sequence[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for number, (text, tokens) in enumerate(zip(texts, found.tokens, strict=True), 1):
        logprob = float(found.logprobs[number - 1])
        bits = -logprob / math.log(2) / max(len(tokens), 1)
        ended = "ended" if found.finished[number - 1] else "cut off"
        line = f"{number}  log-probability {logprob:.4f}, {bits:.2f} bits a token, {len(tokens)} tokens, {ended}"
        if found.inclusion is not None:
            line += f", inclusion {float(found.inclusion[number - 1]):.3g}"
        console.print(Text(line, style="bold"))
        console.print(Text(text))
        console.print()
    console.print(
        f"{len(found)} sequences, {sum(map(len, found.tokens)):,} tokens, {found.passes} passes of the model",
        style="dim",
        highlight=False,
    )


def _as_dict(found: Generations, texts: Sequence[str], decoder: Any, seed: int | None) -> dict[str, Any]:
    inclusion = [None] * len(found) if found.inclusion is None else found.inclusion.tolist()
    return {
        "decoder": repr(decoder),
        "seed": seed,
        "passes": found.passes,
        "rows": found.rows,
        "sequences": [
            {
                "text": text,
                "tokens": tokens.tolist(),
                "logprob": float(logprob),
                "finished": bool(finished),
                "inclusion": chance,
            }
            for text, tokens, logprob, finished, chance in zip(
                texts, found.tokens, found.logprobs, found.finished, inclusion, strict=True
            )
        ],
    }
