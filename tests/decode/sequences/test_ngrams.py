"""N-gram counts and probabilities against counting by dictionaries, and what is refused."""

from collections import Counter

import numpy as np
import pytest

from kofn.decode.sequences.ngrams import WEIGHTS, NGramModel
from kofn.errors import DataError, ParameterError, UsageError

CORPUS = [[0, 1, 2, 0, 1, 3], [0, 1, 2], [3], [2, 0, 1, 2, 0, 1]]


def counted(corpus, n):
    return Counter(tuple(each[i : i + n]) for each in corpus for i in range(len(each) - n + 1))


def test_probabilities_are_counts_of_the_ngram_over_counts_of_its_context():
    model = NGramModel(CORPUS, 4, order=3)
    # after (0, 1) came 2, 3, 2, 2: the last sequence ends with (0, 1), which nothing followed
    np.testing.assert_allclose(model.probabilities([[0, 1]], [[0, 1, 2, 3]]), [[0, 0, 3 / 4, 1 / 4]])


def test_an_ngram_does_not_run_from_one_sequence_into_the_next():
    assert NGramModel([[0, 1], [2, 3]], 4, order=2).probabilities([[1]], [[2]]).item() == 0


def test_every_order_equals_counting_by_dictionary_on_random_tokens():
    rng = np.random.default_rng(3)
    corpus = [rng.integers(0, 5, size).tolist() for size in (0, 1, 2, 300, 7, 400)]
    model = NGramModel(corpus, 5, order=6)
    for n in range(2, 7):
        grams = counted(corpus, n)
        contexts = Counter()
        for gram, count in grams.items():
            contexts[gram[:-1]] += count
        asked = rng.integers(0, 5, (200, n - 1))
        asked[:100] = [list(gram[:-1]) for gram in list(grams)[:100]] if len(grams) >= 100 else asked[:100]
        got = model.probabilities(asked, np.tile(np.arange(5), (200, 1)))
        expected = [
            [grams[(*c, w)] / contexts[tuple(c)] if tuple(c) in contexts else 0 for w in range(5)]
            for c in asked.tolist()
        ]
        np.testing.assert_allclose(got, expected)
        assert model.sizes[n - 2] == len(grams)


def test_interpolation_weighs_orders_and_leaves_out_those_the_context_is_too_short_for():
    model = NGramModel(CORPUS, 4, order=4, weights=[0.5, 2.0, 4.0])
    two = 0.5 * model.probabilities([[1]], [[2, 3]]) + 2 * model.probabilities([[0, 1]], [[2, 3]])
    np.testing.assert_allclose(model.interpolated([[0, 1]], [[2, 3]]), two)
    three = two + 4 * model.probabilities([[2, 0, 1]], [[2, 3]])
    np.testing.assert_allclose(model.interpolated([[3, 3, 2, 0, 1]], [[2, 3]]), three)


def test_a_context_that_the_corpus_lacks_adds_nothing():
    model = NGramModel(CORPUS, 4, order=3, weights=[0.25, 0.75])
    np.testing.assert_allclose(model.interpolated([[3, 1]], [[2, 3]]), 0.25 * model.probabilities([[1]], [[2, 3]]))


def test_default_weights_are_the_published_ones_up_to_the_order():
    assert NGramModel(CORPUS, 4).weights == WEIGHTS
    assert NGramModel(CORPUS, 4, order=3).weights == WEIGHTS[:2]


def test_an_order_longer_than_every_sequence_has_no_ngrams_and_gives_zeros():
    model = NGramModel([[0, 1], [1, 0]], 2, order=5)
    assert model.sizes == (2, 0, 0, 0)
    assert model.probabilities([[0, 1, 0, 1]], [[0, 1]]).tolist() == [[0, 0]]


def test_tables_take_twelve_bytes_an_ngram_and_four_a_context():
    model = NGramModel(CORPUS, 4, order=3)
    assert model.nbytes == 12 * sum(model.sizes) + 4 * (4 + model.sizes[0])


def test_large_tokens_of_a_large_vocabulary_are_kept_apart():
    v = 262_144
    model = NGramModel([[v - 1, v - 2, v - 1, v - 3]], v, order=6)
    assert model.probabilities([[v - 1]], [[v - 2, v - 3, v - 4]]).tolist() == [[0.5, 0.5, 0]]
    assert model.probabilities([[v - 1, v - 2, v - 1]], [[v - 3, v - 2]]).tolist() == [[1, 0]]


@pytest.mark.parametrize("order", [1, 7, True, 2.0])
def test_orders_other_than_two_to_six_are_refused(order):
    with pytest.raises(ParameterError, match="2 to 6"):
        NGramModel(CORPUS, 4, order=order)


def test_weights_must_be_one_an_order_and_not_negative():
    with pytest.raises(ParameterError, match="give 2"):
        NGramModel(CORPUS, 4, order=3, weights=[1.0])
    with pytest.raises(ParameterError, match="not negative"):
        NGramModel(CORPUS, 4, order=3, weights=[1.0, -1.0])


def test_what_is_no_corpus_and_tokens_outside_the_vocabulary_are_refused():
    with pytest.raises(DataError, match="no token"):
        NGramModel([[], []], 4)
    with pytest.raises(DataError, match="token 4 of the corpus"):
        NGramModel([[0, 4]], 4)
    model = NGramModel(CORPUS, 4, order=3)
    with pytest.raises(UsageError, match="context token 9"):
        model.interpolated([[9]], [[0]])
    with pytest.raises(UsageError, match="contexts of 3 tokens"):
        model.probabilities([[0, 0, 0]], [[0]])
    with pytest.raises(UsageError, match="give"):
        model.interpolated([[0]], [[0], [1]])
