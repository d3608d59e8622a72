"""Published checkpoints as NumPy arrays, read without the framework that wrote them.

Files may be hostile: none of their code is run, every length is checked against the file's size, and no
parser in C sees them, except TensorFlow's own of its own checkpoints (`tensorflow_v1.py`).
"""

from kerasdet.zoo.checkpoints.errors import CheckpointError
from kerasdet.zoo.checkpoints.read import read_checkpoint

__all__ = ["CheckpointError", "read_checkpoint"]
