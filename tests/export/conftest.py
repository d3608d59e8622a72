import keras
import numpy as np
import pytest

from kerasdet.layers.resizing import Fit
from kerasdet.models import RetinaNet
from tests.contract.detectors import made
from tests.tiny import TinyBackbone


def make(resize=None, cls=RetinaNet):
    """A detector whose scores differ by more than the precision of any format."""
    keras.utils.set_random_seed(0)
    model = made(
        cls,
        {"channels": 8, "depth": 1, "norm": "none", "anchors": "paper"},
        backbone=TinyBackbone(mean=(120,) * 3, std=(60,) * 3),
        resize=resize or Fit(64, 64),
        max_detections=20,
    )
    rng = np.random.default_rng(0)
    for conv, std in (
        (model.head.class_convs[0], 0.2),
        (model.class_output, 0.2),
        (model.head.box_convs[0], 0.2),
        (model.box_output, 0.02),
    ):
        conv.kernel.assign(rng.normal(0, std, conv.kernel.shape))
    model.class_output.bias.assign(np.linspace(-5, -3, model.class_output.bias.shape[0]))
    return model


def colour_blocks(height, width, seed=0):
    """Blocks of colour, so that neighbouring anchors see different things."""
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 9), -(-width // 9), 3))
    return np.kron(blocks, np.ones((9, 9, 1)))[:height, :width].astype(np.uint8)


def assert_same(exported, wanted):
    """What an export returned for a batch of images is what `detect` gives for each."""
    exported = {name: np.asarray(value) for name, value in exported.items()}
    assert set(exported) == {"boxes", "labels", "confidence", "num_detections"}
    assert exported["boxes"].dtype == exported["confidence"].dtype == np.float32
    assert exported["labels"].dtype == exported["num_detections"].dtype == np.int32
    assert len(exported["boxes"]) == len(wanted)
    for i, detections in enumerate(wanted):
        count = exported["num_detections"][i]
        assert count == len(detections["labels"])
        rows = {name: exported[name][i] for name in ("boxes", "labels", "confidence")}
        np.testing.assert_allclose(rows["boxes"][:count], detections["boxes"], rtol=0, atol=0.05)
        np.testing.assert_array_equal(rows["labels"][:count], detections["labels"])
        np.testing.assert_allclose(
            rows["confidence"][:count], detections["confidence"], rtol=0, atol=1e-4
        )
        for value in rows.values():
            assert (value[count:] == -1).all()


@pytest.fixture(scope="package")
def model():
    return make()


@pytest.fixture(autouse=True)
def settings(model):
    """Every test finds the shared model's settings as they were."""
    names = ("score_threshold", "iou_threshold", "max_detections", "resize")
    before = {name: getattr(model, name) for name in names}
    yield
    for name, value in before.items():
        setattr(model, name, value)
