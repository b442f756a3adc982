"""``make prove``: every claim about every entry, for all shapes, then mutants of every entry, which have to be refused."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor

from proof import cosimulation, mutants, prover
from proof.claims import CLAIMS, UNPROVEN, UNTAKEN
from proof.image import entries
from proof.terms import ProofError

#: Mutants of each entry, and states that each instruction is compared on.
MUTANTS = 60
STATES = 200


def judged(name: str, seed: int, count: int) -> tuple[int, list[mutants.Mutant]]:
    """How many mutants of an entry were tried, and those that meet every claim as the entry does."""
    judge = mutants.Judge(name, full=True)
    chosen = mutants.sample(entries()[name], count, seed)
    return len(chosen), [mutant for mutant in chosen if not judge.verdict(mutant)]


def main() -> int:
    """Prove what the command line names, or everything."""
    parser = argparse.ArgumentParser(prog="python -m proof", description=__doc__)
    parser.add_argument("entries", nargs="*", help="entries to prove; all of them where none is named")
    parser.add_argument("--mutants", type=int, default=MUTANTS, help="how many mutants of each entry are tried")
    parser.add_argument("--seed", type=int, default=0, help="which mutants")
    options = parser.parse_args()
    names = options.entries or list(CLAIMS)
    for name in set(names) - set(CLAIMS):
        parser.error(f"{name}: {UNPROVEN.get(name, 'there is no such entry')}")
    wrong = 0
    with ProcessPoolExecutor(2) as pool:
        compared = pool.submit(cosimulation.compare, count=STATES, seed=options.seed)
        proofs = {name: pool.submit(prover.kept, name, full=True) for name in names}
        for name, future in proofs.items():
            try:
                proof = future.result()
            except ProofError as error:
                wrong += 1
                print(f"{name:18} REFUSED: {error}", flush=True)
                continue
            line = f"{proof.shapes:5} shapes, {proof.instructions:8} instructions, {proof.seconds:5} s"
            untaken = len(proof.untaken(entries()[name]))
            wrong += untaken != UNTAKEN.get(name, (0, ""))[0]
            print(f"{name:18} proven: {line}, {untaken} instructions not taken", flush=True)
        tried = refused = 0
        verdicts = {name: pool.submit(judged, name, options.seed, options.mutants) for name in names if not wrong}
        for name, future in verdicts.items():
            count, alike = future.result()
            tried, refused = tried + count, refused + count - len(alike)
            print(f"{name:18} {count - len(alike)} of {count} mutants refused", flush=True)
            for mutant in alike:
                print(f"{'':18} as claimed all the same: +{mutant.at:#x} {mutant.was} -> {mutant.now}", flush=True)
        print(f"{refused} of {tried} mutants refused; the others meet every claim at every shape")
        samples, problems = compared.result()
        print(f"the model: {len(samples)} instructions on {STATES} states each, {len(problems)} differences")
        print("\n".join(problems[:10]))
        wrong += len(problems)
    for name, why in UNPROVEN.items():
        print(f"{name:18} not proven: {why}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
