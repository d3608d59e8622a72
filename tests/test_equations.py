"""The table of equations: it follows the source, every equation has one owner and a test."""

import importlib.util
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _load_generator():
    spec = importlib.util.spec_from_file_location("equations", ROOT / "docs" / "equations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


equations = _load_generator()

TAGGED = """
LIMIT = 4

def plain(x):
    # Eq: first 2 | y = x + LIMIT
    return x + LIMIT

# Eq: first §3.1 | y = 2 x
@decorated
def above(x):
    return 2 * x

def _hidden(x):
    y = x
    # Eq: second 1, 4 | y = |x|
    return abs(y)

class Layer:
    def __init__(self):
        # Eq: second 10 | b = 0
        self.b = _hidden(0)

    def call(self, x):
        def inner(y):
            # Eq: second 3 | y = x y
            return x * y
        return inner
"""


def test_page_follows_the_source():
    written = (ROOT / "docs" / "equations.md").read_text("utf-8")
    assert written == equations.render(equations.collect()), (
        "docs/equations.md is out of date; run: make docs"
    )


def test_every_equation_has_a_test():
    untested = [f"{e.path}:{e.line} {e.owner}" for e in equations.collect() if not e.tests]
    assert not untested, f"tagged, and mentioned by no test: {untested}"


def test_every_numbered_equation_has_one_owner():
    owners = defaultdict(set)
    for e in equations.collect():
        for number in e.numbers():
            owners[e.paper, number].add(f"{e.path} {e.owner}")
    shared = {key: sorted(names) for key, names in owners.items() if len(names) > 1}
    assert not shared, f"an equation belongs to one function; the others call it: {shared}"


def test_the_papers_own_equations_are_there():
    found = {(e.paper, number) for e in equations.collect() for number in e.numbers()}
    # arXiv 1708.02002v2: cross entropy is 1, its balanced form 3, focal loss 4 and 5.
    assert {("retinanet", "3"), ("retinanet", "5")} <= found


def test_tags_are_read_with_their_owners():
    found = equations.read_tags(TAGGED, Path("m.py"))
    assert [(e.paper, e.reference, e.owner) for e in found] == [
        ("first", "2", "plain"),
        ("first", "§3.1", "above"),
        ("second", "1, 4", "_hidden"),
        ("second", "10", "Layer.__init__"),
        ("second", "3", "Layer.call"),
    ]
    assert found[0].numbers() == ["2"]
    assert found[1].numbers() == []
    assert found[2].numbers() == ["1", "4"]
    assert found[2].formula == "y = |x|"
    assert found[0].names == {"plain"}
    assert found[2].names == {"_hidden", "Layer"}, "a private function is tested through its users"
    assert found[4].names == {"Layer", "call"}


def test_tests_are_found_through_helpers_aliases_and_tables(tmp_path):
    (tmp_path / "kerasdet").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "kerasdet" / "m.py").write_text(TAGGED, "utf-8")
    (tmp_path / "tests" / "test_m.py").write_text(
        "from m import above as renamed\n"
        "import m\n"
        "CASES = [m.plain]\n"
        "def _check(x):\n"
        "    assert renamed(x)\n"
        "def test_one():\n"
        "    _check(3)\n"
        "def test_two():\n"
        "    assert CASES\n",
        "utf-8",
    )
    tests = {e.owner: [name for _, name in e.tests] for e in equations.collect(tmp_path)}
    assert tests["above"] == ["test_one"]
    assert tests["plain"] == ["test_two"]
    assert tests["_hidden"] == []


@pytest.mark.parametrize(
    "line", ["# Eq: retinanet 5", "# eq: retinanet 5 | y = x", "#Eq retinanet"]
)
def test_a_malformed_tag_is_named(line):
    with pytest.raises(ValueError, match=r"m\.py:2"):
        equations.read_tags(f"def f(x):\n    {line}\n    return x\n", Path("m.py"))
