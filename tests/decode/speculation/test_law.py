"""Laws of next tokens."""

import math

import numpy as np
import pytest

from kofn.core.logits import place_of
from kofn.decode.speculation.law import Law, overlap
from kofn.errors import DataError


def rows(*chances: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(chances)).astype(np.float32)


def test_a_draw_is_the_token_whose_interval_holds_u():
    law = Law.of(rows(0.5, 0.0, 0.25, 0.25))
    assert [law.draw(u) for u in (0.01, 0.49, 0.51, 0.74, 0.76, 0.999999999)] == [0, 0, 2, 2, 3, 3]


def test_a_token_that_cannot_be_is_not_drawn_at_the_ends_of_the_unit_interval():
    law = Law.of(rows(0.0, 0.5, 0.0, 0.5, 0.0))
    assert law.draw(2.0**-54) == 1
    assert law.draw(1 - 2.0**-53) == 3
    assert law.draw(1.0) == 3
    assert place_of(np.array([0.0, 1.0, 1.0, 2.0, 2.0]), 1.0) == 3


def test_a_draw_over_many_blocks_agrees_with_the_cumulated_law():
    logits = np.random.default_rng(0).normal(0, 3, 5_000).astype(np.float32)
    law = Law.of(logits)
    reach = np.cumsum(law.probabilities())
    assert reach[-1] == pytest.approx(1, abs=1e-6)
    for u in np.random.default_rng(1).random(300):
        token = law.draw(float(u))
        before = reach[token - 1] if token else 0.0
        assert before - 2e-6 <= u <= reach[token] + 2e-6


def test_probabilities_are_those_of_the_support_and_zero_outside():
    law = Law.of(rows(0.25, 0.75), np.array([3, 9]))
    assert law.at(np.array([0, 3, 4, 9, 100])) == pytest.approx([0, 0.25, 0, 0.75, 0], abs=1e-7)
    assert law.probability(9) == pytest.approx(0.75)
    assert law.logprob(5) == -math.inf
    assert law.draw(0.9) == 9
    whole = Law.of(rows(0.25, 0.75))
    assert whole.at(np.array([1, 0, 7])) == pytest.approx([0.75, 0.25, 0], abs=1e-7)
    assert whole.logprob(7) == -math.inf


def test_what_a_rule_left_out_leaves_the_support():
    law = Law.kept(rows(0.2, 0.0, 0.2, 0.0), np.array([4, 5, 6, 7]))
    assert law.tokens.tolist() == [4, 6]
    assert law.probabilities() == pytest.approx([0.5, 0.5])
    assert Law.kept(rows(0.5, 0.5)).tokens is None


@pytest.mark.parametrize("given", [None, [0, 1, 2]])
def test_the_excess_is_drawn_in_proportion_to_what_p_has_over_q(given):
    # p - q = (0.3, -0.4, 0.1): token 0 with chance 3/4, token 2 with 1/4
    p, q = rows(0.5, 0.1, 0.4), np.array([0.2, 0.5, 0.3])
    tokens = None if given is None else np.array(given)
    law = Law.of(p, tokens)
    for support, mass in ((None, q), (np.array([0, 1, 2]), q)):
        assert [law.excess(support, mass, u) for u in (0.01, 0.74, 0.76, 0.99)] == [0, 0, 2, 2]


def test_the_excess_over_a_law_on_few_tokens_is_the_rest_of_p():
    law = Law.of(rows(0.5, 0.5))
    assert {law.excess(np.array([1]), np.array([1.0]), u) for u in (0.01, 0.5, 0.99)} == {0}
    few = Law.of(rows(0.5, 0.5), np.array([2, 8]))
    assert {few.excess(np.array([1, 8]), np.array([0.5, 0.5]), u) for u in (0.01, 0.5, 0.99)} == {2}


def test_where_q_leaves_nothing_the_token_comes_from_p():
    law = Law.of(rows(0.5, 0.5))
    assert law.excess(None, np.array([0.6, 0.6]), 0.9) == 1


def test_entropy_is_that_of_the_law():
    assert Law.of(rows(*[1 / 8] * 8)).entropy() == pytest.approx(math.log(8), abs=1e-6)
    assert Law.of(rows(0.5, 0.25, 0.25, 0.0)).entropy() == pytest.approx(1.5 * math.log(2), abs=1e-6)
    assert Law.certain(3).entropy() == 0
    assert Law.certain(3).draw(0.7) == 3


def test_logits_with_nan_or_without_a_finite_one_are_refused():
    for bad in ([0.0, np.nan], [0.0, np.inf], [-np.inf, -np.inf]):
        with pytest.raises(DataError, match="largest logit"):
            Law.of(np.array(bad, np.float32))
    with pytest.raises(DataError, match="largest logit"):
        Law.kept(np.array([-np.inf, -np.inf], np.float32))


def test_overlap_is_one_less_total_variation():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
    assert overlap(p, q) == pytest.approx(1 - 0.5 * np.abs(p - q).sum())
