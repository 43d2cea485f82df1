"""Adaptive draft lengths."""

import math

import numpy as np
import pytest
from scipy import stats

from kofn.decode.markov import MarkovModel
from kofn.decode.rules.topk import TopK
from kofn.decode.speculation.drafter import ModelDrafter
from kofn.decode.speculation.law import Law
from kofn.decode.speculation.policy import AcceptanceHead, Draft, Fixed, Threshold, confidence, policy_of
from kofn.decode.speculation.speculative import Speculative
from kofn.errors import ParameterError, UsageError

# A drafted token is accepted with chance 0.95 (tokens 0 and 1, drafted with 0.7) or 0.3 (tokens 2 and 3).
Q = np.array([0.35, 0.35, 0.15, 0.15, 0.0])
P = np.array([0.3325, 0.3325, 0.045, 0.045, 0.245])
GOOD, BAD, SHARE = 0.95, 0.3, 0.7
DRAFT_COST, PASS_COST, LIMIT = 1.0, 10.0, 14
MEAN = SHARE * GOOD + (1 - SHARE) * BAD


def known(draft):
    """The true chance of acceptance of a drafted token."""
    return GOOD if draft.token < 2 else BAD


def drafted(good, bad):
    return [Draft(0, 0, 0.35, 0.35, 0.0)] * good + [Draft(2, 0, 0.15, 0.35, 0.0)] * bad


def programmed(price):
    """Dynamic programming: most that a round gains at a price of a token, and in which states it drafts on."""
    value, goes_on = {}, {}
    for depth in range(LIMIT, 0, -1):
        for bad in range(depth + 1):
            good = depth - bad
            held = GOOD**good * BAD**bad
            further = -math.inf
            if depth < LIMIT:
                then = SHARE * value[good + 1, bad] + (1 - SHARE) * value[good, bad + 1]
                further = price * held * MEAN - DRAFT_COST + then
            goes_on[good, bad] = further > 0
            value[good, bad] = max(further, 0.0)
    first = SHARE * value[1, 0] + (1 - SHARE) * value[0, 1]
    return price * (1 + MEAN) - DRAFT_COST - PASS_COST + first, goes_on


def best_price():
    """The cost of a token under the best policy: where a round gains nothing."""
    low, high = 0.0, DRAFT_COST + PASS_COST
    for _ in range(100):
        price = (low + high) / 2
        low, high = (price, high) if programmed(price)[0] < 0 else (low, price)
    return high


def exact_cost(stops):
    """Cost of a token of a policy, by all states that a block can go through."""
    chance = {(1, 0): SHARE, (0, 1): 1 - SHARE}
    tokens, drafts = 1 + MEAN, 1.0
    for depth in range(1, LIMIT):
        for bad in range(depth + 1):
            good = depth - bad
            here = chance.get((good, bad), 0.0)
            if not here or stops(drafted(good, bad)):
                continue
            drafts += here
            tokens += here * GOOD**good * BAD**bad * MEAN
            for next_state, share in (((good + 1, bad), SHARE), ((good, bad + 1), 1 - SHARE)):
                chance[next_state] = chance.get(next_state, 0.0) + here * share
    return (PASS_COST + DRAFT_COST * drafts) / tokens


def fixed_cost(length):
    return (PASS_COST + DRAFT_COST * length) / sum(MEAN**j for j in range(length + 1))


@pytest.fixture(scope="module")
def best():
    price = best_price()
    return price, Threshold(1 - DRAFT_COST / (price * MEAN), limit=LIMIT, predictor=known)


def test_the_threshold_policy_is_what_dynamic_programming_finds(best):
    price, policy = best
    goes_on = programmed(price)[1]
    for (good, bad), further in goes_on.items():
        if good + bad < LIMIT:
            assert policy.stops(drafted(good, bad)) != further
    assert len({further for state, further in goes_on.items() if sum(state) < LIMIT}) == 2
    assert exact_cost(policy.stops) == pytest.approx(price, abs=1e-9)


def test_no_other_threshold_and_no_fixed_length_costs_less(best):
    price, _ = best
    others = [exact_cost(Threshold(h, limit=LIMIT, predictor=known).stops) for h in np.linspace(0, 1, 101)]
    assert min(others) >= price - 1e-9
    assert min(others) < max(others) - 0.1
    assert min(fixed_cost(length) for length in range(1, LIMIT + 1)) > 1.02 * price


def test_generating_with_a_known_acceptance_costs_less_than_with_the_best_fixed_length(best):
    price, policy = best
    target, drafter = MarkovModel([P] * 5), ModelDrafter(MarkovModel([Q] * 5))

    def cost(length):
        answer = Speculative(drafter, length=length).generate(target, [0], 20, length=250, seed=3)
        counts = np.bincount(np.concatenate(answer.tokens), minlength=5)
        assert stats.chisquare(counts, P * counts.sum()).pvalue > 1e-6
        return (PASS_COST * (answer.passes - 1) + DRAFT_COST * answer.details["drafted"]) / counts.sum()

    fixed = min(range(1, LIMIT + 1), key=fixed_cost)
    adaptive = cost(policy)
    assert adaptive == pytest.approx(price, rel=0.02)
    assert adaptive < cost(fixed)


