"""Every method gives the same bytes in memory, from files and on a cluster of three workers that this module starts."""

import logging
import os
from pathlib import Path

import pytest

from properties import engines
from properties.engines import (
    in_any_order,
    law_2_engines_change_nothing,
    law_2_parts_are_the_same_on_every_engine,
    law_2_what_was_kept_changes_nothing,
    processes_of_a_pass,
    slabs_of_a_pass,
)
from properties.instances import INSTANCES
from properties.mutants import Honest, ReadsTheThreads
from properties.sameness import laid_out

STREAMING = [method for method in INSTANCES if method.streams]
HELD = {type(method): method for method in reversed(INSTANCES) if not method.streams}
"""One of each that has all rows in memory: what it does there, no engine can change."""

LIFTED = [method for method in INSTANCES if method.lifts]
FIRST_OF_LIFTED = list({type(method): method for method in reversed(LIFTED)}.values())[::-1]


@pytest.fixture(scope="module")
def layouts():
    with laid_out() as paths:
        yield paths


@pytest.fixture(scope="module")
def three_workers():
    """Ray with three workers, which find these modules; calls are taken in in any order."""
    import ray

    with pytest.MonkeyPatch.context() as patch, in_any_order() as taken:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_worker_niceness"):
            patch.setenv(name, "0")
        mine = not ray.is_initialized()
        if mine:
            ray.init(
                address="local", num_cpus=3, include_dashboard=False, object_store_memory=1 << 28,
                logging_level=logging.ERROR, log_to_driver=False,
            )  # fmt: skip
        yield taken
        if mine:
            ray.shutdown()


def test_workers_share_a_pass_and_are_taken_in_in_any_order(layouts, three_workers):
    processes, orders = set(), set()
    for _ in range(3_000):  # until the last of them has started
        three_workers.clear()
        processes |= processes_of_a_pass(layouts, 3)
        orders.add(tuple(three_workers))
        if len(processes) >= 3 and len(orders) > 1:
            break
    assert len(processes) >= 3
    assert os.getpid() not in processes
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2)}
    assert len(orders) > 1


def test_each_slab_of_a_pass_has_the_same_bytes_on_every_engine(layouts, three_workers):
    expected = slabs_of_a_pass({}, "local", 1)
    assert len(expected) == 3
    for engine, workers in engines.ENGINES:
        assert slabs_of_a_pass(layouts, engine, workers) == expected


@pytest.mark.parametrize("method", [*STREAMING, *HELD.values()], ids=repr)
def test_engines_change_nothing(method, layouts, three_workers):
    law_2_engines_change_nothing(method, layouts)


@pytest.mark.parametrize("method", LIFTED, ids=repr)
def test_a_method_in_parts_is_the_same_on_every_engine(method, layouts, three_workers):
    law_2_parts_are_the_same_on_every_engine(method, layouts, workers=(1, 2, 3) if method in FIRST_OF_LIFTED else (3,))


@pytest.mark.parametrize(("deal", "rounds"), [("consecutive", 2), ("hash", 3)])
@pytest.mark.parametrize("method", FIRST_OF_LIFTED, ids=repr)
def test_other_parts_and_rounds_are_the_same_on_every_engine(method, deal, rounds, layouts, three_workers):
    law_2_parts_are_the_same_on_every_engine(method, layouts, deal, rounds, workers=(1, 3))


@pytest.mark.parametrize("method", STREAMING, ids=repr)
def test_a_run_that_lost_half_of_what_it_kept_changes_nothing(method, layouts, three_workers):
    law_2_what_was_kept_changes_nothing(method, layouts)


@pytest.mark.parametrize("law", [law_2_engines_change_nothing, law_2_what_was_kept_changes_nothing])
def test_an_honest_method_keeps(law, layouts, three_workers):
    law(Honest(), layouts)


@pytest.mark.parametrize(
    "wrong",
    [
        engines.ReadsTheProcess, engines.ReadsTheWorkers, engines.TakesTheFirstToEnd, engines.WritesIntoWhatItShares,
        ReadsTheThreads,
    ],
)  # fmt: skip
def test_a_method_that_depends_on_the_engine_fails(wrong, layouts, three_workers):
    with pytest.raises(AssertionError):
        law_2_engines_change_nothing(wrong(), layouts)


@pytest.mark.parametrize("wrong", [engines.WritesIntoWhatItShares, engines.ReadsTheClockInBlocks])
def test_a_method_that_cannot_go_on_fails(wrong, layouts, three_workers):
    with pytest.raises(AssertionError):
        law_2_what_was_kept_changes_nothing(wrong(), layouts)
