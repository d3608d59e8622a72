"""Sources of images with boxes, and the pipeline that turns them into batches.

Importing this package imports neither TensorFlow nor scikit-learn; each is imported on first use.
"""

import importlib

from kerasdet.images import image_size as image_size
from kerasdet.images import load_image as load_image

_OWNERS = {
    "ClassArrays": "class_images",
    "ClassFolders": "class_images",
    "DataError": "records",
    "Dataset": "records",
    "Fault": "records",
    "Record": "records",
    "batches": "pipeline",
    "check": "report",
    "coco": "coco_json",
    "csv": "csv_file",
    "digit_scenes": "digits",
    "load_proposals": "proposals",
    "save_proposals": "proposals",
    "voc": "voc_xml",
    "yolo": "yolo_txt",
}


_MODULES = ("augment", "digits", "pipeline", "proposals", "records", "report")


def __getattr__(name):
    """Import the module of a name on first use."""
    if name in _OWNERS:
        return getattr(importlib.import_module(f"kerasdet.data.{_OWNERS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"kerasdet.data.{name}")
    raise AttributeError(f"module 'kerasdet.data' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_OWNERS, *_MODULES])
