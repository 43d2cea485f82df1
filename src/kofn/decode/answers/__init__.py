"""Choosing among several answers to one question, and measuring what it brings. Each name loads when it is asked for."""

from __future__ import annotations

from typing import Any

NAMES = {
    "Choice": "best_of",
    "KLEstimate": "best_of",
    "best_of_n": "best_of",
    "best_of_n_kl": "best_of",
    "best_of_n_kl_bound": "best_of",
    "best_of_n_kl_estimate": "best_of",
    "best_of_n_law": "best_of",
    "best_of_n_win_rate": "best_of",
    "soft_best_of_n": "soft_best_of",
    "soft_best_of_n_kl_bound": "soft_best_of",
    "soft_best_of_n_law": "soft_best_of",
    "BestOfNTilt": "tilting",
    "BoNBoN": "tilting",
    "BoNBoNLoss": "tilting",
    "ExponentialTilt": "tilting",
    "RewardTilt": "tilting",
    "reward_tilt": "tilting",
    "reward_tilt_at_kl": "tilting",
    "SampleScrutinize": "voting",
    "Scrutinized": "voting",
    "VerifiedVote": "voting",
    "Vote": "voting",
    "majority_vote": "voting",
    "sample_and_verify": "voting",
    "weighted_vote": "voting",
    "PassRate": "pass_rates",
    "g_pass_at_k": "pass_rates",
    "mean_g_pass_at_k": "pass_rates",
    "pass_all_k": "pass_rates",
    "pass_at_k": "pass_rates",
    "BetaBinomial": "coverage",
    "CoverageCurve": "coverage",
    "Forecast": "coverage",
    "PowerLaw": "coverage",
    "coverage_curve": "coverage",
    "fit_beta_binomial": "coverage",
    "fit_power_law": "coverage",
    "forecast_coverage": "coverage",
    "FittedQProbe": "qprobe",
    "QProbe": "qprobe",
    "policy_objective": "qprobe",
}
"""Public names, and the module of this folder that holds each."""


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name not in NAMES:
        raise AttributeError(f"kofn.decode.answers has no {name!r}; it has {', '.join(sorted(NAMES))}")
    from importlib import import_module

    return getattr(import_module(f"kofn.decode.answers.{NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(NAMES)
