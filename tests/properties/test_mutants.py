"""Each law fails on the methods planted to break it, and holds for the honest ones that these were made from."""

import pytest

from kofn.represent import Top, Uniform
from properties import costs, laws, mutants, weighing
from properties.mutants import Honest
from properties.sameness import laid_out, law_2_layout_and_threads_change_nothing

LAWS = [*laws.LAWS, *weighing.LAWS, *costs.LAWS]
PLANTED = {
    laws.law_1_picks_are_k_distinct_rows: [
        mutants.RepeatsAPick, mutants.PicksOneTooFew, mutants.NumbersRowsFromOne, mutants.WeighsFivePercentTooMuch,
    ],
    laws.law_1_an_impossible_k_is_an_error: [mutants.PicksOneTooFew],
    laws.law_1_few_distinct_rows_are_filled_by_row_number: [mutants.FillsFromTheEnd],
    laws.law_2_ties_go_to_the_lowest_row_number: [mutants.TakesTheLastOfEquals],
    laws.law_2_asking_twice_is_asking_once: [
        mutants.ReadsTheClock, mutants.IgnoresTheSeed, mutants.StartsFromTheLastAnswer,
    ],
    laws.law_3_have_is_never_picked: [mutants.IgnoresHave],
    laws.law_3_have_counts_as_covered: [mutants.IgnoresHave, mutants.DoesNotCountHaveAsCovered, mutants.ClaimsToCover],
    laws.law_3_a_smaller_k_is_a_prefix: [mutants.IsNoPrefix],
    laws.law_5_awkward_rows_work: [mutants.RefusesOneDimension],
    laws.law_5_type_and_layout_of_an_array_change_nothing: [mutants.CalculatesInTheGivenType],
    laws.law_5_an_offset_costs_nothing: [mutants.ExpandsSquares],
    laws.law_5_rows_that_are_no_numbers_are_counted_and_named: [mutants.MendsNaN],
    laws.law_5_sparse_rows_work_or_are_refused: [mutants.TakesSparseForDense],
    laws.law_6_the_order_of_rows_does_not_matter: [mutants.TakesTheFirstRows],
    laws.law_7_inputs_are_never_modified: [
        mutants.CentersTheInput, mutants.FreezesTheInput, mutants.HandsOutTheInput,
    ],
    laws.law_7_a_method_is_equal_to_its_twin_after_select: [mutants.RemembersOnItself, mutants.RemembersOnItsClass],
    laws.law_9_a_column_that_is_not_named_is_refused_and_not_read: [mutants.PeeksAtScores],
    laws.law_9_a_column_that_is_read_matters: [mutants.IgnoresGroups, mutants.NeedsWhatItDoesNotRead],
    laws.law_9_a_parameter_that_cannot_be_is_an_error: [mutants.ChecksNoParameter],
    laws.law_9_a_class_says_what_it_is: [mutants.PromisesAnUnknownObjective, mutants.NeedsLessOfMore],
    weighing.law_4_weights_sum_to_what_they_stand_for: [
        mutants.WeighsFivePercentTooMuch, mutants.ForgetsRowWeights, mutants.InclusionAboveOne, mutants.SaysEqualAndWeighs,
    ],
    weighing.law_4_weights_leave_out_what_have_stands_for: [mutants.CountsWhatHaveCovers, mutants.SwapsWeights],
    weighing.law_4_counts_are_the_sizes_of_islands: [mutants.SwapsWeights, mutants.SharesWeightsEqually],
    weighing.law_4_estimates_are_unbiased_and_their_errors_honest: [
        mutants.SaysTwoPercentTooLittle, mutants.PrefersOneHalf, mutants.TooSureOfItself, mutants.SpreadsAndLeans,
    ],
    weighing.law_8_the_objective_beats_uniform_where_it_must: [mutants.InvertsTheScore, mutants.ClaimsToCover],
    weighing.law_8_gains_add_up_and_bounds_hold: [
        mutants.ShiftsGains, mutants.GainsMoreAndMore, mutants.PromisesTooMuch,
    ],
    costs.law_9_costs_are_no_more_than_it_says: [mutants.HidesMemory, mutants.HidesPasses],
}  # fmt: skip


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("method", [Honest(), Uniform(), Top()], ids=repr)
def test_honest_methods_keep(law, method):
    law(method)


@pytest.mark.parametrize(
    ("law", "wrong"),
    [(law, wrong) for law, planted in PLANTED.items() for wrong in planted],
    ids=lambda each: each.__name__,
)
def test_a_planted_wrong_method_fails(law, wrong):
    with pytest.raises(AssertionError):
        law(wrong())


def test_every_law_has_a_wrong_method_planted():
    assert set(PLANTED) == set(LAWS)
    assert [law.__name__ for law, planted in PLANTED.items() if not planted] == []


@pytest.fixture(scope="module")
def layouts():
    with laid_out() as paths:
        yield paths


def test_an_honest_method_is_the_same_from_every_layout(layouts):
    law_2_layout_and_threads_change_nothing(Honest(), layouts)


@pytest.mark.parametrize(
    "wrong",
    [mutants.ReadsTheClock, mutants.ReadsTheThreads, mutants.ReadsTheFiles, mutants.AddsUpByThread],
)
def test_a_method_that_depends_on_layout_or_threads_fails(wrong, layouts):
    with pytest.raises(AssertionError):
        law_2_layout_and_threads_change_nothing(wrong(), layouts)
