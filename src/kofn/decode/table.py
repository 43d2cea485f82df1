"""The table of decoders: a name on the command line, and where its class is."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kofn.errors import UsageError

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


def decoder_class(name: str) -> Any:
    """The class of this name; an unknown one is an error that lists them."""
    if name not in DECODERS:
        from difflib import get_close_matches

        near = get_close_matches(name, DECODERS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(DECODERS)}"
        raise UsageError(f"decoder {name!r} is unknown; {hint}")
    module, _, cls = DECODERS[name].partition(":")
    return getattr(import_module(f"kofn.decode.sequences.{module}"), cls)
