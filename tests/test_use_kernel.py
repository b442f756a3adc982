"""The choice as a program makes it: blocks of `use_kernel`, threads and tasks beside each other, the environment of real processes."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import rows

from pyint8dot.engine import cpu, dispatch
from pyint8dot.engine.kernels import KERNELS
from pyint8dot.errors import KernelError, listing


def test_use_kernel_nests_and_ends(kernel):
    before = dispatch.select()
    with dispatch.use_kernel(kernel) as entered:
        assert entered is KERNELS[kernel]
        with dispatch.use_kernel("portable"):
            assert dispatch.select().name == "portable"
        assert dispatch.select() is entered
    assert dispatch.select() is before


def test_use_kernel_ends_when_the_block_fails():
    before = dispatch.select()
    with pytest.raises(ZeroDivisionError), dispatch.use_kernel("portable"):
        _ = 1 // 0
    assert dispatch.select() is before


def test_use_kernel_refuses_before_the_block():
    with pytest.raises(KernelError):
        dispatch.use_kernel("none")


def test_use_kernel_as_a_decorator():
    @dispatch.use_kernel("portable")
    def chosen():
        return dispatch.select().name

    assert chosen() == chosen() == "portable"


def test_threads_do_not_see_each_other():
    """Every thread holds its own kernel at the same moment as all the others."""
    names = dispatch.supported()
    count = 8
    together = threading.Barrier(count)

    def work(i):
        name = names[i % len(names)]
        seen = set()
        for _ in range(50):
            with dispatch.use_kernel(name):
                seen.add(dispatch.select().name)
            seen.add(("outside", dispatch.select().name))
        with dispatch.use_kernel(name):
            together.wait(60)
            seen.add(dispatch.select().name)
            together.wait(60)
        return seen == {name, ("outside", default)}

    default = dispatch.select().name
    with ThreadPoolExecutor(count) as pool:
        assert all(pool.map(lambda i: contextvars.Context().run(work, i), range(count)))


def test_tasks_do_not_see_each_other():
    async def task(name):
        with dispatch.use_kernel(name):
            await asyncio.sleep(0)
            first = dispatch.select().name
            await asyncio.sleep(0)
        return first

    async def main():
        return await asyncio.gather(*(task(name) for name in dispatch.supported() * 3))

    assert asyncio.run(main()) == list(dispatch.supported() * 3)


# The environment of real processes.


def child(code, **variables):
    """Run `code` in a new interpreter with these environment variables and no other switches of ours."""
    clean = {
        name: value for name, value in os.environ.items() if name not in ("PYINT8DOT_KERNEL", "TRACT_DOTPROD_DISABLE")
    }
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | variables, capture_output=True, text=True, check=False, timeout=300
    )


# What emulated processors have of the features that kernels need.
MODELS = {"cortex-a72": frozenset({"asimd"}), "neoverse-n1": frozenset({"asimd", "dotprod"})}
INFO = "import json; from pyint8dot.engine import dispatch; print(json.dumps(dispatch.kernel_info()))"


@pytest.mark.each_processor
def test_a_child_process_chooses_the_best():
    done = child(INFO)
    assert done.returncode == 0, done.stderr
    info = json.loads(done.stdout)
    assert info["chosen"] == dispatch.supported()[0]
    assert info["environment"] == {"PYINT8DOT_KERNEL": None, "TRACT_DOTPROD_DISABLE": None}
    model = os.environ.get("QEMU_CPU")
    if cpu.is_aarch64() and model in MODELS:
        assert info["chosen"] == rows.best(MODELS[model]).name


@pytest.mark.each_processor
def test_a_child_process_obeys_both_variables():
    baseline = [name for name in dispatch.supported() if KERNELS[name].features <= {"asimd"}]
    done = child(
        f"{INFO}\nprint(dispatch.select().name)\nwith dispatch.use_kernel(dispatch.supported()[0]) as k: print(k.name)",
        TRACT_DOTPROD_DISABLE="1",
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert json.loads(first)["environment"]["TRACT_DOTPROD_DISABLE"] == "1"
    # The switch changes what is chosen, not what may be asked for.
    assert rest == [baseline[0], dispatch.supported()[0]]


def test_a_child_process_obeys_a_name(kernel):
    done = child(INFO, PYINT8DOT_KERNEL=kernel)
    assert done.returncode == 0, done.stderr
    info = json.loads(done.stdout)
    assert info["chosen"] == kernel
    assert "PYINT8DOT_KERNEL" in info["why"]


def test_a_child_process_with_a_wrong_name_fails_at_the_first_choice_only():
    code = (
        f"{INFO}\n"
        "print(dispatch.select('portable').name)\n"
        "with dispatch.use_kernel('portable'): print(dispatch.select().name)\n"
        "dispatch.select()\n"
    )
    done = child(code, PYINT8DOT_KERNEL="no_such_kernel")
    first, *rest = done.stdout.splitlines()
    info = json.loads(first)
    assert info["chosen"] is None
    assert "PYINT8DOT_KERNEL" in info["why"]
    assert rest == ["portable", "portable"]
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "KernelError" in last
    assert "PYINT8DOT_KERNEL asks for 'no_such_kernel', but there is no such kernel" in last
    assert f"this machine runs {listing(dispatch.supported())}" in last
