import numpy as np
import pytest

from kofn.decode.answers.laws import kl_divergence, ranked, whole
from kofn.errors import DataError, ParameterError


def test_equal_rewards_share_a_level_and_levels_rise():
    law = ranked([0.1, 0.2, 0.3, 0.4], [5.0, -1.0, 5.0, 2.0])
    assert law.rewards.tolist() == [-1.0, 2.0, 5.0]
    assert law.level.tolist() == [2, 0, 2, 1]
    np.testing.assert_allclose(law.mass, [0.2, 0.4, 0.4])
    np.testing.assert_allclose(law.at_most, [0.2, 0.6, 1.0])
    np.testing.assert_allclose(law.above, [0.8, 0.4, 0.0])


def test_an_outcome_that_cannot_be_drawn_has_no_level_and_stays_at_zero():
    law = ranked([0.5, 0.0, 0.5], [0.0, 9.0, 1.0])
    assert law.rewards.tolist() == [0.0, 1.0]
    assert law.spread(np.array([0.25, 0.75])).tolist() == [0.25, 0.0, 0.75]


def test_a_level_shares_its_chance_in_proportion_to_p():
    law = ranked([0.1, 0.3, 0.6], [1.0, 1.0, 0.0])
    np.testing.assert_allclose(law.spread(np.array([0.2, 0.8])), [0.2, 0.6, 0.2])


def test_log_f_keeps_its_digits_next_to_one():
    law = ranked([1.0 - 1e-12, 1e-12], [0.0, 1.0])
    assert law.log_at_most[0] == pytest.approx(np.log1p(-1e-12), rel=1e-15)
    assert law.log_step[1] == pytest.approx(np.log1p(-1e-12), rel=1e-9)


@pytest.mark.parametrize(
    ("p", "rewards", "word"),
    [
        ([0.5, 0.4], [0, 1], "sums to 0.9"),
        ([1.5, -0.5], [0, 1], r"p\[1\]=-0.5"),
        ([0.5, 0.5], [0, 1, 2], "2 outcomes and rewards 3"),
        ([0.5, 0.5], [0, np.nan], r"rewards\[1\]=nan"),
        ([], [], "shape"),
        (["a"], [1], "no row of numbers"),
    ],
)
def test_what_is_no_law_is_refused_by_name(p, rewards, word):
    with pytest.raises(DataError, match=word):
        ranked(p, rewards)


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "3"])
def test_a_number_of_draws_is_a_whole_number(n):
    with pytest.raises(ParameterError, match="n="):
        whole(n, "n")


def test_kl_of_a_fair_coin_from_a_biased_one():
    assert kl_divergence(np.array([1.0, 0.0]), np.array([0.25, 0.75])) == pytest.approx(np.log(4))
