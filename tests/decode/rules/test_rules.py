"""Every rule against a few plain lines, transformers' own warpers, and the laws that all rules keep."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as warpers

from kofn.core.block import Floats
from kofn.decode import (
    Epsilon,
    Eta,
    KeptMass,
    MinP,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    Typical,
    child_seeds,
    parse_rule,
)
from kofn.decode.rules.parse import EXAMPLES
from kofn.decode.rules.rule import Rule
from kofn.decode.table import RULES
from kofn.errors import KofnError, ParameterError, UsageError

CUTS = [TopK(5), TopP(0.8), MinP(0.1), Typical(0.8), Epsilon(0.02), Eta(0.02), TopNSigma(1.0), TopH(0.5)]
RULED: list[Rule] = [*CUTS, Temperature(0.7), parse_rule("bregman=0.01"), TopK(9) | MinP(0.05) | Temperature(0.8)]


def rows(count: int = 6, size: int = 300, scale: float = 2.0) -> Floats:
    return (np.random.default_rng(0).normal(size=(count, size)) * scale).astype(np.float32)


def law(x: Floats) -> Floats:
    e = np.exp(x.astype(np.float64) - x.max())
    return e / e.sum()


def kept_by(rule: Rule, x: Floats) -> set[int]:
    return set(np.flatnonzero(np.isfinite(rule(x))).tolist())


def plain(rule: Rule, x: Floats) -> set[int]:
    """What a rule keeps, by its formula, in a few lines of double precision."""
    p = law(x)
    order = np.argsort(-p, kind="stable")
    surprise = -np.log(p)
    entropy = (p * surprise).sum()
    match rule:
        case TopK(k=k):
            return set(order[:k].tolist())
        case TopP(p=share):
            return set(order[: 1 + int((p[order].cumsum() < share).sum())].tolist())
        case MinP(p=share):
            return set(np.flatnonzero(p >= share * p.max()).tolist())
        case Typical(mass=share):
            near = np.argsort(np.abs(surprise - entropy), kind="stable")
            return set(near[: 1 + int((p[near].cumsum() < share).sum())].tolist())
        case Epsilon(epsilon=e):
            return set(np.flatnonzero((p >= e) | (p == p.max())).tolist())
        case Eta(epsilon=e):
            return set(np.flatnonzero((p >= min(e, math.sqrt(e) * math.exp(-entropy))) | (p == p.max())).tolist())
        case TopNSigma(n=n):
            return set(np.flatnonzero(x >= x.max() - n * x.astype(np.float64).std()).tolist())
        case TopH(alpha=alpha):
            length = 1
            while length < len(p):
                q = p[order[: length + 1]] / p[order[: length + 1]].sum()
                if -(q * np.log(q)).sum() > alpha * entropy:
                    break
                length += 1
            return set(order[:length].tolist())
    raise AssertionError(rule)


@pytest.mark.parametrize("rule", CUTS, ids=repr)
@pytest.mark.parametrize("scale", [0.3, 2.0, 6.0])
def test_a_cut_keeps_what_its_formula_says(rule: Rule, scale: float) -> None:
    for x in rows(20, 300, scale):
        assert kept_by(rule, x) == plain(rule, x)


@pytest.mark.parametrize("rule", CUTS, ids=repr)
def test_a_cut_keeps_what_its_formula_says_on_rows_too_long_for_a_first_prefix(rule: Rule) -> None:
    for x in rows(3, 20_000, 0.5):
        assert kept_by(rule, x) == plain(rule, x)


@pytest.mark.parametrize(
    ("rule", "warper"),
    [
        (TopK(50), warpers.TopKLogitsWarper(50)),
        (TopP(0.9), warpers.TopPLogitsWarper(0.9)),
        (MinP(0.1), warpers.MinPLogitsWarper(0.1)),
        (Typical(0.9), warpers.TypicalLogitsWarper(0.9)),
        (Epsilon(3e-4), warpers.EpsilonLogitsWarper(3e-4)),
        (Eta(3e-4), warpers.EtaLogitsWarper(3e-4)),
        (TopP(0.3, min_keep=7), warpers.TopPLogitsWarper(0.3, min_tokens_to_keep=7)),
        (MinP(0.9, min_keep=7), warpers.MinPLogitsWarper(0.9, min_tokens_to_keep=7)),
        (Epsilon(0.2, min_keep=7), warpers.EpsilonLogitsWarper(0.2, min_tokens_to_keep=7)),
        (Eta(0.2, min_keep=7), warpers.EtaLogitsWarper(0.2, min_tokens_to_keep=7)),
        (Typical(0.2, min_keep=7), warpers.TypicalLogitsWarper(0.2, min_tokens_to_keep=7)),
    ],
    ids=lambda each: repr(each) if isinstance(each, Rule) else "",
)
def test_the_kept_set_is_that_of_transformers_but_for_tokens_at_the_threshold(rule: Rule, warper: Any) -> None:
    for scale in (1.0, 2.5, 6.0):
        scores = torch.from_numpy(rows(8, 3000, scale))
        ours, theirs = rule(scores), warper(None, scores.clone())
        p = torch.softmax(scores.double(), -1)
        for x, a, b, q in zip(scores, ours, theirs, p, strict=True):
            differ = torch.isfinite(a) != torch.isfinite(b)
            edge = q[torch.isfinite(b)].min()
            if isinstance(rule, Typical):  # its threshold is a distance: only exact ties may differ
                assert not differ.any()
            assert ((q[differ] - edge).abs() < 1e-6).all(), x
            assert torch.equal(a[torch.isfinite(a)], x[torch.isfinite(a)])


@pytest.mark.parametrize("rule", RULED, ids=repr)
def test_a_batch_is_a_loop_over_its_rows(rule: Rule) -> None:
    x = rows(6)
    whole = rule(x)
    assert np.array_equal(whole, np.stack([rule(each) for each in x]))
    assert np.array_equal(whole.reshape(2, 3, -1), rule(x.reshape(2, 3, -1)))
    seeds = child_seeds(3, 0, 6)
    drawn = rule.draw(x, seeds, 4)
    assert drawn.tolist() == [int(rule.draw(each, seeds[i : i + 1], 4)) for i, each in enumerate(x)]
    assert drawn.tolist() == [int(rule.draw(each, seeds[i], 4)) for i, each in enumerate(x)]
    assert drawn[::-1].tolist() == rule.draw(x[::-1], seeds[::-1], 4).tolist()
    assert drawn.tolist() == rule.draw(x, 3, 4).tolist()


@pytest.mark.parametrize("rule", RULED, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_every_float_type_comes_back_as_it_came(rule: Rule, dtype: torch.dtype) -> None:
    x = torch.from_numpy(rows(3)).to(dtype)
    before = x.clone()
    out = rule(x)
    assert out.dtype == dtype
    assert torch.equal(x, before)
    expected = rule(x.float())
    assert torch.equal(torch.isfinite(out), torch.isfinite(expected))
    assert torch.equal(out, expected.to(dtype))


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, np.int32, int], ids=str)
def test_whole_numbers_as_logits_come_back_as_float32(kind: Any) -> None:
    given = [10, 1, 2]
    x = torch.tensor(given, dtype=kind) if isinstance(kind, torch.dtype) else np.array(given, kind)
    out = (TopK(2) | Temperature(4.0))(x)
    assert out.dtype in (torch.float32, np.float32)
    assert out.tolist() == [2.5, -np.inf, 0.5]


def test_a_temperature_too_small_for_the_type_keeps_the_law() -> None:
    half = Temperature(1e-4)(torch.tensor([[20.0, 19.999, 2.0], [1.0, 0.0, 3.0]], dtype=torch.float16))
    assert half.dtype == torch.float16
    assert half[0].tolist() == [0.0, float(torch.tensor(19.999).half() - 20) * 1e4, -np.inf]
    assert half[1].tolist() == [1e4, 0.0, 3e4]
    with np.errstate(over="raise"):
        assert np.array_equal(
            Temperature(1e-9)(np.array([1.0, -1e30], np.float32)), np.array([1e9, -np.inf], np.float32)
        )
    for x in ([-20.0, -21.0, -22.0], [20.0, 19.0, -22.0]):
        cold = Temperature(1e-38)(np.array(x, np.float32))
        assert cold.argmax() == 0
        assert cold[0] == 0
        assert Temperature(1e-38).draw(np.array(x), 1, 0) == 0


@pytest.mark.parametrize("rule", RULED, ids=repr)
def test_numpy_torch_dlpack_and_strided_arrays_agree(rule: Rule) -> None:
    class Capsule:
        def __init__(self, array: Floats) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    x = rows(4)
    expected = rule(x)
    assert isinstance(expected, np.ndarray)
    assert np.array_equal(rule(torch.from_numpy(x).requires_grad_()).numpy(), expected)
    assert np.array_equal(rule(Capsule(x)), expected)
    assert np.array_equal(rule(np.asfortranarray(x)), expected)
    assert np.array_equal(rule(x.tolist()), expected)


@pytest.mark.parametrize("rule", RULED, ids=repr)
def test_the_draw_follows_the_law_that_the_rule_leaves(rule: Rule) -> None:
    x = rows(1, 12, 1.0)[0]
    expected = law(rule(x))
    draws = 20_000
    tokens = rule.draw(np.broadcast_to(x, (draws, 12)), 5, 0)
    counts = np.bincount(tokens, minlength=12)
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    chi2 = ((counts - draws * expected) ** 2)[possible] / (draws * expected[possible])
    assert chi2.sum() < 60  # 11 degrees of freedom at most: p < 1e-8 beyond


def test_draws_from_long_rows_follow_the_law() -> None:
    x = rows(1, 40_000, 1.0)[0]
    rule = Temperature(1.0)
    tokens = rule.draw(np.broadcast_to(x, (2_000, 40_000)), 1, 0)
    groups = np.add.reduceat(law(x), np.arange(0, 40_000, 1_000))
    counts = np.bincount(tokens // 1_000, minlength=40)
    assert ((counts - 2_000 * groups) ** 2 / (2_000 * groups)).sum() < 120  # 39 degrees: p < 1e-9 beyond


@pytest.mark.parametrize("rule", RULED, ids=repr)
def test_impossible_tokens_stay_impossible(rule: Rule) -> None:
    x = rows(4)
    x[:, ::2] = -np.inf
    assert not np.isfinite(rule(x)[:, ::2]).any()
    assert np.array_equal(rule(x)[:, 1::2], rule(np.ascontiguousarray(x[:, 1::2])))
    one = np.full(300, -np.inf, np.float32)
    one[17] = 3.0
    assert kept_by(rule, one) == {17}
    assert int(rule.draw(one, 0, 0)) == 17


@pytest.mark.parametrize("rule", CUTS, ids=repr)
def test_equal_logits_are_kept_by_token_number(rule: Rule) -> None:
    kept = kept_by(rule, np.zeros(300, np.float32))
    assert kept == set(range(len(kept)))
    assert len(kept) == {"TopK": 5, "TopP": 240, "Typical": 240, "TopH": 17}.get(type(rule).__name__, 300)


@pytest.mark.parametrize("rule", CUTS, ids=repr)
def test_min_keep_is_a_floor(rule: Rule) -> None:
    from dataclasses import replace

    x = rows(5, 300, 6.0)
    floor = replace(rule, min_keep=40)
    for each in x:
        small, large = kept_by(rule, each), kept_by(floor, each)
        assert len(large) == max(40, len(small))
        assert small <= large


@pytest.mark.parametrize("rule", RULED, ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_without_a_law_is_named(rule: Rule, bad: float) -> None:
    x = rows(4)
    x[2, 7] = bad
    with pytest.raises(UsageError, match=r"row 2 .* token 7"):
        rule(x)
    x[2] = -np.inf
    with pytest.raises(UsageError, match=r"row 2 .*-inf throughout"):
        rule.draw(torch.from_numpy(x), 0, 0)


def test_top_n_sigma_does_not_move_with_temperature_and_top_p_does() -> None:
    x = rows(20, 3000, 2.0)
    sizes = {}
    for t in (0.5, 1.0, 2.0, 5.0):
        assert np.array_equal(np.isfinite((Temperature(t) | TopNSigma(1.0))(x)), np.isfinite(TopNSigma(1.0)(x)))
        sizes[t] = int(np.isfinite((Temperature(t) | TopP(0.9))(x)).sum())
    assert sizes[0.5] < sizes[1.0] < sizes[2.0] < sizes[5.0]


def test_what_each_rule_is_at_its_ends() -> None:
    x = rows(5)
    best = x.argmax(1)
    for greedy in (TopNSigma(0.0), MinP(1.0), TopK(1)):
        assert greedy(x).argmax(1).tolist() == best.tolist()
        assert np.isfinite(greedy(x)).sum() == 5
    for everything in (TopP(1.0), Typical(1.0), TopH(1.0), TopK(10**6), Temperature(1.0)):
        assert np.array_equal(everything(x), x)
    assert np.isfinite(Eta(0.5)(np.zeros(50))).all()
    nearly = np.array([0.0, -4.0, -4.2, -9.0])  # 'Donald': one token holds 96 %
    assert kept_by(TopP(0.95), nearly) == {0}
    assert kept_by(Eta(0.004), nearly) == {0, 1, 2}


def test_top_h_keeps_its_bound_and_little_less_than_the_best_set() -> None:
    from itertools import combinations

    ratios = []
    for x in rows(30, 12, 1.5):
        p = law(x)
        bound = 0.6 * -(p * np.log(p)).sum()
        kept = sorted(kept_by(TopH(0.6), x))
        q = p[kept] / p[kept].sum()
        assert -(q * np.log(q)).sum() <= bound + 1e-12
        best = 0.0
        for size in range(1, 13):
            for some in combinations(range(12), size):
                r = p[list(some)] / p[list(some)].sum()
                if -(r * np.log(r)).sum() <= bound:
                    best = max(best, p[list(some)].sum())
        ratios.append(p[kept].sum() / best)
    assert np.mean(ratios) >= 0.95


def test_the_warper_of_transformers_does_not_keep_top_h_to_its_bound() -> None:
    # it adds up -p log p of the best 100 without renormalising what is kept: on a flat row 40 tokens instead of 6
    flat = np.zeros(100, np.float32)
    assert len(kept_by(TopH(0.4), flat)) == 6  # log 6 <= 0.4 log 100 < log 7
    assert int(torch.isfinite(warpers.TopHLogitsWarper(0.4)(None, torch.zeros(1, 100))).sum()) in (39, 40)


def test_order_changes_what_a_chain_keeps() -> None:
    x = rows(1, 300, 2.0)[0]
    hot_first, hot_last = Temperature(2.0) | TopP(0.9), TopP(0.9) | Temperature(2.0)
    assert len(kept_by(hot_first, x)) > 2 * len(kept_by(hot_last, x))
    assert (TopK(3) | (MinP(0.1) | Temperature(2.0))) == ((TopK(3) | MinP(0.1)) | Temperature(2.0))
    assert KeptMass(TopK(300) | TopP(0.5))(x) == pytest.approx(KeptMass(TopP(0.5))(x))


@pytest.mark.parametrize("word", RULES)
def test_every_rule_is_parsed_from_its_example_and_equals_its_twin(word: str) -> None:
    rule = parse_rule(EXAMPLES[word])
    assert rule == parse_rule(EXAMPLES[word])
    assert type(rule).__name__ == RULES[word].partition(":")[2]
    assert hash(rule) == hash(parse_rule(EXAMPLES[word]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("topp=1.5", "outside"),
        ("topp", "lacks a value"),
        ("toop=0.9", "did you mean"),
        ("topp=0.9,minkeep=2", "no parameter"),
        ("topp=many", "not a number"),
        ("topk=2.5", "whole number"),
        ("temp=0", r"TopK\(1\)"),
        ("topp=nan", "outside"),
        ("topk=50|", "unknown"),
        ("bregman=1e-3,k=5", "either"),
        ("minp=0.1,min_keep=0", "min_keep"),
        ("topk=50,k=3", "twice"),
    ],
)
def test_a_misspelt_rule_is_an_error_with_its_mend(text: str, words: str) -> None:
    with pytest.raises(KofnError, match=words):
        parse_rule(text)


def test_capitals_and_spaces_in_a_written_rule_are_forgiven() -> None:
    assert parse_rule(" TopP = 0.9 | temp =1.5") == TopP(0.9) | Temperature(1.5)


@pytest.mark.parametrize("seeds", [-1, 2**64, np.uint64(3), [1, 2], [0.5] * 4, True])
def test_wrong_seeds_are_errors(seeds: Any) -> None:
    with pytest.raises(UsageError):
        TopK(3).draw(rows(4), seeds, 0)


def test_wrong_steps_rules_and_shapes_are_errors() -> None:
    with pytest.raises(UsageError, match="step"):
        TopK(3).draw(rows(4), 0, -1)
    with pytest.raises(UsageError, match="step"):
        TopK(3).draw(rows(4), 0, 2**64)
    with pytest.raises(UsageError, match="no rule"):
        TopK(3) | 5  # type: ignore[operator]
    with pytest.raises(UsageError, match="shape"):
        TopK(3)(np.zeros((2, 0)))
    with pytest.raises(UsageError, match="real numbers"):
        TopK(3)(np.array(["a", "b"]))


@pytest.mark.parametrize("make", [lambda: MinP(True), lambda: TopK(0), lambda: TopP("a")])  # type: ignore[arg-type]
def test_wrong_parameters_are_errors(make: Callable[[], Rule]) -> None:
    with pytest.raises(ParameterError):
        make()
