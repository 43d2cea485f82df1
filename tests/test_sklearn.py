"""The estimator: scikit-learn's own checks, and the front door's picks."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.datasets import load_iris
from sklearn.utils.estimator_checks import estimator_checks_generator

import kofn
from kofn.represent import KCenter
from kofn.sklearn import Select

EXPECTED = {
    "check_array_api_input": "needs SCIPY_ARRAY_API in the environment before scipy is imported; kofn takes NumPy here"
}
ESTIMATORS = [Select(), Select(method="uniform"), Select(method="kmeans"), Select(method=KCenter())]
CHECKS = [
    pytest.param(estimator, check, id=f"{estimator.method} {getattr(check, 'func', check).__name__} {number}")
    for estimator in ESTIMATORS
    for number, (estimator, check) in enumerate(estimator_checks_generator(estimator))
    if getattr(check, "func", check).__name__ not in EXPECTED
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def test_the_picks_are_those_of_the_front_door():
    x, y = load_iris(return_X_y=True)
    select = Select(12, method="kmeans", params={"rounds": 5}, random_state=7).fit(x, y)
    chosen = kofn.select(x, 12, method="kmeans", rounds=5, seed=7)
    assert select.sample_indices_.tolist() == chosen.indices.tolist()
    assert select.sample_weight_.tolist() == chosen.weights.tolist()
    assert select.selection_.provenance["seed"] == 7


def test_rows_come_back_in_the_type_they_came_in():
    frame, labels = load_iris(return_X_y=True, as_frame=True)
    few, their = Select(9, method="kcenter").fit_resample(frame, labels)
    assert isinstance(few, pd.DataFrame)
    assert isinstance(their, pd.Series)
    assert few.index.tolist() == their.index.tolist()
    assert few.shape == (9, 4)


def test_stratified_picks_hold_every_class_in_proportion():
    x, y = load_iris(return_X_y=True)
    _, labels = Select(30, method="uniform", stratify=True).fit_resample(x, y)
    assert np.bincount(labels).tolist() == [10, 10, 10]


def test_rows_of_weight_zero_are_not_there_and_numbers_are_those_of_the_caller():
    x = np.arange(10.0)[:, None]
    weights = np.array([0, 1, 1, 1, 0, 0, 1, 1, 1, 0.0])
    select = Select(6, method="uniform").fit(x, sample_weight=weights)
    assert sorted(select.sample_indices_.tolist()) == [1, 2, 3, 6, 7, 8]


def test_sparse_rows_are_taken_where_the_method_takes_them():
    x = csr_matrix(np.eye(20))
    assert len(Select(5, method="uniform").fit(x).sample_indices_) == 5
    with pytest.raises(TypeError, match=r"(?i)sparse"):
        Select(5, method="facility").fit(x)


def test_no_random_state_is_another_draw_at_every_fit():
    x = np.arange(1000.0)[:, None]
    select = Select(20, method="uniform", random_state=None)
    assert select.fit(x).sample_indices_.tolist() != select.fit(x).sample_indices_.tolist()
    same = [
        Select(20, method="uniform", random_state=np.random.RandomState(1)).fit(x).sample_indices_.tolist()
        for _ in "ab"
    ]
    assert same[0] == same[1]
