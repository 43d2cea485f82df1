"""Measures against their formulas, and the correction of local normalisation."""

import numpy as np
import pytest
import torch

from kofn.decode import (
    Entropy,
    KeptMass,
    KeptSize,
    LeastConfidence,
    LogKeptMass,
    Margin,
    MarkovModel,
    MinP,
    Mirostat,
    Perplexity,
    RenyiEntropy,
    Temperature,
    TopK,
    TopKEntropy,
    Varentropy,
    correction_weights,
)
from kofn.errors import ParameterError, UsageError


def test_measures_equal_their_formulas() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3000)).astype(np.float32) * 2
    p = np.exp(x.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    ranked = np.sort(p, axis=1)[:, ::-1]
    entropy = -(p * np.log(p)).sum(1)
    best = ranked[:, :10] / ranked[:, :10].sum(1, keepdims=True)
    for measure, expected in [
        (Entropy(), entropy),
        (Perplexity(), np.exp(entropy)),
        (TopKEntropy(10), -(best * np.log(best)).sum(1)),
        (RenyiEntropy(2.0), -np.log((p**2).sum(1))),
        (RenyiEntropy(1.0), entropy),
        (Varentropy(), (p * (np.log(p) + entropy[:, None]) ** 2).sum(1)),
        (LeastConfidence(), 1 - ranked[:, 0]),
        (Margin(), ranked[:, 0] - ranked[:, 1]),
        (KeptSize(TopK(7)), np.full(5, 7.0)),
        (KeptMass(TopK(7)), ranked[:, :7].sum(1)),
        (LogKeptMass(Temperature(2.0) | TopK(7)), np.log(ranked[:, :7].sum(1))),
    ]:
        assert measure(x) == pytest.approx(expected, rel=1e-5), measure
        answer = measure(torch.from_numpy(x).reshape(5, 1, -1))
        assert answer.shape == (5, 1)
        assert answer.numpy().ravel() == pytest.approx(expected, rel=1e-5)


def test_one_possible_token_has_no_uncertainty() -> None:
    x = np.full(20, -np.inf)
    x[3] = 1.0
    for measure in (Entropy(), TopKEntropy(5), Varentropy(), LeastConfidence(), RenyiEntropy(2.0)):
        assert measure(x) == pytest.approx(0, abs=1e-7)
    assert Margin()(x) == 1
    assert KeptSize(TopK(5))(x) == 1


def test_local_over_global_is_the_product_of_the_kept_masses_but_for_a_constant() -> None:
    table = np.random.default_rng(0).dirichlet([0.5, 0.5, 0.5], size=3)
    model, rule = MarkovModel(table), TopK(2)
    kept = np.isfinite(rule(np.log(table)))
    masses = np.where(kept, table, 0).sum(1)
    local = np.where(kept, table, 0) / masses[:, None]
    logs, gaps = [], []
    for path, p in model.sequences([0], 6):
        steps = list(zip([0, *path], path, strict=False))
        if all(kept[a, b] for a, b in steps):
            q = np.prod([local[a, b] for a, b in steps])
            logs.append(LogKeptMass(rule)(np.log(table[[a for a, _ in steps]])))
            gaps.append(np.log(q / p))
    total = np.array(logs).sum(1)
    assert np.ptp(np.array(gaps) + total) < 1e-5  # measured masses are in float32
    exact = [
        sum(np.log(masses[a]) for a, _ in zip([0, *path], path, strict=False))
        for path, _ in model.sequences([0], 6)
        if all(kept[a, b] for a, b in zip([0, *path], path, strict=False))
    ]
    assert np.ptp(np.array(gaps) + np.array(exact)) < 1e-10


def test_correction_weights_turn_local_draws_into_the_global_law() -> None:
    logs = np.log([[0.5, 0.5], [1.0, 0.25], [1.0, 1.0]])
    assert correction_weights(logs) == pytest.approx(np.array([0.25, 0.25, 1.0]) / 1.5)
    with pytest.raises(UsageError, match="a row for each sequence"):
        correction_weights([0.1, 0.2])


def test_min_p_keeps_less_mass_at_a_higher_threshold() -> None:
    x = np.random.default_rng(0).normal(size=500) * 3
    assert KeptMass(MinP(0.5))(x) < KeptMass(MinP(0.05))(x) < 1


@pytest.mark.parametrize("measure", [KeptSize, KeptMass, LogKeptMass])
def test_a_measure_of_what_a_rule_leaves_wants_a_rule_without_memory(measure: type) -> None:
    name = measure.__name__
    with pytest.raises(ParameterError, match=rf"{name} cannot run Mirostat\(tau=3.0.*without memory"):
        measure(Mirostat(3.0))
    with pytest.raises(ParameterError, match=rf"{name}: .*give parse_rule\('minp=0.1'\)"):
        measure("minp=0.1")
    for wrong in (None, 0.9, lambda logits: logits):
        with pytest.raises(ParameterError, match=rf"{name}: rule=.* is no .*ule.*MinP\(0.1\)"):
            measure(wrong)
