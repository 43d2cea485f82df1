import subprocess
import sys

import pytest

from kofn.decode import answers


@pytest.mark.parametrize("name", dir(answers))
def test_every_public_name_is_the_thing_itself_and_not_a_module_of_its_name(name):
    thing = getattr(answers, name)
    assert callable(thing)
    assert thing.__name__ == name
    assert thing.__doc__


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(AttributeError, match="best_of_n"):
        _ = answers.worst_of_n


def test_using_all_that_needs_no_fit_loads_numpy_only():
    code = """
import sys
from kofn.decode.answers import *
best_of_n_law([0.5, 0.5], [0, 1], 3); majority_vote(["a"]); pass_at_k([1], 2, 1); coverage_curve([1], 2)
soft_best_of_n([0.0, 1.0], temperature=1.0, seed=0); QProbe(); SampleScrutinize(); BoNBoN(n=2)
heavy = {"scipy", "sklearn", "torch", "transformers", "numba", "pyarrow", "ray"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
