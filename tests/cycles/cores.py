"""The cores that cycles are modelled for: one row says which model stands for a core, and where the model is put right."""

from __future__ import annotations

from typing import NamedTuple


class Core(NamedTuple):
    """A core: what it is called, and what models it."""

    name: str
    #: The name of llvm-mca's model, or of a row of `inorder.APART` where `dispatch` is None.
    model: str
    #: Micro-operations that enter the model a cycle.
    dispatch: int | None
    #: Instructions that the front end delivers a cycle: a trace takes no less than that, whatever the model lets through.
    front: int
    #: Features of the processors that the core is in, of those that kernels need.
    features: frozenset[str]
    #: Which core the model is really of, where that is another one.
    stands_for: str = ""

    @property
    def in_order(self) -> bool:
        """Whether the rules of `inorder` model it rather than llvm-mca."""
        return self.dispatch is None


_BASE = frozenset({"asimd"})
_DOTPROD = _BASE | {"dotprod"}
_I8MM = _DOTPROD | {"i8mm"}

# llvm-mca's models of Cortex-A53, A55 and A510 let no load issue beside a vector multiplication and write back in order, which
# ranks loops the other way round than silicon does; so in-order cores go by Arm's published rules. LLVM gives Cortex-A76 the
# model of A57, which has one load and three instructions a cycle; N1 is the same pipeline as A76. It gives V2 a dispatch of
# 16, where Arm's guide says 8, and all of Apple's cores the model of 2013.
CORES: dict[str, Core] = {
    core.name: core
    for core in (
        Core("Cortex-A53", "a53", None, 2, _BASE),
        Core("Cortex-A55", "a55", None, 2, _DOTPROD),
        Core("Cortex-A72", "cortex-a72", 3, 3, _BASE, "A57"),
        Core("Cortex-A76", "neoverse-n1", 8, 4, _DOTPROD, "N1"),
        Core("Neoverse N1", "neoverse-n1", 8, 4, _DOTPROD),
        Core("Neoverse N2", "neoverse-n2", 10, 5, _I8MM),
        Core("Neoverse V1", "neoverse-v1", 15, 8, _I8MM),
        Core("Neoverse V2", "neoverse-v2", 8, 8, _I8MM),
        # M1 has no SMMLA; the cores after it, which have, go by the same model.
        Core("Apple M1 model", "apple-m1", 6, 8, _I8MM, "Cyclone"),
    )
}
