"""Checkpoints of TensorFlow 1 as tests write them: in a folder, and packed."""

import io
import tarfile

import numpy as np

SUFFIXES = (".index", ".data-00000-of-00001")


def write_checkpoint(prefix, arrays):
    """Write a checkpoint as TensorFlow 1's saver does.

    Args:
        prefix: path without suffix; its folder exists.
        arrays: {name: array}; an array of texts is allowed.

    Returns:
        The prefix.
    """
    import tensorflow as tf

    names = list(arrays)
    tensors = [tf.constant(arrays[name]) for name in names]
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )
    return prefix


def pack(path, members):
    """Write a .tar.gz.

    Args:
        path: the file.
        members: {name: bytes, or a `tarfile.TarInfo` without content}.

    Returns:
        The path.
    """
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def packed(path, arrays, folder, place="net"):
    """Write a .tar.gz with a checkpoint and what else is published beside it.

    Args:
        path: the file.
        arrays: {name: array}.
        folder: for the files in it.
        place: the folder in the archive.

    Returns:
        The path.
    """
    prefix = write_checkpoint(folder / "model.ckpt", arrays)
    files = {f"{place}/model.ckpt{s}": (folder / f"model.ckpt{s}").read_bytes() for s in SUFFIXES}
    others = {
        f"{place}/checkpoint": b'model_checkpoint_path: "model.ckpt"\n',
        f"{place}/frozen_inference_graph.pb": bytes(1000),
        f"{place}/model.ckpt.meta": bytes(100),
    }
    assert prefix
    return pack(path, {**others, **files})


def numbers(*shape, start=0):
    """Whole numbers as float32."""
    return np.arange(start, start + np.prod(shape, dtype=int), dtype="float32").reshape(shape)
