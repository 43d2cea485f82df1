"""Calls on a Ray cluster: in order, given out again when they are lost, and stopped when they cannot be carried out."""

import gc

import faults
import numpy as np
import pytest

from kofn.blocks.cluster import FAILURES, Cluster, Environment
from kofn.errors import DataError, EngineError, InvalidRows, UsageError

SQUARES = [at * at for at in range(12)]


def calls(cluster, fn, *shared, n=12):
    return list(cluster.map(fn, shared, [(at,) for at in range(n)], lambda at: f"call {at}"))


def test_results_come_in_the_order_of_the_calls(cluster, tmp_path):
    assert calls(cluster, faults.squares, tmp_path, 0, "fails", 0) == SQUARES
    assert cluster.retries == 0
    assert set(faults.attempts(tmp_path).values()) == {1}


def test_results_are_the_callers_own(cluster):
    """What Ray packs itself comes back read-only."""
    for array, rows in zip(calls(cluster, faults.numbers, n=2), (100_000, 10)):
        array += 1
        np.testing.assert_array_equal(array, np.arange(1.0, rows + 1), strict=True)


def test_no_calls_have_no_results(cluster):
    assert calls(cluster, faults.squares, n=0) == []


@pytest.mark.parametrize("trouble", ["dies", "fails"])
def test_a_call_that_is_lost_once_or_twice_is_carried_out_again(cluster, tmp_path, trouble):
    times = {"dies": 1, "fails": 2}[trouble]
    assert calls(cluster, faults.squares, tmp_path, 3, trouble, times) == SQUARES
    assert cluster.retries == times
    begun = faults.attempts(tmp_path)
    assert begun.pop("call3") == times + 1
    assert set(begun.values()) == {1}


def test_a_call_that_kills_its_worker_each_time_stops_the_run_and_says_so(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("kofn.blocks.cluster.DEATHS", 3)
    with pytest.raises(
        EngineError, match=r"^call 3: the worker died 3 times \(.*is there memory enough .*--memory less"
    ):
        calls(cluster, faults.squares, tmp_path, 3, "dies", 1000)
    assert faults.attempts(tmp_path)["call3"] == 3
    assert cluster.retries == 2


def test_a_call_that_always_fails_stops_the_run_and_is_named_with_its_mistake(cluster, tmp_path):
    with pytest.raises(EngineError) as told:
        calls(cluster, faults.squares, tmp_path, 3, "fails", 1000)
    assert str(told.value) == "call 3: a worker failed: RuntimeError: the block cannot be worked on"
    assert faults.attempts(tmp_path)["call3"] == 3


def test_results_before_a_mistake_are_handed_on(cluster, tmp_path):
    results = cluster.map(faults.squares, (tmp_path, 5, "fails", 1000), [(at,) for at in range(12)], str)
    assert [next(results) for _ in range(5)] == SQUARES[:5]
    with pytest.raises(EngineError, match=r"^5: "):
        next(results)


@pytest.mark.parametrize(
    ("error", "tries"),
    [(DataError("x.parquet is gone"), 3), (UsageError("wrong"), 1), (InvalidRows("row 7 holds NaN", 7), 1)],
    ids=["data", "usage", "rows"],
)
def test_mistakes_of_the_caller_arrive_as_they_were_raised(cluster, tmp_path, error, tries):
    with pytest.raises(type(error)) as told:
        calls(cluster, faults.raises, tmp_path, error, n=1)
    assert str(told.value) == str(error)
    assert getattr(told.value, "first", None) == getattr(error, "first", None)
    assert faults.attempts(tmp_path) == {"call0": tries}


def test_a_slow_worker_stops_the_others_only_at_the_look_ahead(cluster, tmp_path):
    workers = cluster.workers
    ahead = 2 * workers + 2
    results = calls(cluster, faults.held, tmp_path, 0, range(1, ahead), n=4 * ahead)
    assert results == [(True, ahead), *range(1, 4 * ahead)]
    assert cluster.retries == 0


def test_a_limit_is_the_number_of_calls_at_a_time(local_ray, tmp_path):
    assert Cluster(2).workers == 2
    assert all(calls(Cluster(1), faults.alone, tmp_path, n=6))


def test_an_iteration_that_is_ended_early_begins_no_further_calls(cluster, tmp_path):
    results = cluster.map(faults.squares, (tmp_path, 0, "fails", 0), [(at,) for at in range(500)], str)
    assert next(results) == 0
    results.close()
    gc.collect()
    assert calls(cluster, faults.sleeps, 0) == list(range(12))
    assert len(faults.attempts(tmp_path)) <= 2 * cluster.workers + 2


def test_a_worker_that_cannot_unpack_the_work_is_told_to_install(cluster):
    with pytest.raises(
        EngineError, match=r"could not begin \(.*No module named 'kofn.nowhere'.*pip install 'kofn\[ray\]'"
    ):
        calls(cluster, faults.sleeps, faults.Bomb(), n=1)
    assert cluster.retries >= FAILURES - 1


def test_a_worker_that_has_half_imported_modules_is_left_and_another_takes_over(cluster, tmp_path):
    # what a cancelled import leaves behind: this process can never unpack the work, another one can
    assert calls(cluster, faults.sleeps, faults.Half(tmp_path), n=6) == list(range(6))
    assert cluster.retries >= 1
    broken = (tmp_path / "process").read_text()
    assert calls(cluster, faults.process, n=6).count(int(broken)) == 0


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (("99.0", None, None), "has kofn .*, this process has 99.0; .* install the same versions"),
        ((None, "1.26.0", None), "has NumPy .*, this process has 1.26.0; .* install the same versions"),
        (
            (None, None, "mkl"),
            "has the BLAS kernel .*, this process has mkl; .* set OPENBLAS_CORETYPE to the same value",
        ),
    ],
)
def test_a_worker_that_differs_from_this_process_is_refused(cluster, monkeypatch, here, words):
    true = Environment.here()
    other = Environment(here[0] or true.kofn, here[1] or true.numpy, here[2] or true.blas)
    monkeypatch.setattr(Environment, "here", staticmethod(lambda: other))
    with pytest.raises(EngineError, match=words):
        calls(cluster, faults.sleeps, 0, n=1)


def test_a_cluster_without_processors_is_given_up(cluster, monkeypatch):
    monkeypatch.setattr("kofn.blocks.cluster.PATIENCE", 1)
    monkeypatch.setattr("ray.cluster_resources", dict)
    with pytest.raises(EngineError, match="no processor for 1 s; add machines"):
        calls(cluster, faults.sleeps, 3, n=1)
