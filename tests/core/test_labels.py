"""Labels of every kind, told apart."""

import numpy as np
import pandas as pd

from kofn.core.labels import sortable


def test_what_is_missing_is_a_label_of_its_own_whatever_stands_for_it():
    labels = np.array(["b", None, float("nan"), pd.NA, 3, "a"], object)
    assert sortable(labels).tolist() == ["b", "(none)", "(none)", "(none)", "3", "a"]


def test_labels_of_one_type_stay_as_they_are():
    for labels in (np.array([3, 1]), np.array(["x", "y"]), np.array([True, False])):
        assert sortable(labels) is labels
