"""What the commands share: a quiet start, a model by its name, tables."""

import os
import sys


def start_quietly():
    """Import TensorFlow without its messages about the machine; --debug lets them through.

    Its C++ part writes them before any log level counts, so stderr itself is redirected.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def load_model(name_or_path, threshold=None, max_detections=None):
    """A detector by its name or path.

    Args:
        name_or_path: a name of `kerasdet list`, a .keras file or a run's folder.
        threshold: its least confidence from now on; None keeps the model's own.
        max_detections: most detections per image from now on; None keeps the model's own.

    Returns:
        A `Detector`.

    Raises:
        ValueError: no such model, or a setting out of range.
    """
    start_quietly()
    from kerasdet import zoo

    model = zoo.load(name_or_path)
    if threshold is not None:
        model.score_threshold = threshold
    if max_detections is not None:
        model.max_detections = max_detections
    return model


class CapCounter:
    """Counts images in which a detector found as many objects as it returns at most.

    Args:
        detector: a `Detector`.
    """

    def __init__(self, detector):
        self.limit = detector.max_detections
        self.images = self.capped = 0

    def add(self, detections):
        """Count one image's detections, as `detect` returns them."""
        self.images += 1
        self.capped += len(detections["labels"]) >= self.limit

    def report(self):
        """Print how many images reached the limit, and what raises it; nothing if none did."""
        if self.capped:
            print(
                f"{self.capped} of {self.images} images reached the limit of {self.limit} detections and may "
                f"hold more objects: raise it with --max-detections {2 * self.limit}"
            )


def check_proposals(model, proposals):
    """Whether a model is to be given the file of --proposals.

    Args:
        model: a `Detector`.
        proposals: the file, or None.

    Returns:
        bool: the model takes proposals, and there is a file.

    Raises:
        ValueError: the model takes proposals and there is no file, or the other way round.
    """
    takes = "proposals" in getattr(model, "INPUTS", ())
    if takes and proposals is None:
        raise ValueError(
            f"{type(model).__name__} takes proposals: add --proposals FILE.npz, written by "
            "kerasdet.data.save_proposals."
        )
    if proposals is not None and not takes:
        raise ValueError(
            f"{type(model).__name__} takes no proposals: leave out --proposals {proposals}."
        )
    return takes


def print_table(rows, title=None, left=1):
    """Print a table.

    Args:
        rows: list of rows of str, the first the heading.
        title: line above the table.
        left: number of columns, from the first, that are aligned to the left.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Narrow, so that COCO's eleven columns fit a terminal of 80.
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for index, name in enumerate(rows[0]):
        if index < left:
            # Names stay whole, longer texts are folded.
            widest = max(len(row[index]) for row in rows)
            table.add_column(name, overflow="fold", min_width=min(widest, 30))
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)
