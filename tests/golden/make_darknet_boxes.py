"""Golden values of Darknet's detection: letterbox, network, boxes in the image's pixels, suppression.

Needs Debian's package `darknet` (libdarknet.so, driven by ctypes):

    python tests/golden/make_darknet_boxes.py                   darknet_boxes.npz: images drawn here
    python tests/golden/make_darknet_boxes.py --photographs CFG WEIGHTS OUT PICTURE...

The first uses the small YOLOv2 of darknet.npz. `python -m tests.parity.darknet_boxes` compares kerasdet with
the second. Pillow decodes the photographs for both, because JPEG decoders differ by a level or two.
"""

import argparse
import ctypes
import tempfile
from pathlib import Path

import numpy as np
from make_darknet import FOLDER, LIBRARY, Detection, sections

THRESHOLD, SUPPRESSION = 0.02, 0.45
HIGHER = 0.06  # for the many boxes of a large network
# Height and width: the network sees 64 x 96 pixels. Among them: upright, tiny, longer than the canvas is.
SIZES = ((64, 96), (100, 141), (141, 100), (37, 200), (200, 37), (5, 7), (240, 320))


class DarknetImage(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("w", "h", "c")),
        ("data", ctypes.POINTER(ctypes.c_float)),
    ]


class Darknet:
    """Darknet's functions, and one network."""

    def __init__(self, cfg, weights):
        self.library = library = ctypes.CDLL(LIBRARY)
        library.load_network.restype = ctypes.c_void_p
        library.load_network.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
        library.network_predict.restype = ctypes.POINTER(ctypes.c_float)
        library.network_predict.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_float)]
        library.set_batch_network.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.get_network_boxes.restype = ctypes.POINTER(Detection)
        library.get_network_boxes.argtypes = [
            *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_float, ctypes.c_float),
            *(ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int)),
        ]
        library.do_nms_sort.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_float]
        library.letterbox_image.restype = DarknetImage
        library.letterbox_image.argtypes = [DarknetImage, ctypes.c_int, ctypes.c_int]
        self.network = library.load_network(str(cfg).encode(), str(weights).encode(), 0)
        library.set_batch_network(self.network, 1)
        (_, net), *_, (_, last) = sections(Path(cfg).read_text())
        self.size, self.classes = (int(net["height"]), int(net["width"])), int(last["classes"])

    def detect(self, image, threshold=THRESHOLD):
        """What `darknet detector test` finds: canvas (H, W, 3) of 1; x1 y1 x2 y2 score label."""
        height, width = image.shape[:2]
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1) / np.float32(255), "float32")
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        boxed = self.library.letterbox_image(DarknetImage(width, height, 3, data), *self.size[::-1])
        canvas = np.ctypeslib.as_array(boxed.data, (3, *self.size)).transpose(1, 2, 0).copy()
        self.library.network_predict(self.network, boxed.data)
        count = ctypes.c_int(0)
        found = self.library.get_network_boxes(
            self.network, width, height, threshold, 0.5, None, 1, ctypes.byref(count)
        )
        self.library.do_nms_sort(found, count.value, self.classes, SUPPRESSION)
        rows = []
        for one in found[: count.value]:
            x, y, w, h = (getattr(one.bbox, name) for name in "xywh")
            box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            box = np.clip(box, 0, 1) * [width, height, width, height]
            if not (box[2:] > box[:2]).all():  # in the padding
                continue
            scores = one.prob[: self.classes]
            rows += [[*box, s, label] for label, s in enumerate(scores) if s > threshold]
        return canvas, np.array(rows, "float32").reshape(-1, 6)


def drawn(height, width):
    """Blocks of colour."""
    rng = np.random.default_rng(height)
    blocks = rng.integers(0, 256, (-(-height // 9), -(-width // 9), 3))
    return np.kron(blocks, np.ones((9, 9, 1)))[:height, :width].astype(np.uint8)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photographs", nargs="+", type=Path)
    options = parser.parse_args()
    arrays = {}
    if options.photographs:
        from PIL import Image

        cfg, weights, out, *pictures = options.photographs
        darknet = Darknet(cfg, weights)
        for path in pictures:
            image = np.asarray(Image.open(path).convert("RGB"))
            arrays[path.name] = darknet.detect(image, HIGHER)[1]
            print(path.name, image.shape, len(arrays[path.name]))
        np.savez_compressed(out, **arrays)
        return
    with np.load(FOLDER / "darknet.npz") as file, tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "net.cfg", Path(folder) / "net.weights"
        paths[0].write_text(str(file["yolov2/cfg"]))
        paths[1].write_bytes(file["yolov2/weights"].tobytes())
        darknet = Darknet(*paths)
        for size in SIZES:
            image = drawn(*size)
            canvas, rows = darknet.detect(image)
            name = "x".join(map(str, size))
            arrays |= {f"{name}/image": image, f"{name}/canvas": canvas, f"{name}/rows": rows}
            print(name, len(rows), rows[:, 4].max(initial=0))
    np.savez_compressed(FOLDER / "darknet_boxes.npz", **arrays)


if __name__ == "__main__":
    main()
