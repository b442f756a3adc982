"""Finding out which cores this process may run on, with the system's answers put in its mouth."""

from __future__ import annotations

import os
import sys

import pytest

from pyint8dot.engine import cpu

A55, A76 = (0x41, 0xD05), (0x41, 0xD0B)


def listed_below_sys(directory, cores):
    """What Linux keeps of each processor, variant and revision set as well."""
    for number, (implementer, part) in cores.items():
        folder = directory / f"cpu{number}" / "regs" / "identification"
        folder.mkdir(parents=True)
        (folder / "midr_el1").write_text(f"{implementer << 24 | 0xF << 20 | 0xF << 16 | part << 4 | 0xF:#018x}\n")
    return directory


def listed_in_cpuinfo(path, cores):
    """The same as /proc/cpuinfo has it."""
    path.write_text(
        "".join(
            f"processor\t: {number}\nBogoMIPS\t: 48.00\nFeatures\t: fp asimd\nCPU implementer\t: {implementer:#04x}\n"
            f"CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {part:#05x}\nCPU revision\t: 0\n\n"
            for number, (implementer, part) in cores.items()
        )
    )
    return path


@pytest.mark.parametrize(
    ("cores", "allowed", "expected"),
    [
        ({0: A55, 1: A55}, {0, 1}, {"cortex-a55"}),
        # Big and little: what counts is where this process may run, not what there is.
        ({0: A55, 1: A55, 2: A76, 3: A76}, {0, 1, 2, 3}, {"cortex-a55", "cortex-a76"}),
        ({0: A55, 1: A55, 2: A76, 3: A76}, {0, 1}, {"cortex-a55"}),
        ({0: A55, 1: A55, 2: A76, 3: A76}, {3}, {"cortex-a76"}),
        # The same part number of another implementer is another core.
        ({0: (0x51, 0xD05)}, {0}, {"0x51-0xd05"}),
        ({0: (0x61, 0x022)}, {0}, {"0x61-0x022"}),
        ({0: A55}, {0, 1}, {"cortex-a55", "unknown"}),
        ({}, {0, 1}, {"unknown"}),
        ({0: A55}, set(), set()),
    ],
)
@pytest.mark.parametrize("where", ["sys", "cpuinfo", "both"])
def test_cores_are_those_this_process_may_run_on(tmp_path, where, cores, allowed, expected):
    directory, cpuinfo = tmp_path / "cpu", tmp_path / "cpuinfo"
    if where != "cpuinfo":
        listed_below_sys(directory, cores)
    if where != "sys":
        # Where both say something of a processor, what Linux keeps of it counts.
        listed_in_cpuinfo(cpuinfo, cores if where == "cpuinfo" else dict.fromkeys(cores, (0x41, 0xD03)))
    for system in ("linux", "android"):
        found = cpu.identify_cores(system, affinity=lambda: allowed, directory=directory, cpuinfo=cpuinfo)
        assert found == expected


def test_a_processor_that_one_place_lacks_is_looked_up_in_the_other(tmp_path):
    directory = listed_below_sys(tmp_path / "cpu", {0: A76})
    (directory / "cpu1" / "regs" / "identification").mkdir(parents=True)
    (directory / "cpu1" / "regs" / "identification" / "midr_el1").write_text("no number\n")
    cpuinfo = listed_in_cpuinfo(tmp_path / "cpuinfo", {0: A55, 1: A55})
    found = cpu.identify_cores("linux", affinity=lambda: (0, 1), directory=directory, cpuinfo=cpuinfo)
    assert found == {"cortex-a76", "cortex-a55"}


def test_the_list_of_another_architecture_names_no_core(tmp_path):
    """As an emulator of a process may pass it on from the machine that it runs on."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n\nprocessor\t: 1\n\n")
    found = cpu.identify_cores("linux", affinity=lambda: (0, 1), directory=tmp_path, cpuinfo=cpuinfo)
    assert found == {"unknown"}


@pytest.mark.parametrize("system", ["darwin", "win32", "freebsd14"])
def test_off_linux_nobody_asks_for_cores(tmp_path, system):
    directory = listed_below_sys(tmp_path, {0: A55})
    assert cpu.identify_cores(system, affinity=lambda: {0}, directory=directory) == frozenset()


def test_no_affinity_is_no_cores(monkeypatch, tmp_path):
    def refuse(pid):
        raise OSError("Function not implemented")

    monkeypatch.setattr(os, "sched_getaffinity", refuse, raising=False)
    assert set(cpu.read_affinity()) == set()
    monkeypatch.delattr(os, "sched_getaffinity")
    assert set(cpu.read_affinity()) == set()
    assert cpu.identify_cores("linux", directory=listed_below_sys(tmp_path, {0: A55})) == frozenset()


def test_no_cores_off_aarch64(monkeypatch, fresh):
    monkeypatch.setattr(cpu, "is_aarch64", lambda: False)
    assert cpu.cores() == frozenset()


@pytest.mark.native
def test_cores_of_a_known_model(fresh):
    """Set-up shows every processor of this machine as one of the model."""
    found = cpu.cores()
    model = os.environ.get("QEMU_CPU", "")
    if model in ("cortex-a72", "neoverse-n1"):
        assert found == {model}
    assert bool(found) is sys.platform.startswith("linux")
