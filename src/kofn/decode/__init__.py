"""Tokens and sequences to emit from a language model.

Rules say which next tokens may be emitted and with which chances: `TopK(50) | MinP(0.05) | Temperature(0.8)`. Measures say
how uncertain a law is. Decoders choose whole sequences from a `LanguageModel`. `kofn.decode.answers` chooses among
finished answers. Nothing here needs torch until a torch tensor or a transformers model is handed in.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "rules.topk": ["TopK"],
    "rules.topp": ["TopP"],
    "rules.minp": ["MinP"],
    "rules.typical": ["Typical"],
    "rules.epsilon": ["Epsilon"],
    "rules.eta": ["Eta"],
    "rules.topnsigma": ["TopNSigma"],
    "rules.toph": ["TopH"],
    "rules.bregman": ["Bregman"],
    "rules.temperature": ["Temperature"],
    "rules.klguided": ["KLGuidedTemperature"],
    "rules.knnlm": ["KNNLM", "Datastore"],
    "rules.mirostat": ["Mirostat"],
    "rules.selfterminating": ["SelfTerminating"],
    "rules.rule": ["Rule"],
    "rules.stateful": ["Stateful"],
    "rules.processors": ["Processor"],
    "rules.parse": ["parse_rule"],
    "measure": [
        "Measure",
        "Entropy",
        "TopKEntropy",
        "Perplexity",
        "RenyiEntropy",
        "Varentropy",
        "LeastConfidence",
        "Margin",
        "KeptSize",
        "KeptMass",
        "LogKeptMass",
        "correction_weights",
    ],
    "model": ["LanguageModel", "Generations"],
    "markov": ["MarkovModel"],
    "transformers_model": ["TransformersModel", "load"],
    "sequences.sampling": ["Sampling", "Greedy"],
    "sequences.contrastive": ["ContrastiveSearch"],
    "sequences.beam": ["Beam"],
    "sequences.diversebeam": ["DiverseBeam"],
    "sequences.stochasticbeam": ["StochasticBeam"],
    "sequences.conditionalpoissonbeam": ["ConditionalPoissonBeam"],
    "sequences.designs": ["conditional_poisson", "inclusion_probabilities", "expectation"],
    "sequences.arithmetic": ["ArithmeticSampling"],
    "sequences.priority": ["PrioritySampling"],
    "sequences.superposed": ["SuperposedDecoding"],
    "sequences.ngrams": ["NGramModel"],
    "speculation.speculative": ["Speculative"],
    "speculation.multidraft": ["MultiDraft"],
    "speculation.drafter": ["Drafter", "ModelDrafter"],
    "speculation.ngram": ["NGramDrafter"],
    "speculation.earlyexit": ["EarlyExit"],
    "speculation.frequency": ["FrequencyRanked", "most_frequent", "coverage"],
    "speculation.policy": ["Threshold", "AcceptanceHead"],
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted([*_MODULES, "child_seeds"])


def __getattr__(name: str) -> Any:
    if name == "child_seeds":
        return import_module("kofn.core.uniforms").child_seeds
    if name not in _MODULES:
        raise AttributeError(f"kofn.decode has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"kofn.decode.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
