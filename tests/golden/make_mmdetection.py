"""Write mmdetection.npz and two checkpoints: what mmcv makes of images, and how mmdetection saves weights.

    PYTHONPATH=. python tests/golden/make_mmdetection.py

Run with the Python of `tests/parity/mmdetection.py`. What whole models give is in `tests/parity/golden`.
"""

from collections import OrderedDict
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmengine.runner import save_checkpoint

from tests.parity.lively import image

# (height, width) of the image, and the shortest and longest edge.
SIZES = {
    "larger": ((37, 51), (60, 100)),
    "bounded by the longest": ((30, 90), (60, 100)),
    "smaller": ((90, 61), (40, 64)),
    "much smaller": ((160, 111), (16, 40)),
    "half": ((64, 96), (32, 100)),
    "half of odd": ((65, 97), (32, 100)),
    "the same": ((32, 48), (32, 48)),
    "one row": ((1, 9), (16, 32)),
}
# As in the published files: texts, numbers, tuples of texts.
META = {
    "env_info": "sys.platform: linux\nPyTorch: 1.3.1\n",
    "config": "model = dict(type='CascadeRCNN')\n",
    "seed": None,
    "epoch": 20,
    "iter": 146_600,
    "lr": [2e-05],
    "CLASSES": ("person", "bicycle"),
    "mmdet_version": "2.0.0+ce9d1d5",
    "hook_msgs": {},
}


def checkpoint():
    """A published checkpoint: weights and `META`."""
    state = OrderedDict(
        {
            "backbone.conv1.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
            "backbone.bn1.num_batches_tracked": torch.tensor(7),
            "roi_head.bbox_head.0.fc_cls.bias": torch.tensor([0.5, -1.0, 2.0]),
        }
    )
    state._metadata = OrderedDict({"": {"version": 1}, "backbone.bn1": {"version": 2}})
    return {"meta": META, "state_dict": state}


def main():
    """Write the files."""
    arrays = {}
    for number, (name, (size, edges)) in enumerate(SIZES.items()):
        pixels = image(*size, number)
        arrays[f"{name}/image"] = pixels
        arrays[f"{name}/edges"] = np.int32(edges)
        arrays[f"{name}/resized"] = mmcv.imrescale(pixels, edges[::-1])
    versions = f"mmcv-lite {mmcv.__version__}, OpenCV {cv2.__version__}"
    np.savez_compressed(Path(__file__).with_name("mmdetection.npz"), versions=versions, **arrays)
    folder = Path(__file__).parents[1] / "zoo" / "golden"
    save_checkpoint(checkpoint(), str(folder / "mmdetection.pth"))
    # The files of 2020 have the container before the zip archive.
    torch.save(
        checkpoint(),
        folder / "mmdetection_legacy.pth",
        _use_new_zipfile_serialization=False,
    )


if __name__ == "__main__":
    main()
