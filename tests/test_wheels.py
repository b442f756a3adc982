"""`make wheels`: what it refuses. That it accepts what it has just made is its own run's affair."""

from __future__ import annotations

import zipfile

import pytest

pytest.importorskip("lief")

from wheels import make

import build

pytestmark = pytest.mark.static

TRACKED = {"pyint8dot/__init__.py", "pyint8dot/py.typed", "README.md", ".ci/run"}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Makes a wheel of these names for a target; git knows TRACKED."""
    monkeypatch.setattr(make, "tracked", lambda: TRACKED)

    def written(target, *names):
        path = tmp_path / f"{target}.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name in (*names, "pyint8dot-0.2.0.dist-info/METADATA"):
                archive.writestr(name, "")
        return {target: path}

    return written


PACKAGE = ("pyint8dot/__init__.py", "pyint8dot/py.typed")


@pytest.mark.parametrize("target", build.TARGETS)
def test_a_wheel_has_the_package_and_its_library(wheel, target):
    library = f"pyint8dot/lib/{make.library_name(target)}"
    ((name, what),) = make.contents(wheel(target, *PACKAGE, library))
    assert (name, what) == (target, "3 files, those of git and the library")
    with pytest.raises(make.WheelError, match=f"on one side only: {library}"):
        list(make.contents(wheel(target, *PACKAGE)))


@pytest.mark.parametrize("stray", ["pyint8dot/notes.py", "pyint8dot/lib/libpyint8dot.so", "README.md"])
def test_what_git_does_not_know_or_the_package_does_not_hold_is_refused(wheel, stray):
    with pytest.raises(make.WheelError, match=f"on one side only: {stray}"):
        list(make.contents(wheel(build.PORTABLE, *PACKAGE, stray)))


def test_without_git_nothing_is_claimed(wheel, monkeypatch):
    monkeypatch.setattr(make, "tracked", lambda: None)
    ((_, what),) = make.contents(wheel(build.PORTABLE, "anything"))
    assert what.startswith("not compared")


def test_a_wheel_that_differs_when_built_again_is_refused(monkeypatch, tmp_path):
    files = [tmp_path / "first.whl", tmp_path / "second.whl"]
    for path in files:
        path.write_text(path.name)
    monkeypatch.setattr(make, "DIST", tmp_path / "dist")
    monkeypatch.setattr(make, "make", lambda *_: {"source": files[0]})
    monkeypatch.setattr(make, "again", lambda *_: {"source": files[1]})
    with pytest.raises(make.WheelError, match=r"first\.whl is not the same when built again"):
        make.main()
    assert not make.DIST.exists()


def test_a_command_that_fails_is_shown_with_what_it_said():
    with pytest.raises(make.WheelError, match=r"(?s)`.*-c.*` failed:.*no such thing"):
        make.run([make.sys.executable, "-c", "raise SystemExit('no such thing')"])
