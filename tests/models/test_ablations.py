"""The papers' pages: every constructor call of their ablation tables builds the model it speaks of."""

import re
from pathlib import Path

import pytest

from kerasdet import backbones, layers, models
from tests.tiny import TinyBackbone

PAGES = sorted((Path(__file__).parents[2] / "docs" / "papers").glob("*.md"))


def section(page):
    """The page's section on ablations: the functions that its code defines, and the calls, one a row."""
    text = page.read_text("utf-8").partition("\n## Ablations\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = "\n".join(block for block in blocks if block.startswith("def "))
    rows = [line for line in text.splitlines() if re.match(r"\|(?! ?-)", line)]
    return code, [row.rpartition(" `")[2].removesuffix("` |") for row in rows if "`" in row]


CALLS = [(page, call) for page in PAGES for call in section(page)[1]]


def names(page):
    """What the page's code means, on the smallest backbone."""
    known = {**vars(layers), **vars(models), "ResNetHead": lambda: backbones.ResNetHead(1)}
    known |= {name: TinyBackbone for name in backbones.__all__ if name not in known}
    known |= {"backbone": TinyBackbone(levels=("C4",)), "head": layers.DenseHead((8,))}
    exec(section(page)[0], known)
    return known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_has_rows(page):
    assert section(page)[1]


@pytest.mark.parametrize(
    ("page", "call"), CALLS, ids=[f"{page.stem}: {call}" for page, call in CALLS]
)
def test_every_row_builds(page, call):
    known = names(page)
    if "freeze_at" in call:  # names a level of its backbone
        known["VGG16"] = backbones.VGG16
    model = eval(call, known)
    assert isinstance(model, models.ImageModel)
    assert model.built
    if "neck=False" in call:
        assert model.neck is False
    elif call.startswith(("FasterRCNN(", "MaskRCNN(", "KeypointRCNN(")):
        assert isinstance(model.neck, layers.FeaturePyramid)
    if given := re.search(r" pooling=(\w+)", call):
        assert type(model.pooling).__name__ == given[1]
