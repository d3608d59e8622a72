"""Data sets made of other data sets: `View`, which changes nothing, and some images, `Subset`."""

from kerasdet.data.records import Dataset

# What a view takes over from its data set.
_DESCRIPTION = ("name", "class_names", "category_ids", "channels", "faults")
_DESCRIPTION += ("keypoint_names", "keypoint_sigmas", "semantic_names")


class View(Dataset):
    """Base of data sets that show another one, and change something about it.

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
        """See `Dataset.record`."""
        return self.parent.record(index)

    def image(self, index):
        """See `Dataset.image`."""
        return self.parent.image(index)

    def semantic(self, index):
        """See `Dataset.semantic`."""
        return self.parent.semantic(index)

    def image_faults(self, index):
        """See `Dataset.image_faults`."""
        return self.parent.image_faults(index)

    def box_counts(self):
        """See `Dataset.box_counts`."""
        return self.parent.box_counts()

    def image_ids(self):
        """See `Dataset.image_ids`."""
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
        """See `Dataset.record`."""
        return self.parent.record(self.indices[index])

    def image(self, index):
        """See `Dataset.image`."""
        return self.parent.image(self.indices[index])

    def semantic(self, index):
        """See `Dataset.semantic`."""
        return self.parent.semantic(self.indices[index])

    def box_counts(self):
        """See `Dataset.box_counts`."""
        return self.parent.box_counts()[self.indices]

    def image_ids(self):
        """See `Dataset.image_ids`."""
        ids = self.parent.image_ids()
        return [ids[index] for index in self.indices]

    def image_faults(self, index):
        """See `Dataset.image_faults`."""
        return self.parent.image_faults(self.indices[index])
