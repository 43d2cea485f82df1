"""The tables of rules and decoders: a word on the command line, and where its class is."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from kofn.errors import UsageError

RULES = {
    "topk": "topk:TopK",
    "topp": "topp:TopP",
    "minp": "minp:MinP",
    "typical": "typical:Typical",
    "epsilon": "epsilon:Epsilon",
    "eta": "eta:Eta",
    "topnsigma": "topnsigma:TopNSigma",
    "toph": "toph:TopH",
    "bregman": "bregman:Bregman",
    "temp": "temperature:Temperature",
    "klguided": "klguided:KLGuidedTemperature",
    "knnlm": "knnlm:KNNLM",
    "mirostat": "mirostat:Mirostat",
    "selfterminating": "selfterminating:SelfTerminating",
}
"""Every rule: its word on the command line, its module in this folder and its class."""

COMPARING = ("klguided", "knnlm")
"""Rules that compare a row with a second one, which only Python can give them."""

DECODERS = {
    "sample": "sampling:Sampling",
    "greedy": "sampling:Greedy",
    "beam": "beam:Beam",
    "diverse-beam": "diversebeam:DiverseBeam",
    "stochastic-beam": "stochasticbeam:StochasticBeam",
    "poisson-beam": "conditionalpoissonbeam:ConditionalPoissonBeam",
    "arithmetic": "arithmetic:ArithmeticSampling",
    "priority": "priority:PrioritySampling",
    "superposed": "superposed:SuperposedDecoding",
    "contrastive": "contrastive:ContrastiveSearch",
}
"""Every decoder of sequences: its name, its module in `sequences` and its class."""


def rule_class(word: str) -> Any:
    """The class of a rule; an unknown word is an error that names its neighbours."""
    return _class_of("rule", word, RULES, "rules", " (kofn rules lists them)")


def decoder_class(name: str) -> Any:
    """The class of a decoder; an unknown name is an error that names its neighbours."""
    return _class_of("decoder", name, DECODERS, "sequences", "")


def _class_of(kind: str, word: str, table: dict[str, str], folder: str, more: str) -> Any:
    if word not in table:
        near = get_close_matches(word, table, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(table)}"
        raise UsageError(f"{kind} {word!r} is unknown; {hint}{more}")
    module, _, cls = table[word].partition(":")
    return getattr(import_module(f"kofn.decode.{folder}.{module}"), cls)
