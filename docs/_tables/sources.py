"""What the generated tables are made from: papers' pages, model files, manifests and benchmark results.

Everything is found by looking at the folders, so that a new paper, model or benchmark joins the tables by
its own files alone. Nothing here imports the package.
"""

import ast
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
YEAR = re.compile(r"\b(?:19|20)\d\d\b(?!\.\d)")
WORKS = ("_inference", "_training")  # endings of the results of one model


@dataclass(frozen=True)
class Page:
    """A paper's page, docs/papers/NAME.md: a title, one sentence, and the citation as a block quote."""

    path: Path
    title: str
    sentence: str
    year: str
    arxiv: str | None


@dataclass(frozen=True)
class ModelFile:
    """A file of kerasdet/models; its docstring begins with the title and cites the paper."""

    path: Path
    title: str
    docstring: str
    arxiv: str | None
    classes: tuple

    def paragraph(self, beginning):
        """The docstring's paragraph that begins with these words, without them; None if none does."""
        for paragraph in self.docstring.split("\n\n"):
            if paragraph.startswith(beginning):
                return paragraph.partition(":")[2].strip("\n")
        return None


@dataclass(frozen=True)
class Run:
    """One model's alternating runs beside its peers, of inference or of a training step."""

    key: str
    machine: str
    result: dict

    @property
    def is_training(self):
        """Whether training steps were timed: they have a loss."""
        return "loss" in next(iter(self.result["answers"].values()))[0]


class Sources:
    """The repository's folders, read on demand.

    Args:
        root: the repository.
    """

    def __init__(self, root):
        self.root = Path(root)

    @cached_property
    def pages(self):
        """Every `Page`, the oldest paper first."""
        pages = [read_page(path) for path in (self.root / "docs" / "papers").glob("*.md")]
        return sorted(pages, key=lambda page: (page.year, page.arxiv or "", page.path.stem))

    @cached_property
    def model_files(self):
        """Every `ModelFile`, by name."""
        folder = self.root / "kerasdet" / "models"
        return [read_model(path) for path in sorted(folder.glob("*.py")) if path.stem[0] != "_"]

    @cached_property
    def manifests(self):
        """Every manifest of zoo/, by name."""
        paths = sorted((self.root / "zoo").glob("*.json"))
        return [json.loads(path.read_text("utf-8")) for path in paths]

    @cached_property
    def results(self):
        """{name: report} of benchmarks/results."""
        paths = sorted((self.root / "benchmarks" / "results").glob("*.json"))
        return {path.stem: json.loads(path.read_text("utf-8")) for path in paths}

    @cached_property
    def runs(self):
        """Every `Run` of the results: a report is one, or holds them in groups by model."""
        found = []
        for name, report in self.results.items():
            groups = [value for value in report.values() if isinstance(value, dict)]
            for group in [{name: report}, *groups]:
                for key, result in group.items():
                    if isinstance(result, dict) and "answers" in result:
                        found.append(Run(key, machine_text(report["machine"]), result))
        return found

    def page(self, name):
        """The page docs/papers/NAME.md.

        Raises:
            ValueError: there is none.
        """
        for page in self.pages:
            if page.path.stem == name:
                return page
        raise ValueError(
            f"docs/papers/{name}.md is missing; write it, or correct the table's name."
        )

    def page_of(self, model_file):
        """The page of a model's file: of the same name, else the one that cites the same arXiv id."""
        same = [page for page in self.pages if page.path.stem == model_file.path.stem]
        same += [page for page in self.pages if page.arxiv and page.arxiv == model_file.arxiv]
        return same[0] if same else None

    def files_of(self, page):
        """The model files that belong to a page; its own comes first."""
        own = [model for model in self.model_files if self.page_of(model) is page]
        return sorted(own, key=lambda model: model.path.stem != page.path.stem)

    def file_of_class(self, name):
        """The model file that defines a class; None for classes that are defined elsewhere."""
        return next((model for model in self.model_files if name in model.classes), None)

    def split_key(self, key):
        """A result's key as (model file or None, the rest as words): "fasterrcnn", "faster_rcnn_roi_pool"."""
        for ending in WORKS:
            key = key.removesuffix(ending)
        best, rest = None, key
        for model in self.model_files:
            for stem in (model.path.stem, model.path.stem.replace("_", "")):
                if key.startswith(stem) and len(key) - len(stem) < len(rest):
                    best, rest = model, key[len(stem) :]
        return best, rest.strip("_").replace("_", " ")

    def title_of(self, key):
        """A result's key as a title: "faster_rcnn_roi_pool" is "Faster R-CNN, roi pool"."""
        model, rest = self.split_key(key)
        return ", ".join(part for part in (model and model.title, rest) if part)


def read_page(path):
    """The `Page` of a file.

    Raises:
        ValueError: it does not begin with a title, a sentence and a citation with a year.
    """
    lines = path.read_text("utf-8").split("\n\n")
    title, sentence, citation = (" ".join(part.split()) for part in [*lines, "", "", ""][:3])
    year = YEAR.search(citation)
    if not title.startswith("# ") or not sentence or not citation.startswith("> ") or not year:
        raise ValueError(
            f"{path} must begin with '# Title', one sentence, and '> Citation, with its year.'"
        )
    arxiv = ARXIV.search(citation)
    return Page(path, title[2:], sentence, year.group(), arxiv and arxiv.group(1))


def read_model(path):
    """The `ModelFile` of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    docstring = ast.get_docstring(tree) or ""
    arxiv = ARXIV.search(docstring)
    classes = tuple(node.name for node in tree.body if isinstance(node, ast.ClassDef))
    title = docstring.partition(":")[0]
    return ModelFile(path, title, docstring, arxiv and arxiv.group(1), classes)


def machine_text(machine):
    """A machine in words: "AMD EPYC, 2 cores"."""
    return f"{machine['processor']}, {machine['cores']} cores"
