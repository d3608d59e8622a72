"""TensorFlow's SavedModel, for TensorFlow Serving, C++ and `tf.saved_model.load`."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from kerasdet.export.endpoint import make_endpoint


def write(model, path, size=None, num_proposals=None):
    """Write a SavedModel folder with a signature "serving_default" from pixels to boxes.

    The export uses TensorFlow's own kernels of non-maximum suppression, and keeps the model's precision.

    Args:
        model: a built `Detector`.
        path: the folder.
        size: (H, W) of the images, or None for any.
        num_proposals: R, or None for any; for models that take proposals.

    Raises:
        FileExistsError: `path` exists and is not a SavedModel.
        OSError: the folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not (path / "saved_model.pb").is_file() and not _is_empty(path):
        raise FileExistsError(
            f"{path} exists and is not a SavedModel: give the name of a new folder."
        )
    with replaced_folder(path) as temporary:
        endpoint = {"size": size, "num_proposals": num_proposals, "portable": False}
        write_archive(model, temporary, **endpoint)


def write_archive(model, folder, **endpoint):
    """Write the SavedModel of an endpoint into a folder; the arguments are those of `make_endpoint`."""
    import keras

    function, specs = make_endpoint(model, **endpoint)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", function, input_signature=specs)
    archive.write_out(folder, verbose=False)


@contextlib.contextmanager
def replaced_folder(path):
    """Yield a temporary folder beside `path`, which replaces it if the block ends without an error.

    An existing folder is moved aside, replaced and then removed; on an error it stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        message = f"cannot write into the folder ({error.strerror}); choose another"
        raise type(error)(error.errno, message, str(path.parent)) from error
    new, old = holder / "new", holder / "old"
    try:
        yield new
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(new, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _is_empty(path):
    return path.is_dir() and not any(path.iterdir())
