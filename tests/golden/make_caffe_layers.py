"""Write caffe_layers.npz: what OpenCV's reader of Caffe files gives for layers and networks.

Needs, in an environment of its own, opencv-contrib-python-headless < 5:

    python tests/golden/make_caffe_layers.py

The networks are those of the published prototxts at full width, on a small image. Their weights come from
`drawn.py` by the layers' names; the file holds every eighth channel of the maps.
"""

import tempfile
from pathlib import Path

import cv2
import drawn
import numpy as np
from store import Case, save

IMAGE = 'input: "data" input_dim: 1 input_dim: {} input_dim: {} input_dim: {}\n'
LAYER = 'layer {{ name: "{name}" type: "{type}" bottom: {bottom} top: "{top}" {settings} }}\n'
REACH = 128.0  # of pixels: smaller responses would not move the normalisations


def varint(number):
    """A number in protobuf's variable length."""
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number, payload):
    """A length-delimited field of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def caffemodel(weights):
    """A NetParameter with the blobs of {layer: arrays}."""
    layers = []  # field 100; in it name 1 and blobs 7; in these shape 7 and data 5
    for name, arrays in weights.items():
        blobs = [
            field(7, field(1, b"".join(varint(side) for side in array.shape)))
            + field(5, array.astype("<f4").tobytes())
            for array in arrays
        ]
        layers.append(field(1, name.encode()) + b"".join(field(7, blob) for blob in blobs))
    return b"".join(field(100, layer) for layer in layers)


class Net:
    """A prototxt that grows layer by layer, each on the last one's output unless told otherwise."""

    def __init__(self, height, width, channels=3):
        self.text, self.weights = IMAGE.format(channels, height, width), {}
        self.last, self.widths = "data", {"data": channels}

    def layer(self, name, kind, settings="", bottom=None, width=None):
        """Add a layer without weights."""
        bottoms = bottom if isinstance(bottom, list) else [bottom or self.last]
        names = " bottom: ".join(f'"{place}"' for place in bottoms)
        self.text += LAYER.format(name=name, type=kind, bottom=names, top=name, settings=settings)
        self.widths[name] = width or self.widths[bottoms[0]]
        self.last = name

    def conv(self, name, filters, size, stride=1, pad=0, group=1, bottom=None):
        """Add a convolution and its ReLU, with weights by its name."""
        inputs = self.widths[bottom or self.last] // group
        ours = name.replace("/", "_")
        weights = drawn.kernel(ours, (size, size, inputs, filters)).transpose(3, 2, 0, 1)  # OIHW
        self.weights[name] = [weights, drawn.vector(ours, "bias", filters)]
        settings = (
            f"convolution_param {{ num_output: {filters} kernel_size: {size} stride: {stride} "
            f"pad: {pad} group: {group} }}"
        )
        self.layer(name, "Convolution", settings, bottom, filters)
        self.layer(f"{name}/relu", "ReLU")

    def pool(self, name, size=3, stride=2, pad=0, bottom=None):
        """Add a maximum pooling."""
        window = f"pool: MAX kernel_size: {size} stride: {stride} pad: {pad}"
        self.layer(name, "Pooling", f"pooling_param {{ {window} }}", bottom)

    def norm(self, name, size, alpha, beta=0.75, k=1.0, within_channel=False):
        """Add a local response normalisation.

        OpenCV reads no k: (k + alpha m)^-beta = k^-beta (1 + alpha / k m)^-beta.
        """
        region = "WITHIN_CHANNEL" if within_channel else "ACROSS_CHANNELS"
        constants = f"local_size: {size} alpha: {alpha / k} beta: {beta}"
        if k == 1:
            self.layer(name, "LRN", f"lrn_param {{ {constants} norm_region: {region} }}")
        else:
            self.layer(f"{name}/one", "LRN", f"lrn_param {{ {constants} norm_region: {region} }}")
            self.layer(name, "Power", f"power_param {{ scale: {k**-beta} }}")

    def run(self, images, outputs):
        """Return {name: (B, H, W, C)} of some layers."""
        with tempfile.TemporaryDirectory() as folder:
            text, weights = Path(folder, "net.prototxt"), Path(folder, "net.caffemodel")
            text.write_text(f'name: "net"\n{self.text}')
            weights.write_bytes(caffemodel(self.weights))
            net = cv2.dnn.readNetFromCaffe(str(text), str(weights))
        net.setInput(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return {
            name: value.transpose(0, 2, 3, 1)
            for name, value in zip(outputs, net.forward(outputs), strict=True)
        }


ALEXNET_NORM = {"size": 5, "alpha": 1e-4}
CNN_M_NORM = {"size": 5, "alpha": 5e-4, "k": 2.0}
ZF_NORM = {"size": 3, "alpha": 5e-5, "within_channel": True}


def layer_cases():
    """Single layers: normalisations, and poolings whose last window is cut off."""
    features = drawn.images("layers", 14, 13, REACH)
    features = np.concatenate([features, features[:, ::-1] / 2, features[:, :, ::-1]], -1)
    norms = {"across": ALEXNET_NORM, "k": CNN_M_NORM, "within": ZF_NORM}
    for name, options in norms.items():
        net = Net(14, 13, 9)
        net.norm("out", **options)
        output = net.run(features, ["out"])["out"]
        yield f"local_response_norm/{name}", "local_response_norm", features, options, output
    for size, stride, padding in ((3, 2, 0), (3, 2, 1), (2, 2, 0), (3, 3, 1)):
        net = Net(14, 13, 9)
        net.pool("out", size, stride, padding)
        output = net.run(features, ["out"])["out"]
        options = {"size": size, "stride": stride, "padding": padding}
        yield f"max_pool/{size}{stride}{padding}", "max_pool", features, options, output


def alexnet(net):
    """bvlc_alexnet."""
    net.conv("conv1", 96, 11, 4)
    net.norm("norm1", **ALEXNET_NORM)
    net.pool("pool1")
    net.conv("conv2", 256, 5, 1, 2, 2)
    net.norm("norm2", **ALEXNET_NORM)
    net.pool("pool2")
    net.conv("conv3", 384, 3, 1, 1)
    net.conv("conv4", 384, 3, 1, 1, 2)
    net.conv("conv5", 256, 3, 1, 1, 2)
    net.pool("pool5")
    return {"C2": "norm1", "C3": "norm2", "C4": "conv5/relu", "C5": "pool5"}


def zf(net):
    """The convolutions of py-faster-rcnn's ZF."""
    net.conv("conv1", 96, 7, 2, 3)
    net.norm("norm1", **ZF_NORM)
    net.pool("pool1", pad=1)
    net.conv("conv2", 256, 5, 2, 2)
    net.norm("norm2", **ZF_NORM)
    net.pool("pool2", pad=1)
    for number, filters in ((3, 384), (4, 384), (5, 256)):
        net.conv(f"conv{number}", filters, 3, 1, 1)
    return {"C2": "pool1", "C3": "norm2", "C4": "conv5/relu"}


def vgg_cnn_m(net):
    """The convolutions of VGG_CNN_M_1024."""
    net.conv("conv1", 96, 7, 2)
    net.norm("norm1", **CNN_M_NORM)
    net.pool("pool1")
    net.conv("conv2", 256, 5, 2, 1)
    net.norm("norm2", **CNN_M_NORM)
    net.pool("pool2")
    for number in (3, 4, 5):
        net.conv(f"conv{number}", 512, 3, 1, 1)
    net.pool("pool5")
    return {"C2": "pool1", "C3": "norm2", "C4": "conv5/relu", "C5": "pool5"}


# 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, pool's projection; "pool": a pooling before.
GOOGLENET = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "pool3": None,
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "pool4": None,
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(net):
    """bvlc_googlenet, without its side classifiers."""
    net.conv("conv1/7x7_s2", 64, 7, 2, 3)
    net.pool("pool1/3x3_s2")
    net.norm("pool1/norm1", **ALEXNET_NORM)
    net.conv("conv2/3x3_reduce", 64, 1)
    net.conv("conv2/3x3", 192, 3, 1, 1)
    net.norm("conv2/norm2", **ALEXNET_NORM)
    net.pool("pool2/3x3_s2")
    for name, widths in GOOGLENET.items():
        if widths is None:
            net.pool(f"{name}/3x3_s2")
            continue
        place, below = f"inception_{name}", net.last
        net.conv(f"{place}/1x1", widths[0], 1, bottom=below)
        net.conv(f"{place}/3x3_reduce", widths[1], 1, bottom=below)
        net.conv(f"{place}/3x3", widths[2], 3, 1, 1)
        net.conv(f"{place}/5x5_reduce", widths[3], 1, bottom=below)
        net.conv(f"{place}/5x5", widths[4], 5, 1, 2)
        net.pool(f"{place}/pool", 3, 1, 1, bottom=below)
        net.conv(f"{place}/pool_proj", widths[5], 1)
        branches = [f"{place}/{part}/relu" for part in ("1x1", "3x3", "5x5", "pool_proj")]
        width = sum(widths[i] for i in (0, 2, 4, 5))
        net.layer(f"{place}/output", "Concat", "", branches, width)
    last = "inception_{}/output"
    levels = {"C2": "conv2/norm2", "C3": last.format("3b"), "C4": last.format("4e")}
    return {**levels, "C5": last.format("5b")}


# Sides that leave a last window cut off at some pooling.
NETWORKS = {
    "AlexNet": (alexnet, 98, 117),
    "ZFNet": (zf, 64, 82),
    "VGGCNNM1024": (vgg_cnn_m, 84, 99),
    "GoogLeNet": (googlenet, 70, 97),
}


def main():
    """Write the file beside this script."""
    cases = {
        name: Case(op, {"inputs": features}, options, output)
        for name, op, features, options, output in layer_cases()
    }
    for name, (build, height, width) in NETWORKS.items():
        net = Net(height, width)
        levels = build(net)
        found = net.run(drawn.images(name, height, width, REACH), list(levels.values()))
        for level, layer in levels.items():
            output = found[layer][..., :: drawn.CHANNEL_STEP]
            options = {"level": level, "height": height, "width": width}
            cases[f"{name}/{level}"] = Case(name, {}, options, output)
    versions = {"cv2": cv2.__version__, "numpy": np.__version__}
    save(Path(__file__).with_name("caffe_layers.npz"), cases, versions)


if __name__ == "__main__":
    main()
