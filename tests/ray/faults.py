"""Functions that die, fail and sleep in the middle of their work. What they did is remembered by files in a folder."""

import os
import signal
import time
from pathlib import Path

import numpy as np


def attempt(folder, what):
    """Which attempt at this work it is, from 1; every attempt leaves a file."""
    for number in range(1, 1000):
        try:
            os.close(os.open(Path(folder) / f"{what}-{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return number
    raise AssertionError("a thousand attempts")


def attempts(folder):
    """How often each work was begun, by its name."""
    names = [name.rpartition("-")[0] for name in os.listdir(folder)]
    return {name: names.count(name) for name in sorted(set(names)) if name}


def die():
    """End the process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def fail():
    """Fail by a mistake of its own."""
    raise RuntimeError("the block cannot be worked on\nsecond line")


TROUBLES = {"dies": die, "fails": fail}


def sums(block, folder, slab, trouble, times):
    """The sum of a block's rows; the first attempts at one slab go wrong, as long as nobody mends it."""
    here = block.start // (1 << 16)
    number = attempt(folder, f"slab{here}")
    if here == slab and number <= times and not (Path(folder) / "mended").exists():
        TROUBLES[trouble]()
    return block.x.sum(axis=0, dtype=np.float64)


def squares(folder, wrong, trouble, times, at):
    """The square of a number; the first attempts at one number go wrong."""
    if attempt(folder, f"call{at}") <= times and at == wrong:
        TROUBLES[trouble]()
    return at * at


def wait_for(condition, seconds=60):
    """Whether it came true in time."""
    for _ in range(seconds * 50):
        if condition():
            return True
        time.sleep(0.02)
    return False


def held(folder, first, others, at):
    """A call that waits for others, as on a slow machine: whether they went on without it, and how far."""
    attempt(folder, f"call{at}")
    if at != first:
        return at
    went_on = wait_for(lambda: all(f"call{other}" in attempts(folder) for other in others))
    return went_on, len(attempts(folder))


def alone(folder, at):
    """Whether no other call runs at the same time."""
    try:
        os.mkdir(Path(folder) / "running")
    except FileExistsError:
        return False
    time.sleep(0.05)
    os.rmdir(Path(folder) / "running")
    return True


def raises(folder, error, at):
    """A call that raises the error it was given."""
    attempt(folder, f"call{at}")
    raise error


def sleeps(seconds, at):
    """A call that takes its time."""
    time.sleep(seconds)
    return at


def beside(folder, doomed, at):
    """The square of a number, many times. The third call on a machine does not end; call 0 waits until the machine is gone."""
    import ray

    attempt(folder, f"call{at}")
    if at == 0:
        wait_for((Path(folder) / "gone").exists)
    if ray.get_runtime_context().get_node_id() == doomed and attempt(folder, "there") == 3:
        attempt(folder, "caught")
        time.sleep(600)
    return np.full(50_000, at * at)


def explode():
    """What unpacking a `Bomb` comes to."""
    raise ModuleNotFoundError("No module named 'kofn.nowhere'")


class Bomb:
    """Cannot be unpacked."""

    def __reduce__(self):
        return explode, ()


def crack(folder):
    """What unpacking a `Half` comes to: the first process that tries is broken for good."""
    marker = Path(folder) / "process"
    if not marker.exists():
        marker.write_text(str(os.getpid()))
    if marker.read_text() == str(os.getpid()):
        raise AttributeError("module 'numba' has no attribute 'core'")
    return 0.0


class Half:
    """Cannot be unpacked in one of the processes."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return crack, (self.folder,)


def process(at):
    """Whose process this is."""
    return os.getpid()


def killed_once(folder, *given):
    """What a worker does with some slabs; the first one that is asked dies of it."""
    from kofn.blocks.remote import slabs_of

    if attempt(folder, "slabs") == 1:
        die()
    return slabs_of(*given)


def numbers(at):
    """An array that is large enough to lie in Ray's shared memory, or a small one."""
    return np.arange([100_000.0, 10.0][at])
