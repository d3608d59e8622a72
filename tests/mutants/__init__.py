"""Mutants: small errors in the package, each of which named tests must notice.

A table is a module of this folder with a dict `MUTANTS`; one for each mutated file, or for each paper
with all the files that are its own:

    MUTANTS = {
        **mutants(
            "kerasdet/ops/losses.py",
            "tests/ops/test_losses.py",
            {
                "smooth L1 is a square without its half": (
                    "error * error * (0.5 / beta)",  # stands exactly once in the file
                    "error * error * (1.0 / beta)",
                    "test_smooth_l1",  # must fail; several names are separated by blanks
                ),
            },
        ),
    }

`python -m tests.mutants` (`make mutants`) runs them all; see `__main__.py` for its options.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Mutant:
    """One change, and what must notice it.

    Attributes:
        file: the mutated file, from the root of the repository.
        old: text that stands in it exactly once.
        new: what replaces it.
        tests: names of pytest (`path::function`), each of which must fail.
    """

    file: str
    old: str
    new: str
    tests: tuple


def mutants(file, test_file, changes):
    """Mutants of one file.

    Args:
        file: from the root of the repository.
        test_file: where the tests are that a change names without a path.
        changes: {what is wrong: (old text, new text, names of tests)}.

    Returns:
        {what is wrong: Mutant}.
    """
    return {
        name: Mutant(file, old, new, tuple(_full(test, test_file) for test in tests.split()))
        for name, (old, new, tests) in changes.items()
    }


def tables():
    """{name of the table: its mutants}, of all tables of this folder."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem.startswith(("_", "test_")) or path.stem == "runner":
            continue
        found[path.stem] = importlib.import_module(f"tests.mutants.{path.stem}").MUTANTS
    return found


def _full(test, test_file):
    return test if "::" in test else f"{test_file}::{test}"
