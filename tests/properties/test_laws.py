"""Every law, on every instance of every class in the table. A method that cannot be built fails; none is skipped."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kofn
from kofn.blocks import Run
from kofn.core.assign import assign
from kofn.core.blas import blas_kernel
from kofn.registry import METHODS, method_class
from properties import costs, laws, weighing
from properties.instances import FAILED, INSTANCES
from properties.laws import assert_picks
from properties.mutants import MultipliesInOtherShapes
from properties.sameness import laid_out, law_2_layout_and_threads_change_nothing
from properties.worlds import choose, column_sets, near_ties, world

every_method = pytest.mark.parametrize("method", INSTANCES, ids=repr)


@pytest.fixture(scope="session")
def layouts():
    with laid_out() as paths:
        yield paths


@pytest.mark.parametrize("law", [*laws.LAWS, *weighing.LAWS, *costs.LAWS], ids=lambda law: law.__name__)
@every_method
def test_every_method_keeps(law, method):
    law(method)


@every_method
def test_layout_and_threads_change_nothing(method, layouts):
    law_2_layout_and_threads_change_nothing(method, layouts)


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_parameter_is_an_error(name):
    laws.law_9_an_unknown_parameter_is_an_error(name)


@pytest.mark.parametrize("name", METHODS)
def test_every_name_in_the_table_can_be_built(name):
    assert name not in FAILED, repr(FAILED[name])
    assert method_class(name).name == name
    assert any(type(method) is method_class(name) for method in INSTANCES)


@every_method
@settings(derandomize=True, max_examples=30, deadline=None, database=None)
@given(data=st.data())
def test_any_shape_gives_k_distinct_rows(method, data):
    n, d = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 9))
    levels, seed = data.draw(st.sampled_from([2, 4, 1000])), data.draw(st.integers(0, 99))
    x = np.random.default_rng(seed).integers(1, 1 + levels, size=(n, d)).astype(np.float32)
    have = data.draw(st.lists(st.integers(0, n - 1), max_size=n - 1, unique=True))
    k = data.draw(st.integers(1, n - len(have)))
    columns = data.draw(st.sampled_from(column_sets(method)))
    items = world(x, seed).items(method, columns, have=np.array(have, np.int64))
    selection = choose(method, items, k, seed)
    assert_picks(selection, k, n, have)
    assert selection.weights.sum() <= items.row_weights.sum() * (1 + 1e-9)


def test_each_slab_gives_the_same_bytes_from_every_layout(layouts):
    w = near_ties()
    centers = w.x[np.random.default_rng(0).choice(w.n, 50, replace=False)]

    def slabs(items):
        return [(labels.tobytes(), squared.tobytes()) for labels, squared in assign(items.blocks(), centers)]

    expected = slabs(kofn.Items(embeddings=w.x, run=Run(1)))
    assert len(expected) == 3
    assert slabs(kofn.Items(embeddings=w.x, run=Run(4))) == expected
    for path in layouts[w.n].values():
        for threads in (1, 4):
            assert slabs(kofn.open(path, embedding="embedding", threads=threads)) == expected


def test_both_blas_kernels_keep_the_law_and_agree_where_nothing_is_close():
    """The kernel of this process is left out of law 2 there: the test above has run it."""
    intel = platform.machine() in ("x86_64", "AMD64")
    wide = intel and "avx512f" in Path("/proc/cpuinfo").read_text()
    names = ["Haswell", "SkylakeX" if wide else "Sandybridge"]
    running = [in_process(name) for name in names]
    answers = [json.loads(process.communicate(timeout=500)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    if intel and "openblas" in answers[0]["kernel"]:
        assert [answer["kernel"].split()[-1] for answer in answers] == names
        noticed = repr(MultipliesInOtherShapes()) in answers[0]["broken"]
        assert noticed, "Haswell's kernel rounds by shape, a planted method does not mind, and the law did not notice"
    broken = [{name: how for name, how in answer["broken"].items() if "OtherShapes" not in name} for answer in answers]
    assert broken == [{}, {}]
    assert answers[0]["picks"] == answers[1]["picks"]


def in_process(kernel):
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "OPENBLAS_CORETYPE": kernel, "PYTHONPATH": str(tests)}
    command = [sys.executable, "-m", "properties.kernels"]
    law = [] if blas_kernel().endswith(kernel) else ["--law"]
    return subprocess.Popen([*command, *law], env=environment, stdout=subprocess.PIPE, cwd=tests)
