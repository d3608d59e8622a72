"""What the commands share: a quiet start, a model by its name, tables."""

import os
import sys


def start_quietly():
    """Import TensorFlow without its messages about the machine; --debug lets them through.

    They are written by its C++ part before any log level counts, so stderr itself is turned away.
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


def load_model(name_or_path, threshold=None):
    """A detector, with its score threshold changed if one is given."""
    start_quietly()
    from kerasdet import zoo

    model = zoo.load(name_or_path)
    if threshold is not None:
        model.score_threshold = threshold
    return model


def print_table(rows, title=None, left=1):
    """Print rows of str, the first the heading; the first `left` columns stand to the left."""
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
