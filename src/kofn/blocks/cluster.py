"""A Ray cluster as kofn uses it: independent calls of one function, results in order, lost work given out again."""

from __future__ import annotations

import os
import pickle
import platform
import socket
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from kofn.core.blas import blas_kernel, one_blas_thread
from kofn.errors import EngineError, InvalidRows, KofnError, MissingExtra, UsageError
from kofn.version import __version__

FAILURES = 3
"""How often a call may fail by its own fault before the run stops."""

DEATHS = 8
"""How often a call may lose its worker, or the machine that it runs on."""

PATIENCE = 60
"""Seconds without a processor in the cluster after which waiting is given up."""

LEAVING = 0.5
"""Seconds after which a worker that could not unpack its work ends."""

KNOCK = 10
"""Seconds in which a cluster must answer at its address."""

STORE = 1 << 29
"""Bytes of shared memory for a cluster that is started here: shared values and results pass through it."""


@dataclass(frozen=True)
class Environment:
    """What the bits of a result depend on besides the rows."""

    kofn: str
    numpy: str
    blas: str

    @staticmethod
    @cache
    def here() -> Environment:
        """That of this process."""
        return Environment(__version__, np.__version__, blas_kernel())


@dataclass(frozen=True)
class _Failed:
    """What a worker hands back in place of a result."""

    error: KofnError
    final: bool
    unnamed: bool = False


class Cluster:
    """Where calls are carried out: every processor that Ray has, or `limit` of them at a time.

    Attributes
    ----------
    ours : bool
        Whether it was started for this run, and ends with it.
    retries : int
        Calls that were given out again so far, because a worker died or the call failed.
    """

    def __init__(self, limit: int | None = None, *, ours: bool = False) -> None:
        self.limit, self.ours = limit, ours
        self.retries = 0

    @property
    def workers(self) -> int:
        """Calls that run at a time."""
        import ray

        found = int(ray.cluster_resources().get("CPU", 0))
        return max(1, found if self.limit is None else min(found, self.limit))

    @property
    def nodes(self) -> list[str]:
        """Ids of the machines that are there, in the order of their addresses."""
        import ray

        alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        return [name for _, name in sorted((node["NodeManagerAddress"], node["NodeID"]) for node in alive)]

    def map(
        self,
        fn: Callable[..., Any],
        shared: tuple[Any, ...],
        calls: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
        homes: Sequence[str | None] | None = None,
    ) -> Iterator[Any]:
        """`fn(*shared, *call)` for every call, in a worker; results in the order of the calls.

        Parameters
        ----------
        fn : callable
            A module-level function.
        shared : tuple
            Sent once to every machine.
        calls : sequence of tuple
            Sent with each call.
        describe : callable
            What call i works on, for messages.
        homes : sequence of str or None, optional
            The machine that each call should run on, if it can.

        Raises
        ------
        KofnError
            What `fn` raised, when it did so at every one of three tries; EngineError where a call cannot be carried out.
            Raised when the call's result is due, so that the same mistake is reported however workers take turns.
        """
        yield from _Calls(self, fn, shared, calls, describe, homes).results()


