"""README and docs: tables follow their sources, links lead somewhere, code compiles, options exist."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest
import typer

import kerasdet
from kerasdet.cli import app

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
tables = importlib.import_module("tables")
Sources = importlib.import_module("_tables.sources").Sources

FOLDERS = ("docs", "benchmarks", "zoo", "tests")
WRITTEN = [
    *sorted(ROOT.glob("*.md")),
    *(p for f in FOLDERS for p in sorted((ROOT / f).rglob("*.md"))),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"```.*?```", re.DOTALL)
# Words that are not used here, or no longer in English.
WORDS = re.compile(r"\b(anew|reckoned|trunk|pictures?)\b", re.IGNORECASE)
SECTIONS = ("What it changed", "In code", "Ablations", "Departures", "Results")


def identity(path):
    return path.relative_to(ROOT).as_posix()


def link_faults(path, text, read):
    """The links of a page that lead nowhere: to a file that is missing, or to a heading that is.

    Args:
        path: the page.
        text: its text.
        read: function of a Path that gives a page's text.
    """
    faults = []
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        file = (path.parent / place).resolve() if place else path
        if not file.exists():
            faults.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(read(file)):
            faults.append(f"{target}: no such heading")
    return faults


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text):
    """(command, options) of every call of `kerasdet` in a page: blocks, indented lines and spans."""
    text = re.sub(r" *\\\n\s*", " ", text)
    calls = re.findall(r"\bkerasdet ([a-z]+)((?: [^\n`#|]*)?)", text)
    return [(name, re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)) for name, rest in calls if rest]


def options():
    """{command: its options}; `train` takes those of every detector's `for_data` as well."""
    known = {
        name: {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for name, command in typer.main.get_command(app).commands.items()
    }
    for name in kerasdet.models.__all__:
        build = getattr(getattr(kerasdet.models, name), "for_data", None)
        names = set(inspect.signature(build).parameters) if build else set()
        known["train"] |= {"--" + name.replace("_", "-") for name in names - {"data", "resize"}}
    return known


def option_faults(text, known):
    """The calls of `kerasdet`, and options named on their own, that the command line does not know."""
    faults = []
    for name, given in commands(text):
        if name in known:
            faults += [f"kerasdet {name} {option}" for option in given if option not in known[name]]
        elif given:
            faults.append(f"kerasdet {name}")
    everywhere = set().union(*known.values())
    alone = re.findall(r"`(--[a-z][a-z-]*)(?: [^`]*)?`", FENCE.sub("", text))
    return faults + [option for option in alone if option not in everywhere]


def script_faults(text):
    """The options of Python scripts that their files do not name."""
    faults = []
    for place, rest in re.findall(r"python ([\w./]+\.py)((?: [^\n`#|]*)?)", text):
        source = (ROOT / place).read_text("utf-8")
        found = re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)
        faults += [f"{place} {option}" for option in found if f'"{option}"' not in source]
    return faults


def code_blocks(text):
    """The Python code of a page, block by block."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def unknown_names(code):
    """The names in `kerasdet.a.b` and `from kerasdet.a import b` that do not exist."""
    chains = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "kerasdet":
            chains += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("kerasdet."):
            chains.append(ast.unparse(node))
    return [chain for chain in chains if re.fullmatch(r"[\w.]+", chain) and not exists(chain)]


def exists(chain):
    value = kerasdet
    for name in chain.split(".")[1:]:
        try:
            value = getattr(value, name)
        except AttributeError:
            return False
    return True


@pytest.mark.parametrize("path", tables.pages(), ids=identity)
def test_tables_follow_their_sources(path):
    text = path.read_text("utf-8")
    assert text == tables.render(text, path.parent, Sources(ROOT)), (
        f"{identity(path)} is out of date; run: make docs"
    )


@pytest.mark.parametrize("path", WRITTEN, ids=identity)
def test_links_lead_somewhere(path):
    assert not link_faults(path, path.read_text("utf-8"), lambda file: file.read_text("utf-8"))


@pytest.mark.parametrize("path", tables.pages(), ids=identity)
def test_python_code_compiles(path):
    for code in code_blocks(path.read_text("utf-8")):
        compile(code, identity(path), "exec")


@pytest.mark.parametrize("path", tables.pages(), ids=identity)
def test_names_in_python_code_exist(path):
    blocks = code_blocks(path.read_text("utf-8"))
    assert not [name for code in blocks for name in unknown_names(code)]


@pytest.mark.parametrize("path", WRITTEN, ids=identity)
def test_options_exist(path):
    text = path.read_text("utf-8")
    assert not option_faults(text, options())
    assert not script_faults(text)


@pytest.mark.parametrize("path", WRITTEN, ids=identity)
def test_words(path):
    assert not WORDS.findall(path.read_text("utf-8"))


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150


def test_every_paper_has_a_page_with_its_sections():
    sources = Sources(ROOT)
    missing = [m.path.name for m in sources.model_files if m.arxiv and not sources.page_of(m)]
    assert not missing, f"docs/papers has no page for {missing}"
    for page in sources.pages:
        headings = re.findall(r"^## (.+)$", page.path.read_text("utf-8"), re.MULTILINE)
        assert tuple(headings) == SECTIONS, page.path


# -- the checks themselves ------------------------------------------------------------------------------


def test_a_dead_link_and_a_dead_heading_are_named(tmp_path):
    (tmp_path / "other.md").write_text("# The first one\n\n## A `name`, twice\n", "utf-8")
    text = (
        "[a](other.md) [b](none.md) [c](other.md#the-first-one) [d](other.md#a-name-twice) [e](#x)"
    )
    faults = link_faults(
        tmp_path / "page.md", text, lambda file: (tmp_path / "other.md").read_text()
    )
    assert faults == ["none.md: no such file", "#x: no such file"]
    (tmp_path / "page.md").write_text(text, "utf-8")
    faults = link_faults(tmp_path / "page.md", "[d](other.md#b) https://x", lambda file: "# a\n")
    assert faults == ["other.md#b: no such heading"]


def test_an_unknown_option_is_named():
    known = {"train": {"--data", "--out"}, "list": set()}
    assert option_faults("`kerasdet list` and `--out`", known) == []
    text = "```\nkerasdet train --data x \\\n    --fast\n```\n\n    kerasdet fit --data x\n\n`--slow 3`"
    assert option_faults(text, known) == ["kerasdet train --fast", "kerasdet fit", "--slow"]
    assert script_faults("python benchmarks/learning.py --minutes 3 --hours 2") == [
        "benchmarks/learning.py --hours"
    ]


def test_an_unknown_name_is_named():
    code = "import kerasdet\nkerasdet.data.coco(1).x\nkerasdet.data.cocoa(2)\nfrom kerasdet.ops import y"
    assert sorted(unknown_names(code)) == ["kerasdet.data.cocoa", "kerasdet.ops.y"]
