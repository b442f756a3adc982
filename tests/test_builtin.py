"""The builtin that runs small programs: its ABI, where it is used and where not, and that nobody can tell."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support import builtin as fake
from support import child

from pyint8dot import matmul, pack
from pyint8dot.engine import builtin, native
from pyint8dot.engine.plan import Zeros
from pyint8dot.engine.recipe import Recipe, Right

pytestmark = pytest.mark.each_processor

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.native
def test_convention_on_plain_memory(checker, rng):
    """Called by the address in its own bytes, on objects that are memory of the test's: nothing but references changes."""

    def body(note):
        for m, k, n in ((1, 1, 1), (3, 10, 5), (8, 8, 8), (13, 40, 9)):
            note(f"{m} {k} {n}")
            assert fake.Call(rng, m, k, n).run(checker) == []

    child.check(body)


@pytest.mark.native
def test_the_lock_is_let_go_and_taken_again(checker, rng):
    """Once each, with the token of the one handed to the other, and nothing needed that the two may change."""
    lock = checker.address("lock_release"), checker.address("lock_take")

    def body(note):
        release = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_int64))(lock[0])
        counts = release()
        for number, (m, k, n) in enumerate(((1, 1, 1), (3, 10, 5), (13, 40, 9)), 1):
            note(f"{m} {k} {n}")
            assert fake.Call(rng, m, k, n, lock=lock).run(checker) == []
            assert (counts[0], counts[1]) == (number + 1, number)

    child.check(body)


@pytest.mark.native
def test_it_is_used_here():
    """On CPython, with its lock; without the builtin small products would be right, but slow."""
    assert (
        sys.implementation.name != "cpython"
        or builtin.objects_known()
        or os.environ.get(builtin.BUILTIN_VARIABLE) == "0"
    )


@pytest.mark.native
def test_references_stay_as_they_were(rng):
    """A thousand calls leave nothing behind, and take nothing, whether they hold the lock or not."""
    if builtin.quick() is None:
        pytest.skip("no builtin on this interpreter")
    for k, n, fine in ((8, 8, builtin.quick().holding.fine), (1024, 1024, builtin.quick().letting_go.fine)):
        a, w, out = np.ones((2, k), np.int8), pack(np.ones((k, n), np.int8)), np.empty((2, n), np.int32)
        matmul(a, w, out=out)
        before = [sys.getrefcount(x) for x in (a, out, fine)]
        for _ in range(1000 if k == 8 else 20):
            matmul(a, w, out=out)
        assert [sys.getrefcount(x) for x in (a, out, fine)] == before


@pytest.mark.parametrize("value", ["", "1"])
def test_it_is_on_by_default(value):
    assert builtin.allowed({builtin.BUILTIN_VARIABLE: value})
    assert builtin.allowed({})


def test_the_environment_turns_it_off():
    assert not builtin.allowed({builtin.BUILTIN_VARIABLE: "0"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("gettotalrefcount", lambda: 0), ("implementation", type("", (), {"name": "pypy"}))],
)
def test_other_interpreters_do_without(monkeypatch, name, value):
    monkeypatch.setattr(sys, name, value, raising=False)
    assert not builtin.objects_known()


@pytest.mark.parametrize("place", ["BYTES", "DATA", "DIMENSIONS", "STRIDES"])
def test_objects_that_look_otherwise_are_noticed(monkeypatch, place):
    monkeypatch.setattr(builtin, place, getattr(builtin, place) - 8)
    assert not builtin.objects_known()


SCRIPT = """
import json, sys
import numpy as np
import pyint8dot
from pyint8dot.engine import builtin
rng = np.random.default_rng(3)
results = [builtin.quick() is not None]
for m, k, n in ((1, 1, 1), (3, 5, 7), (8, 8, 8), (1, 64, 40), (0, 4, 3), (2, 9, 6)):
    a, b = rng.integers(-128, 128, (m, k), dtype=np.int8), rng.integers(-128, 128, (k, n), dtype=np.int8)
    x = a.astype(np.float32)
    scale, w = rng.random(n).astype(np.float32), pyint8dot.pack(b)
    for _ in range(2):
        results.append(pyint8dot.matmul(a, w).tolist())
        results.append(pyint8dot.matmul(a.view(np.uint8), w).tolist())
        results.append(pyint8dot.matmul_integer(a, w, a[:, 0].copy(), b[0]).tolist())
        results.append(pyint8dot.qlinear_matmul(a, 0.5, 3, w, scale, 0, 9.0, np.uint8(7)).tolist())
        results.append(pyint8dot.linear(x, w, w_scale=scale, bias=scale, act="gelu").tolist())
print(json.dumps(results))
"""


@pytest.mark.native
def test_results_do_not_depend_on_it():
    def results(switch: str) -> list:
        environment = {**os.environ, builtin.BUILTIN_VARIABLE: switch}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    with_it, without = results("1"), results("0")
    assert not without[0]
    assert with_it[1:] == without[1:]


@pytest.mark.native
def test_large_products_leave_the_lock_to_others(native_kernel):
    """No more multiply-accumulates are done under the lock than the call itself takes time for."""
    if builtin.quick() is None:
        pytest.skip("no builtin on this interpreter")
    from pyint8dot.engine import kernels

    row = kernels.KERNELS[native_kernel]
    most = builtin.HELD_CYCLES * row.rate
    k, n = 16, most // (16 * 4)
    packed = np.zeros(row.right.size(k, n), np.int8)
    plan = native.NativePlan(Recipe(row, Right(k, n, packed), np.dtype(np.int8), Zeros(), None, None))
    assert plan._held <= 4 < plan._built


@pytest.mark.native
def test_other_threads_run_during_a_large_product():
    """One thread multiplies on the builtin that lets go of the lock; another counts meanwhile."""
    if builtin.quick() is None:
        pytest.skip("no builtin on this interpreter")
    k, n = 4096, 2048
    a, w = np.ones((1, k), np.int8), pack(np.ones((k, n), np.int8))
    plan = w.on_default().product(a.dtype)
    assert plan._held < 1 <= plan._built
    started, done, seen = threading.Event(), threading.Event(), []

    def multiply():
        started.set()
        for _ in range(20):
            matmul(a, w, num_threads=1)
        done.set()

    # A thread that never gives the lock away of its own accord keeps it for longer than all the products take.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        worker = threading.Thread(target=multiply)
        worker.start()
        started.wait()
        while not done.is_set():
            seen.append(done.is_set())
            time.sleep(0)
        worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(seen) > 1
