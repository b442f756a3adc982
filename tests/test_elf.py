"""The library as a file: what it exports, needs and contains, read back from the ELF image on any host."""

from __future__ import annotations

import struct
import sys
from typing import Any, NamedTuple

import capstone
import pytest
from elftools.elf.elffile import ELFFile
from support import banner
from support.entry import contract, feature

import build
from pyint8dot.engine import library

pytestmark = pytest.mark.static

TARGET = "linux-aarch64"
EXPORTS = {library.PREFIX + stem: stem for stem in library.ENTRIES}

# The entries that call others, and how many calls each has; all the rest are leaves.
CALLERS = {"run": 1, "run_builtin": 3}

# Every mnemonic that an entry may have, all of them Armv8.0 but the landing pad, which is a hint there.  One that is not
# here fails: add it if it is meant.
GROUPS = (
    # Branches
    "b b.eq b.ne b.hs b.lo b.hi b.ls b.mi b.pl b.ge b.gt b.le b.lt cbz cbnz tbz tbnz ret bti",
    # Numbers and addresses
    "add adds sub subs and ands orr eor bic bfi lsl lsr asr ubfx sbfx rbit clz madd mneg msub mul neg mov movk movz adr adrp",
    "ccmp cmp cmn tst cset csel csinc cinc",
    # Memory
    "ldp ldr ldrb ldrsb ldrsw stp str strb ld1 ld1r ld2 ld2r ld4 ld4r st1 st2 st4",
    # Vectors of integers
    "addp addv cmge cmgt dup ext ins mla movi mvni saddlp saddw saddw2 sadalp shl smax smin smlal smlal2 smlsl smlsl2 smov smull smull2 sqadd",
    "sqxtn sqxtn2 sqxtun sqxtun2 srshl sshl sshll sshll2 ssra sxtb sxtl sxtl2 tbl tbx trn1 trn2 umax umov ushl uzp1 uzp2 xtn xtn2 zip1 zip2",
    # Vectors of floats: no fused multiply-add, which would round once where numpy rounds twice
    "fabs fadd faddp fcmeq fcmgt fcmp fcsel fcvtns fdiv fmax fmaxnm fmaxnmv fmaxv fmin fminv fmov fmul fneg fsqrt fsub scvtf ucvtf",
)
ALLOWED = {mnemonic for group in GROUPS for mnemonic in group.split()}

# Those that call others have the one instruction for it.
ALLOWED_IN = {caller: {"blr"} for caller in CALLERS} | {stem: {"fmla"} for stem in ("attention", "product_f32", "lstm")}

# Instructions beyond Armv8.0, by the feature that announces them: allowed in the kernels that need it and nowhere else.
BY_FEATURE = {"dotprod": {"sdot"}, "i8mm": {"smmla", "usdot", "ummla"}}


class Function(NamedTuple):
    """A function of the library: where it lies and its decoded instructions."""

    address: int
    size: int
    code: list[Any]

    def registers(self) -> set[str]:
        """Every register that an instruction reads or writes, x and v standing for all widths."""
        numbers = set()
        for instruction in self.code:
            for group in instruction.regs_access():
                numbers |= {_wide(instruction.reg_name(register)) for register in group}
        return numbers


def _wide(name: str) -> str:
    name = {"fp": "x29", "lr": "x30"}.get(name, name)
    if name[0] == "w" and name[1:].isdigit():
        return "x" + name[1:]
    if name[0] in "vqdshb" and name[1:].isdigit():
        return "v" + name[1:]
    return name


@pytest.fixture(scope="module")
def image():
    """The ELF library, brought up to date where this host has a toolchain for it."""
    if sys.platform == "darwin":
        pytest.skip("macOS has the Mach-O library, see test_build.py")
    file = build.build(build.PRODUCT, TARGET)
    if file is None:
        pytest.skip(build.no_toolchain(TARGET))
    with file.open("rb") as stream:
        yield ELFFile(stream)


@pytest.fixture(scope="module")
def functions(image):
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    decoder.detail = True
    text = image.get_section_by_name(".text")
    found = {}
    for symbol in image.get_section_by_name(".dynsym").iter_symbols():
        if symbol.name in EXPORTS:
            address, size = symbol["st_value"], symbol["st_size"]
            start = address - text["sh_addr"]
            found[EXPORTS[symbol.name]] = Function(
                address, size, list(decoder.disasm(text.data()[start : start + size], address))
            )
    return found


def segments(image, kind):
    return [segment for segment in image.iter_segments() if segment["p_type"] == kind]


def tags(image):
    return {tag.entry.d_tag: tag for tag in image.get_section_by_name(".dynamic").iter_tags()}


def test_is_a_shared_library_for_aarch64(image):
    assert (image["e_machine"], image["e_type"], image.elfclass, image.little_endian) == (
        "EM_AARCH64",
        "ET_DYN",
        64,
        True,
    )


