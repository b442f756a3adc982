"""The assembly sources as text: contracts that parse and agree with the table of kernels, and the rules of the house."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import banner, entry, rows

from pyint8dot.engine import library

pytestmark = pytest.mark.static

ROOT = Path(__file__).resolve().parents[1]
ASM = ROOT / "asm"
SUPPORT = ROOT / "tests" / "support"
NEW_KERNEL = SUPPORT / "new_kernel"

SOURCES = entry.sources()
LAB = ROOT / "tests" / "lab"
EVERY_FILE = [path for folder in (*entry.FOLDERS, SUPPORT, NEW_KERNEL, LAB) for path in sorted(folder.glob("*.[Sh]"))]
ROWS = {row.name: row for row in (*rows.NATIVE, *rows.FEW)}
MAKERS = {**rows.PACKERS, **rows.GATHERERS}
# How contracts call the number of products that a sum has.
DEPTH = r"k|count \* k"

# The entries that add up products, and so are exact up to some depth.
PRODUCTS = [stem for stem in SOURCES if re.match(rf"exact for (?:{DEPTH}) <=", entry.contract(stem)["Bound"])]

# The entries that call others, and so the ones with a frame and a callee-saved register in them, and how many calls each has.
CALLERS = {"run": 1, "run_builtin": 3}

# What is no array of int64: the interpreter's own convention.
OBJECTS = r"PyObject \*{}\(PyObject \*self, PyObject \*const arguments\[\], int64_t count\)"

# What the calling convention has a function give back as it was.
CALLEE_SAVED = {*(f"x{i}" for i in range(19, 29)), *(f"v{i}" for i in range(8, 16))}

MOST_LINES = 400

# How a file switches on the feature that its contract names.
SWITCHES = {"asimd": "", "dotprod": "armv8.2-a+dotprod", "i8mm": "armv8.2-a+i8mm"}


def code(text: str) -> str:
    """A source without comments; lines keep their places."""
    blank = re.sub(r"/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), text, flags=re.DOTALL)
    return re.sub(r"//[^\n]*", "", blank)


def with_headers(path: Path, without: str = "") -> str:
    """The code of a file with that of the headers it includes before it, but for one."""
    text = code(path.read_text())
    # A header beside the file comes first, as for the assembler.
    found = re.findall(r'#include "(.*?)"', text)
    headers = [near if (near := path.parent / name).exists() else ASM / name for name in found if name != without]
    return "\n".join([*(with_headers(header, without) for header in headers), text])


@pytest.fixture(params=SOURCES)
def stem(request):
    return request.param


def test_there_are_sources():
    assert {*CALLERS, *ROWS} <= set(SOURCES)


def test_contract_has_every_key_in_order(stem):
    assert tuple(banner.parse(SOURCES[stem].read_text())) == banner.KEYS


def test_contract_values(stem):
    contract = banner.parse(SOURCES[stem].read_text())
    assert contract["Kernel"] == stem
    plain = rf"(void|int64_t) {library.PREFIX}{stem}\(const int64_t \w+\[\d*\]\)"
    assert re.fullmatch(f"{plain}|{OBJECTS.format(library.PREFIX + stem)}", contract["Prototype"])
    assert contract["Over-read"] == "none"
    clobbered, unused = (banner.registers(contract[key]) for key in ("Clobbers", "Unused"))
    kept = banner.kept(contract["Stack"])
    assert not clobbered & unused
    assert not clobbered & CALLEE_SAVED
    assert kept <= CALLEE_SAVED - unused
    # The frame of a leaf holds eight bytes of each register that it keeps and nothing else.
    assert banner.stack(contract["Stack"]) == 8 * len(kept) or stem in CALLERS


@pytest.mark.parametrize("name", sorted(set(SOURCES) - set(CALLERS)))
def test_contract_lists_every_argument(name):
    """The fields are numbered from 0 and are as many as the prototype says."""
    contract = banner.parse(SOURCES[name].read_text())
    numbers = [int(number) for number in re.findall(r"^\[(\d+)\] ", contract["Arguments"], re.MULTILINE)]
    size = re.search(r"\[(\d+)\]\)", contract["Prototype"])[1]
    assert numbers == list(range(int(size)))


def test_file_defines_the_entry_of_its_name(stem):
    text = code(SOURCES[stem].read_text())
    # Windows can only unwind a frame that it has been told of.
    framed = ", framed" if banner.stack(entry.contract(stem)["Stack"]) else ""
    assert re.findall(r"^function (\w.*)", text, re.MULTILINE) == [stem + framed]
    assert re.findall(r"^endfunction (\w.*)", text, re.MULTILINE) == [stem + framed]


def test_files_are_the_exported_entries():
    assert set(SOURCES) == set(library.ENTRIES)
    assert len(set(library.ENTRIES)) == len(library.ENTRIES)


@pytest.mark.parametrize("name", ROWS)
def test_contract_agrees_with_the_table(name):
    row, contract = ROWS[name], banner.parse(SOURCES[name].read_text())
    # A row needs what its file needs, and what the files of those need that take its place.
    assert {entry.feature(stem) for stem in (name, *(few.name for few in row.few))} == row.features
    assert contract["Tile"] == f"{row.mr} x {row.nr}"
    # Operands that are packed alike are named once, and rows that are read as they lie are no packing.
    packed = dict.fromkeys([row.left.name, row.right.name] if row.packs_left else [row.right.name])
    assert contract["Packing"] == f"{' and '.join(packed)}, K group {row.right.kr}"
    assert exact_k(name) == row.bound


@pytest.mark.parametrize("name", rows.PLANES)
def test_contract_of_planes_agrees_with_their_kernel(name):
    """It is the same product, of the same left operand, exact up to the same depth."""
    row, contract = rows.PLANES[name], entry.contract(name)
    assert {key: contract[key] for key in ("Requires", "Tile", "Packing")} == {
        key: entry.contract(row.name)[key] for key in ("Requires", "Tile", "Packing")
    }
    assert exact_k(name) == row.bound


@pytest.mark.parametrize("name", MAKERS)
def test_contract_of_a_packer_agrees_with_its_layout(name):
    layout = MAKERS[name]
    assert entry.contract(name)["Packing"] == f"{layout.name}, K group {layout.kr}"


def exact_k(name):
    """The largest K for which a contract promises exact sums."""
    return int(re.search(rf"exact for (?:{DEPTH}) <= (\d+)\b", entry.contract(name)["Bound"])[1])


@pytest.mark.parametrize("name", PRODUCTS)
def test_bound_is_the_largest_exact_k(name):
    """The sum that grows fastest is that of -128 x -128."""
    bound = exact_k(name)
    assert bound * 128 * 128 < 2**31 <= (bound + 1) * 128 * 128


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: path.name)
def test_text(path):
    text = path.read_text(encoding="ascii")
    lines = text.split("\n")
    assert "\t" not in text
    assert "\r" not in text
    assert [number for number, line in enumerate(lines, 1) if line != line.rstrip()] == []
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert len(lines) - 1 <= MOST_LINES


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: path.name)
def test_no_encoded_instruction(path):
    """An instruction has a name that a reader and an assembler know, never a number."""
    text = code(path.read_text())
    assert re.findall(r"\.inst\b", text) == []
    # Words are for notes and data, which lie in sections of their own.
    sections = re.split(r"(?m)^\s*\.?(text|data|section|constants)\b", text)
    in_text = [
        sections[0],
        *(part for kind, part in zip(sections[1::2], sections[2::2], strict=True) if kind == "text"),
    ]
    assert re.findall(r"\.(?:word|long|hword|short|byte|[248]byte|int|xword|quad|octa)\b", "".join(in_text)) == []


def test_portability_is_in_the_header(stem):
    """No file but asm.h speaks of object formats; of the assemblers, a kernel names only its feature's switch."""
    text = code(SOURCES[stem].read_text())
    assert '#include "asm.h"' in text
    assert not re.search(r"__ELF__|_WIN32|\.section|\.globl|\.type|\.size|\.cfi_|\.seh_|@PAGE|:lo12:", text)


