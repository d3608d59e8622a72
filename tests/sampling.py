"""The rules by which long tables of cases are sampled; `--all` runs all.

Of a table of cases `pytest` runs one of each kind. Of the contract's detectors each test takes some,
every test others.
"""

import random

import pytest

SEED = 0
LEFT_OUT = "left_out"


def sampled(cases, kind):
    """Mark the cases that only `--all` runs.

    Of the cases of one kind, in the order of the table, the generator of `SEED` draws one to be run
    always. A kind names all that must be run at least once, such as (operation, environment).

    Args:
        cases: tuples of parameters, or single ones.
        kind: function of a case's parameters that gives something hashable.

    Returns:
        A list for `pytest.mark.parametrize`.
    """
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    kinds = {}
    for case in cases:
        kinds.setdefault(kind(*case), []).append(case)
    rng = random.Random(SEED)
    drawn = {rng.choice(alike) for alike in kinds.values()}
    mark = getattr(pytest.mark, LEFT_OUT)
    return [pytest.param(*case, marks=() if case in drawn else mark) for case in cases]


def share(names, test, count):
    """Choose the detectors that a test of the contract takes.

    Args:
        names: of all detectors.
        test: the test's name, which decides.
        count: most detectors of a test.

    Returns:
        Set of at most `count` names.
    """
    names = sorted(names)
    return set(random.Random(test).sample(names, min(count, len(names))))
