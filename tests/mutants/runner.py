"""Runs mutants: one copy of the tree for each of two processes, one fork for each mutant.

TensorFlow and Keras are imported once, by the process that forks; the package and its tests are
imported by the fork, after the change. A mutant so costs a second or two.
"""

import contextlib
import importlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The package as it is installed: a path entry that finds zoo/ and export/ under their own names.
LINKS = {"kerasdet/zoo": "../zoo", "kerasdet/export": "../export"}
SECONDS = 300  # after which a mutant counts as killed: it may have made a loop endless
KILLED, SURVIVED, LOST, BROKEN = "killed", "survived", "lost", "broken"


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        name: of the mutant.
        kind: "killed"; "survived": a named test passed; "lost": the old text does not stand exactly once
            in the file; "broken": a named test fails, or is not there, without any change.
        reason: a sentence, empty for "killed".
        seconds: that it took.
    """

    name: str
    kind: str
    reason: str = ""
    seconds: float = 0.0


def run(mutants, root=ROOT, jobs=2, report=lambda verdict: None):
    """Try mutants on copies of the tree.

    Args:
        mutants: {name: Mutant}.
        root: the repository.
        jobs: processes at once.
        report: called with each `Verdict` as it comes.

    Returns:
        A list of `Verdict`s.
    """
    _warm_up()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [_copy(Path(root), Path(folder) / str(i)) for i in range(jobs)]
        verdicts = []

        def tell(verdict):
            verdicts.append(verdict)
            report(verdict)

        usable = {}
        for name, mutant in mutants.items():
            count = (copies[0] / mutant.file).read_text("utf-8").count(mutant.old)
            if count == 1:
                usable[name] = mutant
            else:
                text = f"{mutant.file} has the text {count} times: {mutant.old!r}"
                tell(Verdict(name, LOST, text))
        broken = _broken(usable, copies)
        for name in [name for name in usable if name in broken]:
            tell(Verdict(name, BROKEN, f"{broken[name]} fails without the change"))
            del usable[name]
        works = [(name, mutant, mutant.tests) for name, mutant in usable.items()]
        for (name, mutant, tests), failed, seconds in _each(works, copies):
            passed = [test for test in tests if failed is not None and test not in failed]
            if passed:
                reason = (
                    f"{mutant.file}: {mutant.old!r} -> {mutant.new!r}; {', '.join(passed)} passed"
                )
                tell(Verdict(name, SURVIVED, reason, seconds))
            else:
                tell(Verdict(name, KILLED, "", seconds))
    return verdicts


def _broken(mutants, copies):
    """{name of a mutant: a test of its own that does not pass as things are}."""
    by_file = defaultdict(set)
    for mutant in mutants.values():
        for test in mutant.tests:
            by_file[test.partition("::")[0]].add(test)
    works = [(file, None, tuple(sorted(tests))) for file, tests in by_file.items()]
    bad = set()
    for (_, _, tests), failed, _ in _each(works, copies):
        bad |= set(tests) if failed is None else failed
    return {
        name: next(test for test in mutant.tests if test in bad)
        for name, mutant in mutants.items()
        if bad & set(mutant.tests)
    }


def _each(works, copies):
    """Run (name, mutant or None, tests) in forks, one at a time on each copy.

    Yields:
        The work, the set of its tests that failed (None: it was stopped) and the seconds.
    """
    fork, waiting, free, running = multiprocessing.get_context("fork"), list(works), [*copies], {}
    waiting.reverse()
    while waiting or running:
        while waiting and free:
            work, copy = waiting.pop(), free.pop()
            ours, theirs = fork.Pipe(duplex=False)
            process = fork.Process(target=_child, args=(copy, *work[1:], theirs))
            process.start()
            theirs.close()
            running[ours] = (work, copy, process, time.monotonic())
        soonest = min(start for *_, start in running.values()) + SECONDS
        ready = wait(running, max(0.0, soonest - time.monotonic()))
        late = [c for c, (*_, start) in running.items() if time.monotonic() - start >= SECONDS]
        for ours in {*ready, *late}:
            work, copy, process, start = running.pop(ours)
            failed = None
            if ours in ready:
                with contextlib.suppress(EOFError):
                    failed = ours.recv()
            else:
                process.kill()
            process.join()
            ours.close()
            free.append(copy)
            yield work, failed, time.monotonic() - start


def _child(copy, mutant, tests, pipe):
    """In the fork: change the copy, run the tests on it, send which failed, change it back."""
    path = mutant and copy / mutant.file
    before = path and path.read_text("utf-8")
    try:
        if path:
            path.write_text(before.replace(mutant.old, mutant.new), "utf-8")
        pipe.send(_failures(copy, tests))
    finally:
        if path:
            path.write_text(before, "utf-8")
    pipe.close()
    os._exit(0)  # TensorFlow's threads, and what tests leave to be done at exit, are of no concern


def _failures(copy, tests):
    """Those of the tests that fail, or are not there."""
    import pytest

    os.chdir(copy)
    for name in [m for m in sys.modules if m.split(".")[0] in ("kerasdet", "tests")]:
        del sys.modules[name]
    sys.path[:] = [str(copy), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    chosen = _Chosen(tests)
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib"]
    files = sorted({test.partition("::")[0] for test in tests})
    pytest.main([*options, *files], [chosen])
    return chosen.failed | (set(tests) - chosen.seen)


class _Chosen:
    """A plugin that runs the named tests alone, and notes which ran and which failed in any case."""

    def __init__(self, tests):
        self.tests, self.seen, self.failed = tests, set(), set()

    def named(self, case):
        """Those of the tests that a case belongs to."""
        return {test for test in self.tests if test in (case, case.partition("[")[0])}

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if self.named(item.nodeid)]

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.seen |= self.named(report.nodeid)
        if report.failed:
            self.failed |= self.named(report.nodeid)


def _copy(root, copy):
    """The tree as git sees it, tracked or not yet, without what it ignores."""
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)
    for link, target in LINKS.items():
        if (copy / link).parent.is_dir():
            (copy / link).symlink_to(target)
    return copy


def _warm_up():
    """Import what takes seconds and is not ours. Nothing is computed: threads would not be forked."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("keras", "pytest", "tensorflow"):
        importlib.import_module(name)
