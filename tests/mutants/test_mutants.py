"""The runner of mutants tells the four kinds apart, and the tables name what is there."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.mutants import mutants, tables
from tests.mutants.__main__ import select
from tests.mutants.runner import ROOT

ALL = select(tables())

FILES = {
    "kerasdet/__init__.py": "",
    "kerasdet/sums.py": "def double(x):\n    return 2 * x\n\n\ndef triple(x):\n    return 3 * x\n",
    "tests/__init__.py": "",
    "tests/test_sums.py": (
        "import pytest\n\n"
        "from kerasdet.sums import double, triple\n\n\n"
        "@pytest.mark.parametrize('x', [0, 3])\n"
        "def test_double(x):\n    assert double(x) == x + x\n\n\n"
        "def test_triple():\n    assert triple(0) == 0\n\n\n"
        "def test_wrong():\n    assert triple(1) == 4\n"
    ),
}

# In a process of its own, as TensorFlow's threads must not be there when it forks.
SCRIPT = """
import sys
from pathlib import Path
from tests.mutants import mutants
from tests.mutants.__main__ import report

rows = {
    "killed": ("2 * x", "x", "test_double"),
    "killed in half": ("2 * x", "x", "test_double test_triple"),
    "survived": ("3 * x", "4 * x", "test_triple"),
    "gone": ("5 * x", "4 * x", "test_triple"),
    "twice": ("return", "yield", "test_triple"),
    "wrong": ("3 * x", "4 * x", "test_wrong"),
    "nowhere": ("3 * x", "4 * x", "test_none"),
}
found = mutants("kerasdet/sums.py", "tests/test_sums.py", rows)
chosen = {name: found[name] for name in sys.argv[2:] or found}
sys.exit(report(chosen, Path(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


def report(repository, *names):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, repository, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_kind_is_told(repository):
    done = report(repository)
    assert done.returncode == 1, done.stderr
    lines = set(re.findall(r"^(?:survived|lost|broken): .+$", done.stdout, re.MULTILINE))
    assert lines == {
        "survived: killed in half",
        "survived: survived",
        "lost: gone",
        "lost: twice",
        "broken: wrong",
        "broken: nowhere",
    }
    assert "kerasdet/sums.py has the text 0 times: '5 * x'" in done.stdout
    assert "'3 * x' -> '4 * x'; tests/test_sums.py::test_triple passed" in done.stdout
    assert "tests/test_sums.py::test_none fails without the change" in done.stdout
    assert "2 broken, 1 killed, 2 lost, 2 survived" in done.stdout
    for name, text in FILES.items():
        assert (repository / name).read_text("utf-8") == text


def test_all_killed_is_success(repository):
    done = report(repository, "killed")
    assert done.returncode == 0, done.stderr
    assert "1 killed" in done.stdout


def test_a_tenth_is_drawn_by_the_seed():
    rows = {f"{i:02}": ("old", "new", "test_one") for i in range(21)}
    table = {"one": mutants("file.py", "test_file.py", rows), "two": {}}
    drawn = select(table, 10, seed=1)
    assert len(drawn) == 3
    assert drawn == select(table, 10, seed=1)
    assert drawn != select(table, 10, seed=2)
    assert len(select(table)) == 21
    assert list(select(table, only=["one: 07", "two"])) == ["one: 07"]
    assert not select(table, only=["three"])


def test_tests_are_named_in_their_file_or_with_their_own():
    changes = {"it is wrong": ("old", "new", "test_one tests/b.py::test_two")}
    (mutant,) = mutants("file.py", "tests/a.py", changes).values()
    assert mutant.tests == ("tests/a.py::test_one", "tests/b.py::test_two")


@pytest.mark.parametrize("name", ALL)
def test_a_mutant_finds_its_text_and_its_tests(name):
    mutant = ALL[name]
    source = (ROOT / mutant.file).read_text("utf-8")
    assert source.count(mutant.old) == 1
    compile(source.replace(mutant.old, mutant.new), mutant.file, "exec")
    assert mutant.tests
    for test in mutant.tests:
        file, _, function = test.partition("::")
        text = (ROOT / file).read_text("utf-8")
        assert re.search(rf"^ *def {function.split('::')[-1]}\(", text, re.MULTILINE), test


def test_every_file_with_an_equation_has_five_mutants():
    counts = Counter(mutant.file for mutant in ALL.values())
    folders = (ROOT / "kerasdet" / "ops", ROOT / "kerasdet" / "layers")
    tagged = [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        if "# Eq:" in path.read_text("utf-8")
    ]
    assert len(tagged) >= 14
    assert {file: counts[file] for file in tagged if counts[file] < 5} == {}