def test_leaf(stem):
    """One way out, no call, no stack and no register that the caller or the platform owns, but for what the contract keeps.

    Macros put register numbers together, which a text does not show: test_elf.py looks at the same in the built library.
    """
    # asm.h poisons x18 and has macros for frames.
    text = with_headers(SOURCES[stem], without="asm.h")
    returns, calls = (re.findall(rf"^\s+({word})\b", text, re.MULTILINE) for word in ("ret", "bl|blr|br"))
    general = {f"x{number}" for number in re.findall(r"\b[xw](\d+)\b", text) if int(number) >= 18}
    vector = {f"v{number}" for number in re.findall(r"\b[vqd](\d+)\b", text) if 8 <= int(number) <= 15}
    assert returns == ["ret"]
    kept = banner.kept(entry.contract(stem)["Stack"])
    assert vector <= kept
    if stem in CALLERS:
        assert calls == ["blr"] * CALLERS[stem]
        assert general & ({"x18"} | banner.registers(banner.parse(SOURCES[stem].read_text())["Unused"])) == set()
    else:
        assert calls == []
        assert general <= kept
        assert kept or re.findall(r"\b(?:sp|open_frame)\b", text) == []


@pytest.mark.parametrize("name", SOURCES)
def test_features_are_off_by_default(name):
    """A file switches on what its contract says it needs, once and in front of its own code; headers switch nothing on."""
    wanted = SWITCHES[entry.feature(name)]
    text = code(SOURCES[name].read_text())
    switches = re.findall(r"^\s+\.(?:arch|cpu)\s+(\S+)", text, re.MULTILINE)
    extensions = re.findall(r"^\s+\.arch_extension\s+(\S+)", text, re.MULTILINE)
    assert switches == ([wanted] if wanted else [])
    assert extensions == ([wanted.split("+")[1]] if wanted else [])
    if wanted:
        assert text.rindex("#include") < text.index(".arch")


