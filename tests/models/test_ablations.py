"""docs/ablations.md: every constructor call of its tables builds the model it speaks of."""

import re
from pathlib import Path

import pytest

from kerasdet import layers, models
from kerasdet.backbones import ResNetHead
from tests.tiny import TinyBackbone

PAGE = (Path(__file__).parents[2] / "docs" / "ablations.md").read_text("utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SPANS = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
CALLS = [span for span in SPANS if re.match(r"(Faster|Mask)RCNN\(", span)]


def names():
    """What the page's code means, on the smallest backbone."""
    known = {**vars(layers), **vars(models), "ResNetHead": lambda: ResNetHead(1)}
    backbones = ("ResNet50", "ResNet101", "ResNeXt101")
    known |= {name: TinyBackbone for name in backbones}
    known |= {"backbone": TinyBackbone(levels=("C4",)), "head": layers.DenseHead((8,))}
    exec(CODE[1], known)
    return known


def test_the_page_has_its_rows():
    assert len(CALLS) == 12


@pytest.mark.parametrize("call", CALLS)
def test_every_row_builds(call):
    model = eval(call, names())
    assert model.built
    assert (model.neck is False) == ("neck=False" in call)
    pooling = "MultilevelRoIPool" if "pooling=MultilevelRoIPool" in call else "MultilevelRoIAlign"
    assert type(model.pooling).__name__ == pooling