def test_the_first_uncertain_token_ends_a_draft_at_zero_and_none_does_at_one():
    sure, unsure = Draft(0, 0, 1.0, 1.0, 0.0), Draft(0, 1, 0.9, 0.9, 0.3)
    assert not Threshold(0.0).stops([sure])
    assert Threshold(0.0).stops([sure, unsure])
    assert not Threshold(1.0).stops([unsure] * 50)
    assert Threshold(0.18).stops([unsure, unsure])  # 1 - 0.81
    assert not Threshold(0.2).stops([unsure, unsure])
    model = MarkovModel([[0.0, 0.9, 0.1], [0.1, 0.0, 0.9], [0.9, 0.1, 0.0]])
    drafted = [
        Speculative(ModelDrafter(model), length=policy).generate(model, [0], length=100).details["drafted"]
        for policy in (Threshold(1.0, limit=3), Fixed(3), Threshold(0.05, limit=3))
    ]
    assert drafted[0] == drafted[1] == 75
    assert drafted[2] == 50  # blocks of one, and the token after it


def test_what_a_draft_says_of_itself():
    with np.errstate(divide="ignore"):
        draft = Draft.of(Law.of(np.log(np.array([0.5, 0.25, 0.25], np.float32))), 2, 3)
    assert draft == (2, 3, pytest.approx(0.25), pytest.approx(0.5), pytest.approx(1.5 * math.log(2)))
    assert draft.features() == pytest.approx((3, math.log(0.25), math.log(0.5), 1.5 * math.log(2)))
    assert confidence(draft) == pytest.approx(0.5)


def test_a_greedy_drafter_still_says_how_sure_it_was():
    model = MarkovModel([[0.2, 0.8], [0.6, 0.4]])
    law = ModelDrafter(model, rule=TopK(1)).start([0])[0]
    assert law.probability(1) == 1
    assert Draft.of(law, 1, 0).confidence == pytest.approx(0.8)
    assert ModelDrafter(model).start([0])[0].before is None


def test_a_fitted_head_predicts_the_chances_that_were_logged():
    rng = np.random.default_rng(0)
    target = rng.dirichlet(np.full(12, 0.3), 12)
    table = 0.5 * target + 0.5 * rng.dirichlet(np.ones(12), 12)
    model, drafter = MarkovModel(target), ModelDrafter(MarkovModel(table))
    logged, fresh = (
        Speculative(drafter, length=4).generate(model, [0], 10, length=200, seed=seed).details for seed in (0, 1)
    )
    head = AcceptanceHead.fit(logged["features"], logged["chances"])
    drafts = [Draft(0, int(d), math.exp(a), math.exp(b), h) for d, a, b, h in fresh["features"]]
    predicted = np.array([head(draft) for draft in drafts])
    assert predicted.mean() == pytest.approx(fresh["chances"].mean(), abs=0.03)

    def loss(q):
        return -(fresh["chances"] * np.log(q) + (1 - fresh["chances"]) * np.log(1 - q)).mean()

    assert loss(predicted) < loss(np.full(len(predicted), fresh["chances"].mean())) - 0.01
    wary = AcceptanceHead.fit(logged["features"], logged["chances"], rejection_weight=6)
    assert np.mean([wary(draft) for draft in drafts]) < predicted.mean() - 0.1
    answer = Speculative(drafter, length=Threshold(0.5, predictor=head)).generate(model, [0], length=50)
    assert len(answer.tokens[0]) == 50
    assert head == AcceptanceHead.fit(logged["features"], logged["chances"])


def test_a_head_is_the_logistic_function_of_its_features():
    head = AcceptanceHead((1.0, 0.0, 0.0, 0.0), -1.0)
    assert head(Draft(0, 1, 0.5, 0.5, 0.1)) == pytest.approx(0.5)
    assert head(Draft(0, 3, 0.5, 0.5, 0.1)) == pytest.approx(1 / (1 + math.exp(-2)))


def test_wrong_parameters_are_told():
    for h in (-0.1, 1.1, math.nan, "a", True):
        with pytest.raises(ParameterError, match="h="):
            Threshold(h)
    with pytest.raises(ParameterError, match="limit=0"):
        Threshold(0.5, limit=0)
    with pytest.raises(UsageError, match="features of shape"):
        AcceptanceHead.fit(np.ones((3, 4)), np.ones(2))
    with pytest.raises(UsageError, match="nothing to learn"):
        AcceptanceHead.fit(np.ones((3, 4)), np.ones(3))
    with pytest.raises(ParameterError, match="rejection_weight"):
        AcceptanceHead.fit(np.ones((3, 4)), np.array([0.5, 1, 1]), rejection_weight=0)
    assert policy_of(3) == Fixed(3)
    assert policy_of(Threshold(0.5)) == Threshold(0.5)
