"""Sources of pictures with boxes, and the pipeline that turns them into batches.

Importing this imports neither TensorFlow nor scikit-learn: each comes with its first use.
"""

import importlib

_OWNERS = {
    "DataError": "records",
    "Dataset": "records",
    "Fault": "records",
    "Record": "records",
    "batches": "pipeline",
    "check": "check",
    "coco": "coco",
    "csv": "csv_file",
    "digit_scenes": "digits",
    "load_image": "pictures",
    "picture_size": "pictures",
    "voc": "voc",
    "yolo": "yolo",
}


def __getattr__(name):
    if name in _OWNERS:
        # Bound at once, because importing the module of the same name puts the module here.
        globals()[name] = getattr(
            importlib.import_module(f"kerasdet.data.{_OWNERS[name]}"), name
        )
        return globals()[name]
    if name in ("augment", "digits", "pipeline", "pictures", "records"):
        return importlib.import_module(f"kerasdet.data.{name}")
    raise AttributeError(f"module 'kerasdet.data' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_OWNERS])
