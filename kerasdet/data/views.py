"""Data sets made of other data sets: `View`, which changes nothing, `Subset` and `WithClasses`."""

import dataclasses
import itertools

import numpy as np

from kerasdet.data.records import Dataset

# Attributes that a view takes from its data set.
_DESCRIPTION = ("name", "class_names", "category_ids", "channels", "faults")
_DESCRIPTION += ("keypoint_names", "keypoint_sigmas", "semantic_names")


class View(Dataset):
    """Base of data sets that show another data set and change something about it.

    Args:
        parent: a `Dataset`.
    """

    def __init__(self, parent):
        self.parent = parent
        for name in _DESCRIPTION:
            setattr(self, name, getattr(parent, name))

    def __len__(self):
        return len(self.parent)

    def record(self, index):
        """Return the record; see `Dataset.record`."""
        return self.parent.record(index)

    def image(self, index):
        """Return the image; see `Dataset.image`."""
        return self.parent.image(index)

    def semantic(self, index):
        """Return the semantic map; see `Dataset.semantic`."""
        return self.parent.semantic(index)

    def image_faults(self, index):
        """Return the faults of a readable image; see `Dataset.image_faults`."""
        return self.parent.image_faults(index)

    def box_counts(self):
        """Count the objects in each image; see `Dataset.box_counts`."""
        return self.parent.box_counts()

    def image_ids(self):
        """List the images' ids; see `Dataset.image_ids`."""
        return self.parent.image_ids()


class Subset(View):
    """Some images of another data set.

    Args:
        parent: a `Dataset`.
        indices: the images, in order.
    """

    def __init__(self, parent, indices):
        super().__init__(parent)
        self.indices = [range(len(parent))[int(i)] for i in indices]

    def __len__(self):
        return len(self.indices)

    def record(self, index):
        """Return the record; see `Dataset.record`."""
        return self.parent.record(self.indices[index])

    def image(self, index):
        """Return the image; see `Dataset.image`."""
        return self.parent.image(self.indices[index])

    def semantic(self, index):
        """Return the semantic map; see `Dataset.semantic`."""
        return self.parent.semantic(self.indices[index])

    def box_counts(self):
        """Count the objects in each image; see `Dataset.box_counts`."""
        return self.parent.box_counts()[self.indices]

    def image_ids(self):
        """List the images' ids; see `Dataset.image_ids`."""
        ids = self.parent.image_ids()
        return [ids[index] for index in self.indices]

    def image_faults(self, index):
        """Return the faults of a readable image; see `Dataset.image_faults`."""
        return self.parent.image_faults(self.indices[index])


class WithClasses(View):
    """The images of another data set, labelled by other classes, matched by name.

    Args:
        parent: a `Dataset`.
        class_names: K names, in order; all of the parent's are among them.

    Raises:
        ValueError: the parent has a class that is not among them, or one twice.
    """

    def __init__(self, parent, class_names):
        super().__init__(parent)
        self.class_names = tuple(class_names)
        unknown = [name for name in parent.class_names if name not in self.class_names]
        if unknown:
            raise ValueError(
                f"{parent.name} has the class(es) {', '.join(map(repr, unknown))}, which are not among "
                f"{', '.join(map(repr, self.class_names))}: rename them, leave their objects out, or train "
                "on data that has them."
            )
        if len(set(parent.class_names)) < len(parent.class_names):
            raise ValueError(f"{parent.name} names a class twice: {', '.join(parent.class_names)}.")
        self._labels = np.array([self.class_names.index(n) for n in parent.class_names], "int32")
        ids = dict(zip(parent.class_names, parent.category_ids))
        free = (number for number in itertools.count(1) if number not in ids.values())
        self.category_ids = tuple(
            ids[name] if name in ids else next(free) for name in self.class_names
        )

    def record(self, index):
        """See `Dataset.record`."""
        record = self.parent.record(index)
        return dataclasses.replace(record, labels=self._labels[record.labels])
