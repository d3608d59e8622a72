"""Write docs/equations.md: which function carries which equation of which paper, and which test checks it.

The source's tags are the only record: `# Eq: <paper> <number or section> | <formula>` on the line above
the code. A function is tested by the tests that mention it; a private one by those that mention a public
function or class of its module that calls it.

    python docs/equations.py
"""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "equations.md"
SOURCES = ("kerasdet", "zoo", "export")
TAG = re.compile(r"^\s*# Eq: (?P<paper>[a-z0-9_]+) (?P<reference>[^|]+?) \| (?P<formula>.+?)\s*$")
LOOSE_TAG = re.compile(r"^\s*#\s*Eq\b", re.IGNORECASE)
SHOWN_TESTS = 3
HEADER = """# Equations

Each equation of a paper has one owner, the function below, and at least one test.
Generated from the `# Eq:` tags by `make docs`; do not edit.

| paper | equation | formula | function | tests |
|---|---|---|---|---|
"""
Def = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass
class Equation:
    """One tag: where it stands and who owns the code below it."""

    paper: str
    reference: str
    formula: str
    path: Path  # relative to the root
    line: int
    owner: str  # "function", "Class.method" or a module's constant
    names: frozenset  # what a test must mention to count
    tests: list = field(default_factory=list)  # (path, name)

    def numbers(self):
        """The equation numbers it claims: "1, 2" claims two, a section none."""
        return [part.strip() for part in self.reference.split(",") if "§" not in part]


def collect(root=ROOT):
    """All tagged equations with their tests, by paper and place.

    Raises:
        ValueError: a tag does not have the form, or stands above no code.
    """
    equations = [
        equation
        for folder in SOURCES
        for path in sorted((root / folder).rglob("*.py"))
        for equation in read_tags(path.read_text("utf-8"), path.relative_to(root))
    ]
    tests = read_tests(root)
    for equation in equations:
        found = [test for test in tests if equation.names & test[2]]
        mirror = [
            test for test in found if test[0].stem.removeprefix("test_") == equation.path.stem
        ]
        equation.tests = [(path, name) for path, name, _ in mirror or found]
    return sorted(equations, key=lambda e: (e.paper, _natural(e.reference), str(e.path), e.line))


def read_tags(source, path):
    """The tags of one source file, as a list of `Equation` without tests."""
    equations = []
    tree = ast.parse(source)
    for number, line in enumerate(source.splitlines(), start=1):
        match = TAG.match(line)
        if match:
            owner, names = _owner(tree, number, f"{path}:{number}")
            equations.append(
                Equation(**match.groupdict(), path=path, line=number, owner=owner, names=names)
            )
        elif LOOSE_TAG.match(line):
            raise ValueError(
                f"{path}:{number}: {line.strip()!r} is not a tag; "
                "write '# Eq: <paper> <number or §section> | <formula>'."
            )
    return equations


def read_tests(root):
    """(path, name, mentioned names) of every test function under tests/."""
    tests = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        aliases = {
            alias.asname: alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.asname
        }
        reach = _reach(tree)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                names = {aliases.get(name, name) for name in reach[node.name]}
                tests.append((path.relative_to(root), node.name, names))
    return tests


def render(equations):
    """The page's text."""
    rows = []
    for e in equations:
        shown = [f"[{name}](../{path.as_posix()})" for path, name in e.tests[:SHOWN_TESTS]]
        function = f"[{e.owner}](../{e.path.as_posix()})"
        formula = e.formula.replace("|", "\\|")
        rows.append(
            f"| {e.paper} | {e.reference} | `{formula}` | {function} | {', '.join(shown) or '**none**'} |\n"
        )
    return HEADER + "".join(rows)


def _owner(tree, line, place):
    """The name of the definition that a tag on `line` belongs to, and the names that test it."""
    chain, body = [], tree.body
    while True:
        node = _at_or_below(body, line)
        if not isinstance(node, Def):
            break
        chain.append(node)
        if _first_line(node) > line:  # the tag stands above the definition
            break
        body = node.body
    if not chain:
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        if not isinstance(targets[0], ast.Name):
            raise ValueError(f"{place}: the tag stands above neither a function nor a constant.")
        return targets[0].id, _public(tree, targets[0].id)
    if len(chain) > 1 and isinstance(chain[0], ast.ClassDef):
        method = chain[1].name
        names = _public(tree, chain[0].name) | ({method} if not method.startswith("_") else set())
        return f"{chain[0].name}.{method}", names
    return chain[0].name, _public(tree, chain[0].name)


def _at_or_below(body, line):
    """The statement of `body` that holds `line`, or else the first that follows it."""
    return next((node for node in body if node.end_lineno >= line), None)


def _first_line(node):
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _public(tree, name):
    """`name`, or if it is private or a constant the public definitions of the module that reach it."""
    is_definition = any(isinstance(node, Def) and node.name == name for node in tree.body)
    if is_definition and not name.startswith("_"):
        return frozenset({name})
    users = {user for user, names in _reach(tree).items() if name in names}
    return frozenset({name} | {user for user in users if not user.startswith("_")})


def _reach(tree):
    """For each top-level name of a module: all names it mentions, through the module's other names."""
    mentions = {}
    for node in tree.body:
        if isinstance(node, Def):
            mentions[node.name] = _mentioned(node) | {node.name}
            if not isinstance(node, ast.ClassDef):  # fixtures come in by the argument's name
                mentions[node.name] |= {argument.arg for argument in node.args.args}
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        mentions[name.id] = _mentioned(node.value)
    return {name: _closure(name, mentions) for name in mentions}


def _mentioned(node):
    """Names and attributes used within `node`."""
    names = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    return names | {child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}


def _closure(name, mentions):
    seen, waiting = set(), {name}
    while waiting:
        current = waiting.pop()
        seen.add(current)
        waiting |= mentions.get(current, set()) - seen
    return seen


def _natural(text):
    """Sort key by numbers where there are some: 2 before 10, equations before sections."""
    return ["§" in text, *(int(part) for part in re.findall(r"\d+", text))]


if __name__ == "__main__":
    PAGE.write_text(render(collect()), "utf-8")
    print(f"{PAGE.relative_to(ROOT)} written")