class _Calls:
    def __init__(
        self,
        cluster: Cluster,
        fn: Callable[..., Any],
        shared: tuple[Any, ...],
        calls: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
        homes: Sequence[str | None] | None,
    ) -> None:
        import ray

        self.ray, self.cluster, self.calls, self.describe, self.homes = ray, cluster, calls, describe, homes
        self.workers = cluster.workers
        self.remote = ray.remote(num_cpus=1, max_retries=0, num_returns=2)(carry_out)
        # In a list, so that a worker takes it apart once and not at every call.
        self.payload = [ray.put((Environment.here(), fn, shared))]
        # By the object that says how a call ended: its number, and its result.
        self.running: dict[Any, tuple[int, Any]] = {}
        self.done: dict[int, Any] = {}  # results stay where they were made until they are due
        self.failures: dict[int, int] = {}
        self.deaths: dict[int, int] = {}

    def results(self) -> Iterator[Any]:
        submitted, idle = 0, 0
        ahead = 2 * self.workers + 2
        try:
            for due in range(len(self.calls)):
                while (found := self._fetched(due)) is self:
                    while submitted < len(self.calls) and len(self.running) < self._room() and submitted < due + ahead:
                        self._submit(submitted)
                        submitted += 1
                    idle = 0 if self._collect() else idle + 1
                    self._look_for_processors(idle)
                yield found
        finally:
            # An iteration that nobody ended may outlive its cluster. One that ends with this run takes its calls along.
            if self.ray.is_initialized() and not self.cluster.ours:
                for each in self.running:
                    self.ray.cancel(each, force=False)

    def _room(self) -> int:
        """Calls that may be with the cluster: one for each worker is queued, except where their number was asked for."""
        return 2 * self.workers if self.cluster.limit is None else self.workers

    def _submit(self, at: int) -> None:
        options: dict[str, Any] = {"name": f"kofn {self.describe(at)}"}
        if self.homes is not None and self.homes[at] is not None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(self.homes[at], soft=True)
        ended, result = self.remote.options(**options).remote(self.payload, self.calls[at])
        self.running[ended] = at, result

    def _fetched(self, due: int) -> Any:
        """The result that is due; self where it is not there yet. Raises what the call failed by."""
        found = self.done.pop(due, self)
        if isinstance(found, _Failed):
            raise found.error
        if found is self:
            return self
        try:
            body, buffers = self.ray.get(found)
            # Copied, because Ray's arrays are read-only, and methods may go on with what they got.
            return pickle.loads(body, buffers=[bytearray(each) for each in buffers])
        except self.ray.exceptions.RayError as error:  # gone with the machine that held it
            self._given_out_again(due, self.deaths, DEATHS, _worker_lost(self.describe(due), error))
            return self

    def _collect(self) -> bool:
        """Take in what is finished, waiting for a second; whether something was."""
        ready, _ = self.ray.wait(list(self.running), timeout=1.0)
        for each in ready:
            at, result = self.running.pop(each)
            try:
                failed = self.ray.get(each)
            except self.ray.exceptions.RayTaskError as error:
                cause, kinds = getattr(error, "cause", None), self.ray.exceptions
                if isinstance(cause, kinds.RayError) and not isinstance(cause, kinds.RaySystemError):
                    # The machine was going away, and what it needed with it.
                    self._given_out_again(at, self.deaths, DEATHS, _worker_lost(self.describe(at), error))
                else:  # it could not even be unpacked there; in a fresh process it may
                    self._given_out_again(at, self.failures, FAILURES, _not_unpacked(error))
            except self.ray.exceptions.RayError as error:
                self._given_out_again(at, self.deaths, DEATHS, _worker_lost(self.describe(at), error))
            else:
                if failed is None or failed.final:
                    self.done[at] = failed or result
                    continue
                why = EngineError(f"{self.describe(at)}: {failed.error}") if failed.unnamed else failed.error
                self._given_out_again(at, self.failures, FAILURES, why)
        return bool(ready)

    def _given_out_again(self, at: int, counts: dict[int, int], most: int, error: KofnError) -> None:
        counts[at] = counts.get(at, 0) + 1
        if counts[at] >= most:
            self.done[at] = _Failed(error, final=True)
            return
        self.cluster.retries += 1
        self._submit(at)

    def _look_for_processors(self, idle: int) -> None:
        if idle >= PATIENCE and not self.ray.cluster_resources().get("CPU", 0):
            raise EngineError(
                f"the cluster has had no processor for {PATIENCE} s; add machines to it, and run again (with --checkpoint "
                "what was finished is kept)"
            )


def carry_out(payload: list[Any], call: tuple[Any, ...]) -> tuple[_Failed | None, Any]:
    """What a worker does with one call: (None, the result), or (how it failed, None).

    The result is what `_packed` makes of it.
    """
    if _leaving.is_set():
        time.sleep(10 * LEAVING)  # until this process ends: a call that waits is given out again, one that fails counts
    try:
        expected, fn, shared = _taken_apart(payload[0])
    except Exception:
        # A call that was cancelled while modules were imported leaves halves of them behind, with which nothing works any
        # more in this process: another one takes over.
        _leaving.set()
        threading.Timer(LEAVING, os._exit, (1,)).start()
        raise
    found = Environment.here()
    if found != expected:
        return _Failed(_differs(expected, found), final=True), None
    try:
        with one_blas_thread():
            return None, _packed(fn(*shared, *call))
    except KofnError as error:
        return _Failed(_that_travels(error), final=isinstance(error, InvalidRows | UsageError)), None
    except Exception as error:
        line = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
        return _Failed(EngineError(f"a worker failed: {line}"), final=False, unnamed=True), None


