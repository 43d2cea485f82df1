"""One local Ray cluster for all tests of a process; a test that needs another one runs it in a process of its own."""

import logging
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # where `faults` lies


@pytest.fixture(scope="session")
def environment():
    """Variables of processes that find `faults` and what other tests share a cluster for, and no cluster but their own."""
    given = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**given, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="session")
def local_ray(environment):
    """Ray with three workers on this machine."""
    with pytest.MonkeyPatch.context() as patch:  # workers inherit what is set while Ray starts
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        ray.init(
            address="local",
            num_cpus=3,
            include_dashboard=False,
            object_store_memory=100 << 20,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    yield ray
    ray.shutdown()


@pytest.fixture
def cluster(local_ray):
    """The cluster as kofn uses it; nothing has been given out again yet."""
    from kofn.blocks.cluster import Cluster

    return Cluster()
