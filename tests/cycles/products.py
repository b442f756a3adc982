"""Which instructions make products of integers, and how many multiply-accumulates each makes."""

from __future__ import annotations

import re

#: Instructions that make products in vector registers: what they sum up in a lane, and the lanes of the result.
MAKES = re.compile(r"(?:(?:s|u|us|su)(?P<sums>dot|mmla)|[su]ml[as]l2?|[su]mull2?|mla|mls|mul) v\d+\.(?P<lanes>\d+)\w")
EACH = {"dot": 4, "mmla": 8, None: 1}
#: Instructions that add neighbours of such products up.
ADDS = re.compile(r"[su]adalp v\d+\.")
VECTOR = re.compile(r"\bv(\d+)\b")
#: Registers that operands come from where nothing is to wait; results go to the others.
OPERANDS = 8


def macs(instruction: str) -> int:
    """Return the multiply-accumulates of an instruction, 0 for any that makes no products of integers."""
    found = MAKES.match(instruction)
    return EACH[found["sums"]] * int(found["lanes"]) if found else 0


def is_product(instruction: str) -> bool:
    """Whether an instruction makes products of integers or adds such products up."""
    return bool(macs(instruction) or ADDS.match(instruction))


def independent(instructions: list[str]) -> list[str]:
    """Return those instructions that make products or add them up, on registers that make none of them wait for another.

    A few come again and again, until all registers have been results.
    """
    kept = [each for each in instructions if is_product(each)]
    results = range(OPERANDS, 32)
    again = -(-len(results) // len(kept))
    return [renamed(each, results[number % len(results)]) for number, each in enumerate(kept * again)]


def renamed(instruction: str, result: int) -> str:
    """Return an instruction with that register as its result, and operands among those that are no results."""
    first, *others = VECTOR.finditer(instruction)
    for each in reversed(others):
        instruction = f"{instruction[: each.start()]}v{int(each[1]) % OPERANDS}{instruction[each.end() :]}"
    return f"{instruction[: first.start()]}v{result}{instruction[first.end() :]}"
