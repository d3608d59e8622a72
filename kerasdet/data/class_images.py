"""Images of one class each, for classifiers: folders named by classes, arrays, crops and batches of both."""

import math
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from kerasdet.images import load_image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Source: Szegedy et al., arXiv 1409.4842, §6: areas and aspect ratios of the crops.
AREAS = (0.08, 1.0)
RATIOS = (3 / 4, 4 / 3)
TRIES = 10
CENTRE = 224 / 256  # share of the shorter side that is cut from the centre (AlexNet's and ResNet's)


class ClassFolders:
    """The images of a folder with one folder for each class, `root/CLASS/IMAGE`.

    Args:
        root: the folder. Classes are its folders in alphabetical order; hidden files are passed over.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: fewer than two classes, or a class without images.

    Attributes:
        class_names: names of the folders.
        labels: (N,) int32, number of each image's class.
    """

    def __init__(self, root):
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(
                f"There is no folder {root}; give one with a folder for each class."
            )
        folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
        if len(folders) < 2:
            raise ValueError(
                f"{root} has {len(folders)} folders; give one folder of images for each of at least two "
                "classes, root/CLASS/IMAGE."
            )
        self.class_names = tuple(folder.name for folder in folders)
        self.paths, labels = [], []
        for label, folder in enumerate(folders):
            found = sorted(path for path in folder.rglob("*") if _is_image(path))
            if not found:
                raise ValueError(
                    f"{folder} has no images ({', '.join(SUFFIXES)}); add some, or remove the folder."
                )
            self.paths += found
            labels += [label] * len(found)
        self.labels = np.array(labels, "int32")

    def __len__(self):
        return len(self.paths)

    def image(self, index):
        """Return an image, (H, W, 3) uint8 RGB; an unreadable one is an error that names its file."""
        return load_image(self.paths[index])


class ClassArrays:
    """Images in memory.

    Args:
        images: (N, H, W, 3), or a list of (H, W, 3), 0..255; or what else `load_image` takes.
        labels: (N,) numbers of classes, 0 to K - 1.
        class_names: K names; default: the numbers.

    Raises:
        ValueError: no images, another number of labels, a label that is no class, or fewer than two classes.
    """

    def __init__(self, images, labels, class_names=None):
        self.images, self.labels = images, np.asarray(labels)
        if len(images) == 0 or self.labels.shape != (len(images),):
            raise ValueError(
                f"labels has the shape {self.labels.shape} for {len(images)} images; give one for each."
            )
        if self.labels.dtype.kind not in "iu" or self.labels.min() < 0:
            raise ValueError(
                f"labels are {self.labels.dtype} from {self.labels.min()}; give whole numbers."
            )
        self.labels = self.labels.astype("int32")
        if class_names is None:
            class_names = map(str, range(self.labels.max() + 1))
        self.class_names = tuple(class_names)
        if not 2 <= len(self.class_names) > self.labels.max():
            raise ValueError(
                f"class_names has {len(self.class_names)} names and labels go to {self.labels.max()}; give "
                "a name for each of at least two classes."
            )

    def __len__(self):
        return len(self.images)

    def image(self, index):
        """Return an image, (H, W, 3) uint8 RGB."""
        return load_image(self.images[index])


def random_resized_crop(rng, image, size, least_area=AREAS[0], flip=True):
    """Cut a random rectangle, resize it to a square and mirror it at times.

    Args:
        rng: `numpy.random.Generator`.
        image: (H, W, 3) uint8.
        size: pixels per side of the result.
        least_area: least share of the image's area that is kept.
        flip: whether half of the crops are mirrored, left to right.

    Returns:
        (size, size, 3) uint8.

    Source: arXiv 1409.4842, §6: 8 % to 100 % of the area, aspect ratio between 3/4 and 4/3.
    """
    height, width = image.shape[:2]
    for _ in range(TRIES):
        area = height * width * rng.uniform(least_area, AREAS[1])
        ratio = math.exp(rng.uniform(*map(math.log, RATIOS)))  # width to height
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
            cut = _resized(image, (x, y, x + w, y + h), size)
            break
    else:
        cut = centre_crop(image, size, share=1.0)
    return cut[:, ::-1] if flip and rng.random() < 0.5 else cut


def centre_crop(image, size, share=CENTRE):
    """Cut the central square and resize it.

    Args:
        image: (H, W, 3) uint8.
        size: pixels per side of the result.
        share: the square's side, of the image's shorter one.

    Returns:
        (size, size, 3) uint8.
    """
    height, width = image.shape[:2]
    side = min(height, width) * share
    x, y = (width - side) / 2, (height - side) / 2
    return _resized(image, (x, y, x + side, y + side), size)


class ClassBatches(keras.utils.PyDataset):
    """Batches of crops and labels, for `fit` and `evaluate`.

    Args:
        data: `ClassFolders`, `ClassArrays`, or what has their `labels`, `image` and length.
        batch_size: images in a batch.
        size: pixels per side.
        augment: `augment(rng, image, size) -> (size, size, 3)`, in training, where images come in an order
            of their own in each epoch and an incomplete batch is left out; None: central crops, in order.
        seed: of order and crops.
        epoch: the first epoch.
    """

    def __init__(self, data, batch_size, size, augment=None, seed=0, epoch=0):
        super().__init__()
        self.data, self.batch_size, self.size = data, batch_size, size
        self.augment, self.seed, self.epoch = augment, seed, epoch
        self._order = self._drawn_order()

    def __len__(self):
        whole, rest = divmod(len(self.data), self.batch_size)
        # Of fewer images than a batch has, training takes what there is.
        return max(1, whole) if self.augment else whole + (rest > 0)

    def __getitem__(self, index):
        """Return images (B, size, size, 3) uint8 and labels (B,) int32."""
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        images = np.stack([self._crop(int(number)) for number in chosen])
        return images, self.data.labels[chosen]

    def on_epoch_end(self):
        """Draw another order and other crops."""
        self.epoch += 1
        self._order = self._drawn_order()

    def _drawn_order(self):
        if not self.augment:
            return np.arange(len(self.data))
        return np.random.default_rng((self.seed, self.epoch)).permutation(len(self.data))

    def _crop(self, number):
        image = self.data.image(number)
        if not self.augment:
            return centre_crop(image, self.size)
        rng = np.random.default_rng((self.seed, self.epoch, number))
        return self.augment(rng, image, self.size)


def _is_image(path):
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _resized(image, box, size):
    """Resize a box (x1, y1, x2, y2) of an image, with antialiasing."""
    picture = Image.fromarray(image)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))
