"""Published checkpoints as NumPy arrays, read without the framework that wrote them.

Files are taken for hostile: no code in them is run, every length is held against the file's size,
and nothing is handed to a parser in C.
"""

from kerasdet.zoo.checkpoints.errors import CheckpointError
from kerasdet.zoo.checkpoints.read import read_checkpoint

__all__ = ["CheckpointError", "read_checkpoint"]
