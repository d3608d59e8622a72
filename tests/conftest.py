import os
from pathlib import Path

import pytest

# Before anything imports TensorFlow: its log would bury the tests' own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def shared_data():
    """Folder with bccd/ and coco_mini/, real pictures that are no part of the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real pictures are not at {folder}")
    return folder