def _packed(result: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """A result as its pickle and, beside it, the memory of its arrays, which is not copied here."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
    return body, buffers


_payloads: OrderedDict[str, Any] = OrderedDict()
_leaving = threading.Event()


def _taken_apart(reference: Any) -> Any:
    """The payload of a pass, unpacked once in a worker; the last two are kept."""
    import ray

    key = reference.hex()
    if key not in _payloads:
        _payloads[key] = ray.get(reference)
        while len(_payloads) > 2:
            _payloads.popitem(last=False)
    return _payloads[key]


def _that_travels(error: KofnError) -> KofnError:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return EngineError(str(error))
    return error


def _differs(expected: Environment, found: Environment) -> EngineError:
    words = {"kofn": "kofn", "numpy": "NumPy", "blas": "the BLAS kernel"}
    name = next(each for each in words if getattr(expected, each) != getattr(found, each))
    mend = (
        "set OPENBLAS_CORETYPE to the same value on every machine, before Python starts"
        if name == "blas"
        else "install the same versions on every machine"
    )
    return EngineError(
        f"a worker on {platform.node()} has {words[name]} {getattr(found, name)}, this process has "
        f"{getattr(expected, name)}; the picks could differ: {mend}"
    )


def _worker_lost(what: str, error: BaseException) -> EngineError:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return EngineError(
        f"{what}: the worker died {DEATHS} times ({line}); is there memory enough on the machines? Give --memory less, or fewer "
        "processors to a machine"
    )


def _not_unpacked(error: BaseException) -> EngineError:
    cause = getattr(error, "cause", None) or error
    line = (str(cause).strip() or type(cause).__name__).splitlines()[-1]
    return EngineError(
        f"a worker could not begin ({line}); install kofn {__version__} on every machine: pip install 'kofn[ray]'"
    )


@contextmanager
def ray_cluster(address: str | None = None, workers: int | None = None) -> Iterator[Cluster]:
    """A cluster for the time of the block: the one that this process is connected to, or one at `address`, or a local one.

    Parameters
    ----------
    address : str, optional
        "auto" (a cluster that runs on this machine, or the one that RAY_ADDRESS names), "local" (a new one, gone at the
        end), or host:port. None: "auto" where RAY_ADDRESS is set, else "local".
    workers : int, optional
        Calls at a time; all processors by default.

    Raises
    ------
    MissingExtra
        When Ray is not installed.
    EngineError
        When the cluster cannot be reached or started.
    """
    # Asked before the import: Ray reads them once.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # a call that was lost is given out again
    os.environ.setdefault("RAY_worker_niceness", "0")  # workers of a local cluster are this run, and as urgent
    try:
        import ray
    except ImportError:
        raise MissingExtra("engine='ray' needs Ray; install it: pip install 'kofn[ray]'") from None
    if ray.is_initialized():
        _check_connected(ray, address)
        yield Cluster(workers)
        return
    new = _connect(ray, address, workers)
    try:
        yield Cluster(None if new else workers, ours=new)  # a new one has as many processors as were asked for
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str | None, workers: int | None) -> bool:
    """Connect to the cluster; whether it was started for it."""
    import logging

    where, answers = address or ("auto" if os.environ.get("RAY_ADDRESS") else "local"), False
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    try:
        if where == "local":
            ray.init(address="local", num_cpus=workers, include_dashboard=False, object_store_memory=STORE, **quiet)
        else:
            answers = _knock(os.environ.get("RAY_ADDRESS", "") if where == "auto" else where)
            ray.init(address=where, **quiet)
        return where == "local"
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0].partition(" To fix this")[0]
        mend = "start one with: ray start --head, or give --address auto, local or host:port"
        if answers:
            mend = "something answers there: is it a cluster's head, of the same Ray and Python, and does it ask for a token "
            mend += "(export RAY_AUTH_MODE=token)?"
        raise EngineError(f"no Ray cluster at {where!r} ({line}); {mend}") from error


def _check_connected(ray: Any, address: str | None) -> None:
    """Raise where this process is connected to another cluster than the one that is asked for."""
    connected = ray.get_runtime_context().gcs_address
    if address == "local":
        raise EngineError(
            f"this process is connected to the Ray cluster at {connected}; leave the address out to use it, or call "
            "ray.shutdown() first"
        )
    if address is None or ":" not in address:
        return
    host, _, port = address.rpartition(":")
    if address != connected and not (host in ("localhost", "127.0.0.1") and connected.endswith(f":{port}")):
        raise EngineError(
            f"this process is connected to the Ray cluster at {connected}, not to {address}; call ray.shutdown() first, or "
            "leave the address out"
        )


def _knock(address: str) -> bool:
    """Whether somebody answers at host:port. OSError where nobody does: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in address:
        return False
    socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()
    return True
