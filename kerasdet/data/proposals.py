"""Proposals from outside a model: boxes that may contain an object, for each image of a data set.

This file owns their file format and the view that adds them to a data set's records. Proposals are
xyxy in the image's own pixels. Boxes that are partly outside the image are clipped as detectors clip
boxes: x to 0..width and y to 0..height. Boxes that are entirely outside or have no size are an error.
"""

import copy
import dataclasses
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from kerasdet.data.views import View
from kerasdet.files import atomic_write

FORMAT_VERSION = 1
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, MemoryError, OverflowError, RuntimeError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error, struct.error, SyntaxError, TypeError)


def save_proposals(path, proposals):
    """Write the proposals of several images as one file, whole or not at all.

    Args:
        path: the .npz file to write.
        proposals: {image id: boxes (N, 4) xyxy in the image's own pixels, or a tuple (boxes, scores
            (N,))}; ids are those of the data set's records, int or str. Either all images have scores,
            or none.

    Raises:
        ValueError: the file does not end in .npz, an id is neither int nor str, boxes or scores
            have another shape or are not finite, a box has no size, or only some images have
            scores; the message names the image.
        OSError: as for `kerasdet.files.atomic_write`.
    """
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"{path}: proposals are stored in a .npz file; change the suffix.")
    ids = [_plain_id(image_id) for image_id in proposals]
    entries = [
        boxes_and_scores(found, f"{path}: image {image_id!r}")
        for image_id, found in zip(ids, proposals.values())
    ]
    scored = [image_id for image_id, (_, scores) in zip(ids, entries) if scores is not None]
    if scored and len(scored) < len(ids):
        missing = next(image_id for image_id in ids if image_id not in scored)
        raise ValueError(
            f"{path}: image {scored[0]!r} has scores, but image {missing!r} has none; give scores "
            "for all images or for none."
        )
    arrays = {
        "format_version": np.int64(FORMAT_VERSION),
        "image_ids": np.array(json.dumps(ids)),
        "counts": np.array([len(boxes) for boxes, _ in entries], "int64"),
        "boxes": np.concatenate([np.zeros((0, 4), "float32"), *(boxes for boxes, _ in entries)]),
    }
    if scored:
        arrays["scores"] = np.concatenate([scores for _, scores in entries])
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_proposals(path):
    """Read a file that `save_proposals` wrote.

    Args:
        path: the .npz file. Reading it runs nothing that it contains.

    Returns:
        {image id: boxes (N, 4) float32}, or for a file with scores {image id: (boxes, scores (N,)
        float32)}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, damaged, or of a newer format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        version = int(arrays["format_version"])
        if version <= FORMAT_VERSION:
            return _entries(**arrays)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file of proposals.") from None
    except (*_UNREADABLE, AttributeError) as error:
        raise ValueError(
            f"{path}: not a file of proposals, or damaged ({error}); write it with "
            "kerasdet.data.save_proposals."
        ) from error
    raise ValueError(
        f"{path}: the proposals have format {version}, this kerasdet reads up to {FORMAT_VERSION}: "
        "upgrade kerasdet."
    )


def image_proposals(found, height, width, place):
    """Check and clip one image's proposals, and sort them by score.

    Args:
        found: boxes (N, 4) xyxy in the image's pixels, or a tuple (boxes, scores (N,)).
        height: height of the image in pixels.
        width: width of the image in pixels.
        place: start of error messages, which says whose proposals they are.

    Returns:
        (N, 4) float32, clipped to the image; by descending score if there are scores, otherwise in the
        given order.

    Raises:
        ValueError: another shape, values that are not finite, or a box that has no size or is outside
            the image.
    """
    boxes, scores = boxes_and_scores(found, place)
    if scores is not None:
        boxes = boxes[np.argsort(-scores, kind="stable")]
    clipped = np.clip(boxes, 0, np.float32([width, height, width, height]))  # (N, 4)
    outside = np.flatnonzero((clipped[:, 2:] <= clipped[:, :2]).any(-1))
    if len(outside):
        raise ValueError(
            f"{place}: proposal {boxes[outside[0]].tolist()} lies outside the image of {width}x"
            f"{height} pixels; are these the proposals of another image, or of another size of it? "
            "They are xyxy in the image's own pixels."
        )
    return clipped


def boxes_and_scores(found, place):
    """Check the boxes and scores of one image.

    Args:
        found: boxes (N, 4), or a tuple (boxes, scores (N,)).
        place: start of error messages, which says whose proposals they are.

    Returns:
        Tuple of boxes (N, 4) float32 and scores (N,) float32 or None.

    Raises:
        ValueError: another shape, values that are not finite, or a box without size.
    """
    boxes, scores = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    boxes = _numbers(boxes, "proposals", place)
    if boxes.shape == (0,):
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{place}: proposals have shape {boxes.shape}; give boxes (N, 4) xyxy.")
    faults = (
        ("is not finite", ~np.isfinite(boxes).all(-1)),
        ("has no size (xmin < xmax, ymin < ymax)", (boxes[:, 2:] <= boxes[:, :2]).any(-1)),
    )
    for fault, rows in faults:
        if rows.any():
            first = int(np.flatnonzero(rows)[0])
            raise ValueError(
                f"{place}: proposal {first} is {boxes[first].tolist()}, which {fault}; leave it out."
            )
    if scores is None:
        return boxes, None
    scores = _numbers(scores, "scores", place)
    if scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"{place}: scores have shape {scores.shape} for {len(boxes)} proposals; give one each."
        )
    if not np.isfinite(scores).all():
        first = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"{place}: score {first} is {scores[first]}; scores must be finite.")
    return boxes, scores


class WithProposals(View):
    """A data set whose records have proposals; see `Dataset.with_proposals`.

    Args:
        parent: a `Dataset`.
        source: proposals by image id, a file of them, or a function that computes them.
    """

    def __init__(self, parent, source):
        super().__init__(parent)
        self.source, self._origin, self._table = source, "the proposals", source
        if isinstance(source, (str, os.PathLike)):
            self._origin, self._table = os.fspath(source), load_proposals(source)
        elif callable(source):
            self._origin, self._table = getattr(source, "__name__", type(source).__name__), None
        elif not isinstance(source, Mapping):
            raise ValueError(
                f"proposals come from {{image id: boxes}}, a file or a function, not from "
                f"{type(source).__name__}."
            )
        self._kept = {}  # results of the function, by image id
        if self._table is not None:
            self._check_ids()

    def _check_ids(self):
        missing = [image_id for image_id in self.image_ids() if image_id not in self._table]
        if missing:
            some = ", ".join(repr(image_id) for image_id in list(self._table)[:3])
            raise ValueError(
                f"{self._origin}: no proposals for {len(missing)} of the {len(self)} images of "
                f"{self.name}, such as image {missing[0]!r}; there are proposals for {some or 'none'}"
                f"{', ...' if len(self._table) > 3 else ''}: give every image an entry by its "
                "record's image_id, of the same type; an empty one where nothing is proposed."
            )

    def record(self, index):
        """See `Dataset.record`."""
        record = self.parent.record(index)
        found = self._found(index, record.image_id)
        place = f"{self._origin}: image {record.image_id!r}"
        place += f" ({record.path})" if record.path else ""
        return dataclasses.replace(
            record, proposals=image_proposals(found, record.height, record.width, place)
        )

    def _found(self, index, image_id):
        if self._table is not None:
            return self._table[image_id]
        if image_id not in self._kept:
            self._kept[image_id] = self.source(self.image(index))
        return self._kept[image_id]

    def proposal_counts(self):
        """Return the number of proposals of each image; see `Dataset.proposal_counts`."""
        found = [self._found(i, image_id) for i, image_id in enumerate(self.image_ids())]
        boxes = [one[0] if isinstance(one, tuple) else one for one in found]
        return np.array([len(one) for one in boxes], "int64")

    def subset(self, indices):
        """Return a subset that shares the computed proposals; see `Dataset.subset`."""
        view = copy.copy(self)
        view.parent = self.parent.subset(indices)
        return view


def _entries(format_version, image_ids, counts, boxes, scores=None):
    """Return {image id: boxes or (boxes, scores)} from a file's arrays."""
    ids = [_plain_id(image_id) for image_id in json.loads(str(image_ids))]
    if len(set(ids)) != len(ids):
        raise ValueError("an image id appears twice")
    if counts.shape != (len(ids),) or (counts < 0).any() or counts.sum() != len(boxes):
        raise ValueError(f"{len(boxes)} boxes of {len(ids)} images do not agree with their counts")
    ends = np.cumsum(counts)
    found = {}
    for image_id, start, end in zip(ids, ends - counts, ends):
        one = boxes[start:end] if scores is None else (boxes[start:end], scores[start:end])
        checked = boxes_and_scores(one, f"image {image_id!r}")
        found[image_id] = checked[0] if scores is None else checked
    return found


def _plain_id(image_id):
    if isinstance(image_id, str):
        return image_id
    if isinstance(image_id, (int, np.integer)) and not isinstance(image_id, bool):
        return int(image_id)
    raise ValueError(
        f"image id {image_id!r} is {type(image_id).__name__}; ids must be int or str, as in the records."
    )


def _numbers(values, what, place):
    try:
        with np.errstate(over="ignore"):  # overflow is reported as not finite
            return np.asarray(values, "float32")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {what} are not an array of numbers ({error}).") from error
