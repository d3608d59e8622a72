"""The boxes of torchvision and mmdetection, and ours: the reference where PyTorch is, then compare.py here.

    python tests/parity/run.py --torch-python ~/torch/bin/python --models resnet18_imagenet --seed 7
    python tests/parity/run.py --mmdet-python ~/mmdet/bin/python --models cascade_rcnn_r50_fpn_20e_coco

Each side needs an environment of its own: one with torch and torchvision, one as `mmdetection.py` describes
it, one with kerasdet. What the command line holds besides is passed to the references;
`python -m tests.parity.reference --help` tells it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main():
    """Run both sides; the exit status is that of the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", help="Python with torch and torchvision")
    parser.add_argument("--mmdet-python", help="Python with mmdetection")
    parser.add_argument("--folder", help="where to keep both sides' files; default: nowhere")
    options, rest = parser.parse_known_args()
    references = {"reference": options.torch_python, "mmdetection": options.mmdet_python}
    if not any(references.values()):
        parser.error("give --torch-python, --mmdet-python or both")
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(Path(options.folder or temporary).resolve())
        # Relative paths on the command line are meant from here, the modules' names from the root.
        path = {"PYTHONPATH": str(ROOT)}
        for module, python in references.items():
            if python:
                reference = [python, "-m", f"tests.parity.{module}", folder, *rest]
                subprocess.run(reference, env={**os.environ, **path}, check=True)
        compare = [sys.executable, "-m", "tests.parity.compare", folder]
        sys.exit(subprocess.run(compare, env={**os.environ, **path}, check=False).returncode)


if __name__ == "__main__":
    main()
