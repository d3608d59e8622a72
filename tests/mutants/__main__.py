"""Run the mutants, or a sample of them; print those that no test noticed.

    python -m tests.mutants                         all of them
    python -m tests.mutants --sample 10 --seed 3    a tenth of them, drawn by the seed
    python -m tests.mutants --only losses boxes     some tables, or single mutants by name

Exits with 1 where a mutant survives, has lost its text, or names a test that fails without it.
"""

import argparse
import random
import sys
import time
from collections import Counter

from tests.mutants import tables
from tests.mutants.runner import KILLED, ROOT, run


def main(arguments=None):
    """Parse the command line, run, report."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="run one in N")
    parser.add_argument("--seed", type=int, default=0, help="that draws the sample")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help='tables, or mutants: "table: name"'
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (2)")
    options = parser.parse_args(arguments)
    chosen = select(tables(), options.sample, options.seed, options.only)
    if not chosen:
        parser.error(f"no mutant is of {options.only}; the tables are {', '.join(tables())}")
    return report(chosen, jobs=options.jobs)


def select(tables, sample=1, seed=0, only=None):
    """Mutants by name, one in `sample` of them.

    Args:
        tables: {table: {name: Mutant}}.
        sample: 1 for all; 10 for a tenth, rounded up.
        seed: of the sample.
        only: names of tables, or "table: name"; None: all.

    Returns:
        {"table: name": Mutant}.
    """
    found = {
        f"{table}: {name}": mutant
        for table, rows in tables.items()
        for name, mutant in rows.items()
        if only is None or {table, f"{table}: {name}"} & set(only)
    }
    names = random.Random(seed).sample(sorted(found), -(-len(found) // sample))
    return {name: found[name] for name in sorted(names)}


def report(mutants, root=ROOT, jobs=2):
    """Run, print each verdict that is not "killed" and the sums.

    Args:
        mutants: {name: Mutant}.
        root: the repository.
        jobs: processes at once.

    Returns:
        The exit status: 1 where any mutant was not killed.
    """
    start = time.monotonic()
    print(f"{len(mutants)} mutants", flush=True)

    def tell(verdict):
        if verdict.kind != KILLED:
            print(f"{verdict.kind}: {verdict.name}\n    {verdict.reason}", flush=True)

    verdicts = run(mutants, root, jobs, tell)
    counts = Counter(verdict.kind for verdict in verdicts)
    slowest = max(verdicts, key=lambda verdict: verdict.seconds)
    print(
        ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        + f", in {time.monotonic() - start:.0f} s"
        + f"; the slowest, {slowest.seconds:.0f} s: {slowest.name}"
    )
    return int(set(counts) != {KILLED})


if __name__ == "__main__":
    sys.exit(main())
