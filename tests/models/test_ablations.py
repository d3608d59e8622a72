"""The papers' pages: every constructor call of their ablation tables builds the model it speaks of."""

import re
from pathlib import Path

import pytest

from kerasdet import backbones, layers, models
from tests.tiny import TinyBackbone

PAGES = sorted((Path(__file__).parents[2] / "docs" / "papers").glob("*.md"))
HELPER = re.compile(r"^def (\w+)", re.MULTILINE)


def section(page):
    """The page's section on ablations: the functions that its code defines, and its calls."""
    text = page.read_text("utf-8").partition("\n## Ablations\n")[2].partition("\n## ")[0]
    code = "".join(
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        if block.startswith("def ")
    )
    known = {*models.__all__, *HELPER.findall(code)}
    spans = re.findall(r"^\|.*`(.+)` \|$", text, re.MULTILINE)
    return code, [span for span in spans if span.partition("(")[0] in known]


def rows(page):
    """The rows of the page's tables of calls."""
    text = page.read_text("utf-8").partition("\n## Ablations\n")[2].partition("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("|") and "`" in line]


CALLS = [(page, call) for page in PAGES for call in section(page)[1]]


def names(page):
    """What the page's code means, on the smallest backbone."""
    known = {**vars(layers), **vars(models), "ResNetHead": lambda: backbones.ResNetHead(1)}
    known |= {name: TinyBackbone for name in backbones.__all__ if name not in known}
    known |= {"backbone": TinyBackbone(levels=("C4",)), "head": layers.DenseHead((8,))}
    exec(section(page)[0], known)
    return known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_has_a_call(page):
    assert len(section(page)[1]) == len(rows(page)) > 0


@pytest.mark.parametrize(
    ("page", "call"), CALLS, ids=[f"{page.stem}: {call}" for page, call in CALLS]
)
def test_every_row_builds(page, call):
    model = eval(call, names(page))
    assert isinstance(model, models.Detector)
    assert model.built
    if "neck=False" in call:
        assert model.neck is False
    if "pooling=MultilevelRoIPool" in call:
        assert type(model.pooling).__name__ == "MultilevelRoIPool"
    elif isinstance(model, models.FasterRCNN) and call[0].isupper() and "_pooling" not in call:
        assert (type(model.pooling).__name__ == "MultilevelRoIPool") == (
            "pooling=MultilevelRoIPool" in call
        )
        assert (model.neck is False) == ("neck=False" in call)
