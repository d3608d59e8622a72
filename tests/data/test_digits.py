import hashlib
import sys

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from kerasdet.data import digits
from kerasdet.data.digits import digit_scenes

pytest.importorskip("sklearn")

# The benchmark itself: published figures hold for these scenes and no others.
FROZEN = {
    "train": "10eb5f368b85b1a7d158fe205448ada2cb669d5a8d911157c18b4922e6316da2",
    "val": "94380c9dfb4a3a0a9a735f12fd6643550cd3a3da6022ccec8e3e0189240cd6d0",
    "test": "7513becbd5b31bc6f22e1797206753390c84f7f9455b2e1b551211481dabec05",
}


def digest(dataset, indices):
    """SHA-256 of everything that some scenes hold."""
    out = hashlib.sha256()
    for index in indices:
        record = dataset.record(index)
        out.update(dataset.image(index).tobytes())
        out.update(dataset.semantic(index).astype("<i4").tobytes())
        out.update(record.boxes.astype("<f4").tobytes())
        out.update(record.labels.astype("<i4").tobytes())
        out.update(record.area.astype("<f4").tobytes())
        out.update(record.keypoints.astype("<f4").tobytes())
        out.update(b"".join(rle["counts"] for rle in record.masks))
    return out.hexdigest()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_frozen(split):
    assert digest(digit_scenes(split), [*range(10), 100, 255]) == FROZEN[split]