def test_headers_switch_no_feature_on():
    for path in ASM.glob("*.h"):
        switches = re.findall(r"^\s+\.(?:arch|cpu|arch_extension)\s+(\S+)", code(path.read_text()), re.MULTILINE)
        assert switches in ([], ["armv8-a"]), path.name


def test_x18_is_poisoned():
    """Naming the platform's register must not assemble in any file of the product."""
    text = (ASM / "asm.h").read_text()
    assert re.search(r"^#define x18 \w+$", text, re.MULTILINE)
    assert re.search(r"^#define w18 \w+$", text, re.MULTILINE)
    assert [stem for stem, path in SOURCES.items() if "#undef" in path.read_text()] == []


def test_labels_are_local_and_unique(stem):
    """Every label goes through L(), which keeps it out of the symbol table, and none is defined twice in a file."""
    text = with_headers(SOURCES[stem])
    assert re.findall(r"^(?!_?pyint8dot_\\name)[A-Za-z_.0-9]+:", text, re.MULTILINE) == []
    labels = re.findall(r"^L\(([^)]*\)?[^)]*)\):", code(SOURCES[stem].read_text()), re.MULTILINE)
    assert len(labels) == len(set(labels))


def uncommented(text):
    """The macros without a sentence right above them."""
    # One that ends in the line before, with a full stop, or with a colon before what it introduces.
    above = re.compile(r"/\* (?:[^*]|\*(?!/))*?[.:] \*/\n\Z|(?:^ *// .*\n)+\Z", re.MULTILINE)
    macros = re.finditer(r"^ *\.macro (\S+)", text, re.MULTILINE)
    return [macro[1] for macro in macros if not above.search(text[: macro.start()])]


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: path.name)
def test_every_macro_has_a_sentence(path):
    assert uncommented(path.read_text()) == []


def test_a_macro_without_a_sentence_is_seen():
    said = "/* The sum of two\n * registers. */\n.macro said\n.endm\n"
    assert uncommented(said + "// So it is.\n.macro too\n.endm\n") == []
    assert uncommented(said + ".macro close\n.endm\n\n.macro apart\n.endm\n/* Word */\n.macro word\n.endm\n") == [
        "close", "apart", "word",
    ]  # fmt: skip
    assert uncommented("/* A comment that is far away. */\n\n.macro far\n.endm\n") == ["far"]


def test_every_entry_says_what_it_does(stem):
    """In the code of an entry as well, where that is more than a macro and its return."""
    body = re.search(r"^function .*?^endfunction", SOURCES[stem].read_text(), re.MULTILINE | re.DOTALL)[0]
    assert re.search(r"^ +// [A-Z0-9]", body, re.MULTILINE) or body.count("\n") <= 3
