"""Many threads at once: through one packed matrix, through use_kernel, and with products that use threads themselves."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import views

from pyint8dot import linear, matmul, num_threads, pack, qlinear_matmul, use_kernel
from pyint8dot.engine import blocks, dispatch, layouts, settings, threads
from pyint8dot.search import Index

pytestmark = pytest.mark.each_processor

WORKERS = 8
ROUNDS = 6


def together(worker):
    """Call ``worker(number)`` in many threads that all start at the same moment; raise what any of them raises."""
    barrier = threading.Barrier(WORKERS)

    def start(number):
        barrier.wait()
        return worker(number)

    with ThreadPoolExecutor(WORKERS) as pool:
        return [future.result() for future in [pool.submit(start, number) for number in range(WORKERS)]]


def test_one_packed_matrix_in_many_threads(rng):
    """Every thread uses the same matrix, on another kernel each, which converts it while the others read it."""
    b = views.filled(rng, (77, 45), np.uint8)
    lefts = [views.filled(rng, (number + 1, 77), np.int8) for number in range(WORKERS)]
    wants = [views.product(a, b) for a in lefts]
    names = dispatch.supported()

    for _ in range(ROUNDS):
        packed = pack(b)

        def worker(number, packed=packed):
            for turn in range(ROUNDS):
                name = names[(number + turn) % len(names)]
                np.testing.assert_array_equal(matmul(lefts[number], packed, kernel=name), wants[number])

        together(worker)
        np.testing.assert_array_equal(packed.unpack(), b)


@pytest.mark.parametrize(
    ("before", "after"), [("PackedI8K16(4)", "PackedI8K4(8)"), ("PackedI8K4(8)", "PackedI8K16(4)")]
)
def test_another_search_brings_the_vectors_into_another_layout(rng, before, after):
    """A filter stands for the other thread, so that this happens between two rounds every time."""
    x = rng.integers(-127, 128, (3000, 16), np.int8)
    index = Index(x)

    def convert(name):
        for part in index._parts:
            if part.layout.name != name:
                part.convert(layouts.layout(name))

    def everything(ids):
        convert(after)
        return np.ones(ids.shape, bool)

    for k in (1, 1002):
        convert(before)
        found = index.search(x[:2], k, filter=everything, kernel="portable")
        for one, other in zip(found, Index(x).search(x[:2], k), strict=True):
            np.testing.assert_array_equal(one, other)


def test_use_kernel_belongs_to_its_thread(rng):
    """Threads that choose different kernels at the same time each get their own; the thread around them gets none of it."""
    a, b = views.filled(rng, (9, 20), np.int8), views.filled(rng, (20, 11), np.int8)
    want = views.product(a, b)
    names = dispatch.supported()
    outside = dispatch.select().name

    def worker(number):
        for turn in range(ROUNDS):
            name = names[(number + turn) % len(names)]
            with use_kernel(name), settings.tally() as counted:
                np.testing.assert_array_equal(matmul(a, b), want)
                assert dispatch.select().name == name
            assert counted.macs == {name: 9 * 20 * 11}
            assert dispatch.select().name == outside

    with use_kernel("portable"):
        together(worker)
        assert dispatch.select().name == "portable"
    assert dispatch.select().name == outside


def test_threads_that_use_threads(rng, kernel, monkeypatch):
    """Products that ask for threads of their own, from many threads, each on shapes of its own."""
    monkeypatch.setattr(blocks, "LEAST_WORK", 1)
    pairs = [
        (views.filled(rng, (40 + number, 33), np.int8), views.filled(rng, (33, 17 + number), np.int8))
        for number in range(WORKERS)
    ]
    wants = [views.product(a, b) for a, b in pairs]

    def worker(number):
        for turn in range(ROUNDS):
            got = matmul(*pairs[number], kernel=kernel, num_threads=1 + (number + turn) % 3)
            np.testing.assert_array_equal(got, wants[number])

    together(worker)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (None, 1), ("", 1), ("3", 3), (" 3 , 2", 3), ("4,3", 4), ("0", 1), ("-2", 1), ("2.5", 1), ("many", 1), (",", 1), ("007", 7),
        ("1024", 1024), ("1025", 1024), ("10239", 1024), ("9" * 5000, 1024), ("0" * 5000 + "2", 2), ("0" * 5000, 1), ("\u00b2", 1), ("\u0663", 1),
    ],
)  # fmt: skip
def test_whatever_the_environment_says_is_a_number_of_threads(value, count):
    assert threads.from_environment(value) == count


def test_little_work_is_left_to_one_thread(monkeypatch):
    """Waking a thread takes longer than a small product does."""
    monkeypatch.setattr(threads, "run", lambda tasks: pytest.fail(f"{len(tasks)} tasks"))
    a, w = np.ones((1, 16), np.int8), pack(np.ones((16, 1024), np.int8))
    for eight in (8, 1024):
        matmul(a, w, num_threads=eight)
        linear(a.astype(np.float32), w, w_scale=np.float32(1), num_threads=eight)
        qlinear_matmul(a, 1.0, 0, w, 1.0, 0, 1.0, 0, num_threads=eight)


def test_much_work_of_few_rows_is_shared(native_kernel, monkeypatch):
    """What fits the stack may be a product with a very wide matrix."""
    shared = []
    run = threads.run
    monkeypatch.setattr(threads, "run", lambda tasks: (shared.append(len(tasks)), run(tasks)))
    a, w = np.ones((1, 512), np.int8), pack(np.ones((512, 8192), np.int8))
    column = np.ones(8192, np.float32)
    with num_threads(2), use_kernel(native_kernel):
        for call in (
            lambda: matmul(a, w),
            lambda: linear(a.astype(np.float32), w, w_scale=column),
            lambda: qlinear_matmul(a, 1.0, 0, w, column, 0, 99.0, 0),
        ):
            # The first call makes the plan, the second finds it.
            call()
            call()
    assert shared == [2] * 6
    shared.clear()
    with use_kernel(native_kernel):
        matmul(a, w, num_threads=1)
    assert shared == []


def test_pickled_matrix_in_many_threads(rng, kernel):
    b = views.filled(rng, (21, 13), np.int8)
    stored = pickle.dumps(pack(b, kernel=kernel))
    a = views.filled(rng, (4, 21), np.uint8)
    want = views.product(a, b)

    def worker(number):
        np.testing.assert_array_equal(matmul(a, pickle.loads(stored), kernel=kernel), want)

    together(worker)


def test_a_product_does_without_threads_that_cannot_start(monkeypatch):
    """The tasks are all done, once each, and none is left behind for a thread that starts later."""

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_pool", threads._Pool())
    done = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        threads.run([lambda i=i: done.append(i) for i in range(4)])
    assert sorted(done) == [0, 1, 2, 3]
    threads.run([lambda: done.append(4), lambda: done.append(5)])
    assert sorted(done) == [0, 1, 2, 3, 4, 5]


def test_an_interrupted_product_waits_for_its_threads():
    """They write to memory that is given back when the call returns, so Ctrl-C must not leave them running."""
    begun, ended = threading.Event(), threading.Event()

    def task():
        if threading.current_thread() is threading.main_thread():
            assert begun.wait(60)
            raise KeyboardInterrupt
        begun.set()
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # while the caller waits
        time.sleep(0.2)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        threads.run([task, task])
    assert ended.is_set()


def test_an_error_in_a_thread_is_raised_after_all_have_ended():
    ended = []
    barrier = threading.Barrier(3)

    def task():
        turn = barrier.wait(60)
        if turn == 0:
            raise ValueError("turn 0")
        time.sleep(0.1)
        ended.append(turn)

    with pytest.raises(ValueError, match="turn 0"):
        threads.run([task] * 3)
    assert sorted(ended) == [1, 2]


def test_the_workspace_outlives_a_lack_of_memory():
    workspace = blocks._Workspace()
    with pytest.raises(MemoryError):
        workspace.take(1 << 60)
    at = workspace.take(1000)
    assert at
    assert at % 64 == 0
    ctypes.memset(at, 1, 1000)


def test_what_was_taken_from_the_workspace_stays_when_more_is_taken():
    """As a signal handler or a finalizer does that multiplies matrices between two steps of another product."""
    workspace = blocks._Workspace()
    size = 100_000
    at = workspace.take(size)
    workspace.take(10 * size)
    others = [np.empty(size + 4096 + 64, np.int8) for _ in range(20)]
    assert all(other.ctypes.data + other.nbytes <= at or at + size <= other.ctypes.data for other in others)


@pytest.mark.static  # the emulator itself does not survive a thread begun in a forked child
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_own_threads():
    """Forked while the threads of the parent are busy, which the child does not have."""

    def at_once(count):
        barrier = threading.Barrier(count)
        threads.run([lambda: barrier.wait(10)] * count)

    at_once(3)
    busy, release = threading.Barrier(3), threading.Event()

    def task():
        busy.wait(10)
        release.wait(10)

    other = threading.Thread(target=threads.run, args=([task, task],))
    other.start()
    busy.wait(10)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            at_once(3)
            code = 0
        finally:
            os._exit(code)
    release.set()
    other.join()
    assert os.waitpid(child, 0)[1] == 0
