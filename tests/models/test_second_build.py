"""A second `build()` of a built model changes nothing: neither its weights, nor their number or values."""

import numpy as np
import pytest

from kerasdet.backbones import ImageClassifier
from tests.contract.detectors import DETECTORS
from tests.tiny import TinyBackbone


def built_classifier():
    model = ImageClassifier(TinyBackbone(), num_classes=3)
    model.build()
    return model


@pytest.mark.parametrize(
    "make", [*DETECTORS.values(), built_classifier], ids=[*DETECTORS, "classifier"]
)
def test_a_second_build_changes_nothing(make):
    model = make()
    variables, values = model.variables, [np.array(weight) for weight in model.get_weights()]
    model.build()
    model.build((None, 64, 64, 3))
    assert [id(variable) for variable in model.variables] == [id(v) for v in variables]
    for ours, theirs in zip(model.get_weights(), values, strict=True):
        np.testing.assert_array_equal(ours, theirs)
