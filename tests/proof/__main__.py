"""``make prove``: every claim about every entry, for all shapes, then mutants of every entry, which have to be refused."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor

from proof import cosimulation, mutants, prover, report
from proof.claims import CLAIMS, UNPROVEN, UNTAKEN
from proof.image import entries
from proof.terms import ProofError

#: Mutants of each entry, and states that each instruction is compared on.
MUTANTS = 12
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
    parser.add_argument("--update", action="store_true", help=f"write the table of {report.PAGE.name} anew")
    options = parser.parse_args()
    names = options.entries or list(CLAIMS)
    for name in set(names) - set(CLAIMS):
        parser.error(f"{name}: {UNPROVEN.get(name, 'there is no such entry')}")
    if options.update and options.entries:
        parser.error("the table is of all entries")
    wrong = unexplained = 0
    proven = {}
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
            proven[name] = proof
            line = f"{proof.shapes:5} shapes, {proof.instructions:8} instructions, {proof.seconds:5} s"
            untaken = len(proof.untaken(entries()[name]))
            wrong += untaken != UNTAKEN.get(name, (0, ""))[0]
            print(f"{name:18} proven: {line}, {untaken} instructions not taken", flush=True)
        rows = []
        tried = refused = 0
        verdicts = {name: pool.submit(judged, name, options.seed, options.mutants) for name in names if not wrong}
        for name, future in verdicts.items():
            count, alike = future.result()
            tried, refused = tried + count, refused + count - len(alike)
            rows.append(report.row(name, proven[name], count - len(alike), count))
            print(f"{name:18} {count - len(alike)} of {count} mutants refused", flush=True)
            for mutant in alike:
                why = mutants.reason(mutant)
                # Each of the sample that is always taken has its reason; of others one is to be found.
                unexplained += not why and (options.seed, options.mutants) == (0, MUTANTS)
                print(
                    f"{'':18} as claimed all the same: {mutants.called(mutant)}: {why or 'for what reason?'}",
                    flush=True,
                )
        total = f"{refused} of {tried} mutants refused; the other {tried - refused} meet every claim at every shape"
        print(total)
        samples, problems = compared.result()
        model = f"the model: {len(samples)} instructions on {STATES} states each, {len(problems)} differences"
        print(model)
        print("\n".join(problems[:10]))
        wrong += len(problems)
    for name, why in UNPROVEN.items():
        print(f"{name:18} not proven: {why}")
    if options.update and not wrong:
        rows += [f"| `{name}` | not proven: {why} | | | | |" for name, why in UNPROVEN.items()]
        report.write(rows, f"{total}. Of {model}.")
    return 1 if wrong or unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
