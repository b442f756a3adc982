"""The shared headers of the assembly refuse to assemble for a K group or a tile that they do not implement, and say why."""

from __future__ import annotations

import re

import pytest
from support import entry, rows

import build

pytestmark = pytest.mark.static


def source(stem: str) -> str:
    return entry.sources()[stem].read_text()


def includes(stem: str, header: str) -> bool:
    return f'#include "{header}"' in source(stem)


# What the files that include a header with guards tell it: the K group of the layout they read or make.
RIGHT = {
    **{
        stem: f"GROUP {layout.kr}"
        for header, makers in (("pack.h", rows.PACKERS), ("gather.h", rows.GATHERERS))
        for stem, layout in makers.items()
        if includes(stem, header)
    },
    **{row.name: f"GROUP_LOG2 {row.right.kr.bit_length() - 1}" for row in rows.NATIVE if includes(row.name, "tile.h")},
}

# A file that includes each.
PACKER, GATHERER, KERNEL = (
    next(stem for stem in RIGHT if includes(stem, header)) for header in ("pack.h", "gather.h", "tile.h")
)

PACK = "pack.h packs in K groups of 1, 4 and 8: define GROUP as one of them"
GATHER = "gather.h packs in K groups of 1, 4 and 8: define GROUP as one of them"
GROUPS = "tile.h has the loops of K groups of 1, 4 and 8: define GROUP_LOG2 as 0, 2 or 3"
TILE = "tile.h has the loops of tiles of 8 x 8: define MR and NR as 8"

# A file, the constant it defines, what it defines instead ("" for nothing), and the message it then gets.
WRONG = [
    *[(PACKER, "GROUP", value, PACK) for value in ("", "0", "2", "16", "-1")],
    *[(GATHERER, "GROUP", value, GATHER) for value in ("", "0", "2", "16", "-1")],
    *[(KERNEL, "GROUP_LOG2", value, GROUPS) for value in ("", "1", "4", "-1")],
    *[(KERNEL, name, value, TILE) for name in ("MR", "NR") for value in ("", "4", "12", "16")],
]

# Macros that take a number of rows.
ROWS = [
    (KERNEL, "do_rows {}, load_columns", "tile.h has tiles of 8, 4, 2 and 1 rows"),
    (PACKER, "pack_rows {}", "pack.h has panels of 8, 4, 2 and 1 rows"),
]


@pytest.fixture
def complaints(tmp_path):
    """A function that assembles a text with the flags of the library and gives what was complained of, nothing if it went well."""
    target = "linux-aarch64"
    compiler = build.find_compiler(target)
    if compiler is None:
        pytest.skip(build.no_toolchain(target))

    def assemble(text: str) -> str:
        file = tmp_path / "snippet.S"
        file.write_text(text)
        flags = [*build.COMPILE_FLAGS, *build.TARGETS[target]["compile"]]
        try:
            build.run([*compiler, *flags, str(file), "-o", str(tmp_path / "snippet.o")])
        except build.BuildError as error:
            return str(error)
        return ""

    return assemble


@pytest.mark.parametrize("stem", RIGHT)
def test_what_is_implemented_assembles(complaints, stem):
    name, value = RIGHT[stem].split()
    assert re.search(rf"^#define {name} +{value}$", source(stem), re.MULTILINE)
    assert complaints(source(stem)) == ""


@pytest.mark.parametrize(("stem", "name", "value", "message"), WRONG)
def test_what_is_not_does_not(complaints, stem, name, value, message):
    """The same file with one constant changed."""
    instead = f"#define {name} {value}" if value else ""
    text, changed = re.subn(rf"^#define {name} .*$", instead, source(stem), flags=re.MULTILINE)
    assert changed == 1
    assert message in complaints(text)


@pytest.mark.parametrize(("stem", "use", "message"), ROWS)
def test_number_of_rows(complaints, stem, use, message):
    """The same file with one more use of a macro of its header."""
    assert message in complaints(f"{source(stem)}\n        {use.format(3)}\n")
    assert message not in complaints(f"{source(stem)}\n        {use.format(4)}\n")
