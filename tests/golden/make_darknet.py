"""Golden values of Darknet's networks: what the original Darknet and OpenCV compute.

Needs Debian's package `darknet` (libdarknet.so, driven by ctypes) and, in an environment of its own,
opencv-contrib-python-headless < 5:

    python tests/golden/make_darknet.py                  darknet.npz: small networks with their weights
    python tests/golden/make_darknet.py --large FOLDER   Debian's own configurations, into a folder

`python -m tests.parity.darknet FOLDER` then compares kerasdet with the folder. Weights are random: of unit
gain, so that maps keep their size, and small in the last layer, so that scores do not saturate.
"""

import argparse
import ctypes
import re
import struct
from pathlib import Path

import numpy as np

LIBRARY = "/usr/lib/darknet/libdarknet.so"
CONFIGURATIONS = Path("/usr/share/darknet/cfg")
LARGE = ("yolov1", "yolov1-tiny", "yolov2-voc", "yolov2-tiny-voc", "darknet19")
FOLDER = Path(__file__).parent

NET = """[net]
# a comment
batch=1
subdivisions=1
width={width}
height={height}
channels=3
momentum=0.9
"""
CONV = """[convolutional]
batch_normalize=1
filters={}
size={}
stride={}
pad=1
activation=leaky
"""
POOL = "[maxpool]\nsize=2\nstride=2\n"
LINEAR = "[convolutional]\nsize=1\nstride=1\npad=1\nfilters={}\nactivation=linear\n"
REGION = """[region]
anchors = 1.3221, 1.73145, 3.19275, 4.00944, 5.05587,2.09892
bias_match=1
classes=3
coords=4
num=3
softmax=1
jitter=.2
rescore=1
object_scale=5
noobject_scale=1
class_scale=1
coord_scale=1
absolute=1
thresh=.6
random=0
"""
DETECTION = """[detection]
classes=3
coords=4
rescore=1
side={side}
num={num}
softmax=0
sqrt=1
jitter=.2
object_scale=1
noobject_scale=.5
class_scale=1
coord_scale=5
"""


def conv(filters, size=3, stride=1):
    return CONV.format(filters, size, stride)


def trunk(*filters):
    return "".join(conv(count) + POOL for count in filters)


SMALL = {
    # Passthrough, and a map that is not square.
    "yolov2": NET.format(width=96, height=64)
    + trunk(4, 4, 8, 8)
    + conv(8)
    + POOL
    + conv(16)
    + conv(8, 1)
    + conv(12)
    + conv(12)
    + "[route]\nlayers=-6\n"
    + conv(4, 1)
    + "[reorg]\nstride=2\n[route]\nlayers=-1,-4\n"
    + conv(12)
    + LINEAR.format(3 * 8)
    + REGION,
    # A pooling of stride 1, and an odd map.
    "yolov2-tiny": NET.format(width=96, height=96)
    + trunk(4, 4, 8, 8, 8)
    + conv(8)
    + "[maxpool]\nsize=2\nstride=1\n"
    + conv(16)
    + conv(12)
    + LINEAR.format(3 * 8)
    + REGION,
    # Dense layers, as in the paper; no batch normalisation.
    "yolov1": NET.format(width=128, height=128)
    + (
        conv(4, 7, 2)
        + POOL
        + conv(8)
        + POOL
        + conv(8, 1)
        + POOL
        + conv(8)
        + POOL
        + conv(12)
        + conv(12, 3, 2)
        + conv(8)
    ).replace("batch_normalize=1\n", "")
    + "[connected]\noutput=24\nactivation=leaky\n[dropout]\nprobability=.5\n"
    + f"[connected]\noutput={9 * 13}\nactivation=linear\n"
    + DETECTION.format(side=3, num=2),
    # A locally connected layer and three boxes of a cell, as in Debian's yolov1.cfg.
    "yolov1-local": NET.format(width=96, height=96)
    + trunk(4, 4, 4, 8)
    + conv(8)
    + conv(8, 3, 2)
    + "[local]\nsize=3\nstride=1\npad=1\nfilters=6\nactivation=leaky\n[dropout]\nprobability=.5\n"
    + f"[connected]\noutput= {9 * 18}\nactivation=linear\n"
    + DETECTION.format(side=3, num=3),
    "classifier": NET.format(width=64, height=64)
    + trunk(4, 4, 8, 8, 8)
    + conv(12)
    + LINEAR.format(7)
    + "[avgpool]\n[softmax]\ngroups=1\n",
}