def test_exports_are_the_table(image):
    symbols = [symbol for symbol in image.get_section_by_name(".dynsym").iter_symbols() if symbol.name]
    assert {symbol.name for symbol in symbols} == set(EXPORTS)
    for symbol in symbols:
        assert symbol["st_shndx"] != "SHN_UNDEF", f"{symbol.name} is wanted from elsewhere"
        assert symbol["st_info"]["type"] == "STT_FUNC"
        assert symbol["st_info"]["bind"] == "STB_GLOBAL"
        assert symbol["st_size"] > 0


def test_needs_nothing(image):
    assert "DT_NEEDED" not in tags(image)


def test_text_is_never_written(image):
    """No text relocation, no relocation at all in executable memory, no segment that is writable and executable."""
    found = tags(image)
    assert "DT_TEXTREL" not in found
    assert "DT_FLAGS" not in found or not found["DT_FLAGS"].entry.d_val & 4
    code = [
        (segment["p_vaddr"], segment["p_vaddr"] + segment["p_memsz"])
        for segment in segments(image, "PT_LOAD")
        if segment["p_flags"] & 1
    ]
    assert code
    for section in image.iter_sections():
        if section["sh_type"] in ("SHT_REL", "SHT_RELA"):
            for relocation in section.iter_relocations():
                assert not any(low <= relocation["r_offset"] < high for low, high in code)
    assert not [segment for segment in image.iter_segments() if segment["p_flags"] & 3 == 3]


def test_stack_is_not_executable(image):
    (stack,) = segments(image, "PT_GNU_STACK")
    assert stack["p_flags"] & 1 == 0


def test_promises_branch_target_identification(image):
    """The property note says BTI for the whole library, and every entry begins with a landing pad."""
    assert len(segments(image, "PT_GNU_PROPERTY")) == 1
    note = image.get_section_by_name(".note.gnu.property").data()
    name_size, size, kind = struct.unpack_from("<3I", note)
    assert (name_size, kind, note[12:16]) == (4, 5, b"GNU\0")
    properties = dict(struct.iter_unpack("<I4xI4x", note[16 : 16 + size]))
    assert properties[0xC0000000] & 1


def test_entries_begin_with_a_landing_pad(functions):
    assert {
        stem: f"{function.code[0].mnemonic} {function.code[0].op_str}" for stem, function in functions.items()
    } == dict.fromkeys(EXPORTS.values(), "bti c")


def test_entries_can_be_unwound(image, functions):
    """Each entry has a frame description that covers it to the byte."""
    entries = image.get_dwarf_info().EH_CFI_entries()
    frames = {
        entry["initial_location"]: entry["address_range"] for entry in entries if "initial_location" in entry.header
    }
    assert {function.address: function.size for function in functions.values()} == frames


def test_entries_are_wholly_code(functions):
    """Every word of an entry decodes: no data between instructions."""
    for stem, function in functions.items():
        assert 4 * len(function.code) == function.size, stem


@pytest.mark.parametrize("stem", library.ENTRIES)
def test_mnemonics(functions, stem):
    allowed = ALLOWED | ALLOWED_IN.get(stem, set()) | BY_FEATURE.get(feature(stem), set())
    assert {instruction.mnemonic for instruction in functions[stem].code} - allowed == set()


@pytest.mark.parametrize("stem", [stem for stem in library.ENTRIES if feature(stem) in BY_FEATURE])
def test_entry_uses_its_feature(functions, stem):
    """An entry that asks for a feature has a reason to."""
    assert {instruction.mnemonic for instruction in functions[stem].code} & BY_FEATURE[feature(stem)]


@pytest.mark.parametrize("stem", library.ENTRIES)
def test_leaf(functions, stem):
    """The rules of test_asm_source.py, on what the assembler made: also through every macro."""
    function = functions[stem]
    mnemonics = [instruction.mnemonic for instruction in function.code]
    assert mnemonics.count("ret") == 1
    assert {"bl", "br", "svc", "brk"} & set(mnemonics) == set()
    owned = {"x18", "sp", *(f"x{i}" for i in range(19, 31)), *(f"v{i}" for i in range(8, 16))} & function.registers()
    if stem in CALLERS:
        assert owned & ({"x18"} | banner.registers(contract(stem)["Unused"])) == set()
        assert mnemonics.count("blr") == CALLERS[stem]
    else:
        # Of them all, `ret` reads the link register, and a frame holds what the contract says it keeps.
        kept = banner.kept(contract(stem)["Stack"])
        assert owned <= {"x30", *kept, *(["sp"] if kept else [])}
        assert "blr" not in mnemonics


@pytest.mark.parametrize("stem", library.ENTRIES)
def test_branches_stay_inside(functions, stem):
    function = functions[stem]
    for instruction in function.code:
        if capstone.CS_GRP_JUMP in instruction.groups and instruction.mnemonic != "blr":
            target = instruction.operands[-1].imm
            assert function.address <= target < function.address + function.size, (
                f"{instruction.mnemonic} {instruction.op_str}"
            )
