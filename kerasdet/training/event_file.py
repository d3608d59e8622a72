"""TensorBoard's log, written with TensorFlow alone: TensorBoard need not be installed."""

import socket
import time
from pathlib import Path


class EventFile:
    """A new event file in a folder; `tensorboard --logdir FOLDER` shows it.

    TensorFlow's own `tf.summary.scalar` exists only if TensorBoard is installed; its protocol buffers and
    record files always exist.

    Args:
        folder: where to write; created if missing.
    """

    def __init__(self, folder):
        import tensorflow as tf

        self._proto = tf.compat.v1
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._writer = tf.io.TFRecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")

    def scalars(self, step, values):
        """Add {name: number} at a step."""
        summary = self._proto.Summary()
        for name, value in values.items():
            summary.value.add(tag=name, simple_value=float(value))
        self._write(step=step, summary=summary)

    def image(self, step, name, png):
        """Add an image at a step, as the bytes of a PNG file."""
        summary = self._proto.Summary()
        # Colorspace 3 is RGB; the viewer reads the size from the PNG itself.
        content = self._proto.Summary.Image(encoded_image_string=png, colorspace=3)
        summary.value.add(tag=name, image=content)
        self._write(step=step, summary=summary)

    def close(self):
        """Close the file."""
        self._writer.close()

    def _write(self, **fields):
        event = self._proto.Event(wall_time=time.time(), **fields)
        self._writer.write(event.SerializeToString())
        self._writer.flush()