def sections(text):
    """[(kind, {option: text})] of a configuration."""
    found = []
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("["):
            found.append((line[1:-1], {}))
        elif line:
            name, _, value = line.partition("=")
            found[-1][1][name.strip()] = value.strip()
    return found


def random_weights(text, path, version, seed=0):
    """Write random weights for a configuration, in the order of Darknet's own `save_weights`."""
    rng = np.random.default_rng(seed)
    (_, net), *layers = sections(text)
    shape, shapes = (3, int(net["height"]), int(net["width"])), []
    last = max(i for i, (kind, _) in enumerate(layers) if kind in ("convolutional", "connected"))
    with open(path, "wb") as file:
        file.write(struct.pack("<3i", 0, version, 0))
        file.write(struct.pack("<q" if version >= 2 else "<i", 6400))

        def write(values):
            file.write(np.asarray(values, "<f4").tobytes())

        for index, (kind, options) in enumerate(layers):
            (c, h, w), gain = shape, 0.3 if index == last else 2.0
            number = {k: int(v) for k, v in options.items() if v.lstrip("-").isdigit()}
            if kind == "convolutional":
                n, k, stride = number["filters"], number["size"], number.get("stride", 1)
                write(rng.normal(0, 0.1, n))
                if number.get("batch_normalize"):
                    write(rng.uniform(0.8, 1.2, n))
                    write(rng.normal(0, 0.1, n))
                    write(rng.uniform(0.5, 1.5, n))
                write(rng.normal(0, (gain / (c * k * k)) ** 0.5, n * c * k * k))
                shape = n, (h - 1) // stride + 1, (w - 1) // stride + 1
            elif kind == "maxpool":
                stride = number["stride"]
                shape = c, -(-h // stride), -(-w // stride)
            elif kind == "reorg":
                shape = 4 * c, h // 2, w // 2
            elif kind == "route":
                places = [int(p) for p in options["layers"].split(",")]
                inputs = [shapes[p if p >= 0 else index + p] for p in places]
                shape = (sum(x[0] for x in inputs), *inputs[0][1:])
            elif kind == "avgpool":
                shape = c, 1, 1
            elif kind == "connected":
                n = number["output"]
                write(rng.normal(0, 0.5 if index == last else 0.1, n))
                for _ in range(n):
                    write(rng.normal(0, (gain / (c * h * w)) ** 0.5, c * h * w))
                shape = n, 1, 1
            elif kind == "local":
                n = number["filters"]
                write(rng.normal(0, 0.1, n * h * w))
                for _ in range(h * w):
                    write(rng.normal(0, (2 / (9 * c)) ** 0.5, n * c * 9))
                shape = n, h, w
            shapes.append(shape)
    return shapes[-1]


class Box(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in "xywh"]


class Detection(ctypes.Structure):
    _fields_ = [
        ("bbox", Box),
        ("classes", ctypes.c_int),
        ("prob", ctypes.POINTER(ctypes.c_float)),
        ("mask", ctypes.POINTER(ctypes.c_float)),
        ("objectness", ctypes.c_float),
        ("sort_class", ctypes.c_int),
    ]


def run_darknet(cfg, weights, image, size):
    """Raw output of the last layer, and of a detector all boxes (x1 y1 x2 y2) and scores of classes."""
    library = ctypes.CDLL(LIBRARY)
    library.load_network.restype = ctypes.c_void_p
    library.load_network.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
    library.network_predict.restype = ctypes.POINTER(ctypes.c_float)
    library.network_predict.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_float)]
    library.set_batch_network.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.free_network.argtypes = [ctypes.c_void_p]
    library.get_network_boxes.restype = ctypes.POINTER(Detection)
    library.get_network_boxes.argtypes = [
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_float, ctypes.c_float),
        *(ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int)),
    ]
    network = library.load_network(str(cfg).encode(), str(weights).encode(), 0)
    library.set_batch_network(network, 1)
    blob = np.ascontiguousarray(image.transpose(2, 0, 1) / np.float32(255), "float32")
    output = library.network_predict(network, blob.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
    result = {"raw": np.ctypeslib.as_array(output, (size,)).copy()}
    last, options = sections(Path(cfg).read_text())[-1]
    if last in ("region", "detection"):
        count, (height, width) = ctypes.c_int(0), image.shape[:2]
        found = library.get_network_boxes(
            network, width, height, -1e9, 0.5, None, 0, ctypes.byref(count)
        )
        order = np.arange(count.value)
        if last == "region":  # by anchors, then cells; raw outputs and OpenCV have cells first
            order = order.reshape(int(options["num"]), -1).T.ravel()
        found = [found[i] for i in order]
        rows = np.array([[d.bbox.x, d.bbox.y, d.bbox.w, d.bbox.h] for d in found], "float32")
        half = rows[:, 2:] / 2
        result["boxes"] = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
        result["scores"] = np.array([d.prob[: int(options["classes"])] for d in found], "float32")
    library.free_network(network)
    return result


def run_opencv(cfg, weights, image):
    """OpenCV's rows of a [region] layer: x y w h of 1, objectness, scores (zero below its threshold)."""
    import cv2

    low = Path(cfg).with_suffix(
        ".opencv.cfg"
    )  # with nearly all scores, which random weights keep low
    low.write_text(re.sub(r"thresh *=.*", "thresh=.001", Path(cfg).read_text()))
    network = cv2.dnn.readNetFromDarknet(str(low), str(weights))
    network.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    network.setInput(image.transpose(2, 0, 1)[None].astype("float32") / np.float32(255))
    return network.forward()


def made(name, text, folder, version):
    """Everything about one network: image, raw output, boxes, scores, OpenCV's rows."""
    cfg, weights = folder / f"{name}.cfg", folder / f"{name}.weights"
    cfg.write_text(text)
    channels, height, width = random_weights(text, weights, version)
    (_, net), *_, (last, _) = sections(text)
    shape = int(net["height"]), int(net["width"]), 3
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    image = np.kron(image[::8, ::8], np.ones((8, 8, 1), np.uint8))[: shape[0], : shape[1]]
    values = {"image": image, **run_darknet(cfg, weights, image, channels * height * width)}
    if last == "region":
        values["opencv"] = run_opencv(cfg, weights, image)
    return values


def main():
    import tempfile

    parser = argparse.ArgumentParser()
    parser.add_argument("--large", type=Path)
    parser.add_argument("--only")
    options = parser.parse_args()
    if options.large:
        options.large.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(LARGE):
            if options.only in (None, name):
                text = (CONFIGURATIONS / f"{name}.cfg").read_text()
                values = made(name, text, options.large, 1 + number % 2)
                np.savez(options.large / f"{name}.npz", **values)
                print(name, {key: value.shape for key, value in values.items()})
        return
    arrays = {}
    for number, (name, text) in enumerate(SMALL.items()):
        with tempfile.TemporaryDirectory() as folder:
            values = made(name, text, Path(folder), 1 + number % 2)
            weights = (Path(folder) / f"{name}.weights").read_bytes()
        values |= {"cfg": np.array(text), "weights": np.frombuffer(weights, np.uint8)}
        arrays |= {f"{name}/{key}": value for key, value in values.items()}
        print(name, {key: value.shape for key, value in values.items()})
    np.savez_compressed(FOLDER / "darknet.npz", **arrays)


if __name__ == "__main__":
    main()
