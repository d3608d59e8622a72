"""The authors' detectors as Caffe networks: prototxt and random weights, at any size.

Layers, names and numbers are those of the prototxts that the authors publish for testing, but for the
proposals: theirs are a layer in Python, here OpenCV's own. Weights follow from a seed and the layers' names.
Needs NumPy alone.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.parity.lively import uniform
from tests.zoo import caffe_files

SEED = 7
ANCHORS = 9
PROPOSAL = {
    **{"feat_stride": 16, "base_size": 16, "scale": [8, 16, 32], "ratio": [0.5, 1, 2]},
    **{"pre_nms_topn": 6000, "post_nms_topn": 300, "nms_thresh": 0.7},
}
# The arguments of `network` by which the golden file's differ from the published ones.
NAMES = (
    *("faster_rcnn_vgg16_voc07", "fast_rcnn_vgg16_voc07", "faster_rcnn_zf_voc07"),
    "rfcn_resnet101_voc0712",
)
SMALL = {name: {"size": (188, 250), "classes": 4, "width": 32, "units": 24} for name in NAMES}
LAST = ("rpn_cls_score", "rpn_bbox_pred", "cls_score", "bbox_pred", "rfcn_cls", "rfcn_bbox")


@dataclass
class Network:
    """A network that grows layer by layer."""

    inputs: dict
    layers: list = field(default_factory=list)
    shapes: dict = field(default_factory=dict)  # {layer: (type, [shapes of its blobs])}
    channels: dict = field(default_factory=lambda: {"data": 3})

    def add(self, name, kind, bottoms, top=None, **parameters):
        """Add a layer; return its output."""
        self.layers.append(
            {"name": name, "type": kind, "bottom": bottoms, "top": top or name, **parameters}
        )
        self.channels.setdefault(top or name, self.channels.get(bottoms[0]))
        return top or name

    def conv(self, name, bottom, filters, size, stride=1, dilation=1, bias=True, relu=None):
        """Add a convolution, and a ReLU if it has a name."""
        numbers = {"num_output": filters, "kernel_size": size, "stride": stride}
        numbers |= {"pad": dilation * (size // 2), "dilation": dilation, "bias_term": bias}
        self.add(name, "Convolution", [bottom], convolution_param=numbers)
        shapes = [(filters, self.channels[bottom], size, size), *([(filters,)] if bias else [])]
        self.shapes[name] = "Convolution", shapes
        self.channels[name] = filters
        return self.add(relu, "ReLU", [name], name) if relu else name

    def normed(self, name, place, bottom, filters, size, stride=1, dilation=1, relu=True):
        """Add a convolution without bias, its normalisation, scale and shift, and a ReLU."""
        self.conv(name, bottom, filters, size, stride, dilation, bias=False)
        self.add(f"bn{place}", "BatchNorm", [name], name, batch_norm_param={"eps": 1e-5})
        self.add(f"scale{place}", "Scale", [name], name, scale_param={"bias_term": True})
        self.shapes[f"bn{place}"] = "BatchNorm", [(filters,), (filters,), (1,)]
        self.shapes[f"scale{place}"] = "Scale", [(filters,), (filters,)]
        return self.add(f"{name}_relu", "ReLU", [name], name) if relu else name

    def pool(self, name, bottom, size, stride, pad=0, kind="MAX", top=None):
        """Add a pooling."""
        numbers = {"pool": kind, "kernel_size": size, "stride": stride, "pad": pad}
        return self.add(name, "Pooling", [bottom], top, pooling_param=numbers)

    def dense(self, name, bottom, inputs, units):
        """Add a dense layer."""
        self.shapes[name] = "InnerProduct", [(units, inputs), (units,)]
        return self.add(name, "InnerProduct", [bottom], inner_product_param={"num_output": units})

    def prototxt(self):
        """The network's text."""
        return caffe_files.prototxt(self.inputs, self.layers)

    def weights(self, factors=None, shifts=None):
        """Random weights: {layer: (type, arrays)}.

        Args:
            factors: {layer: factor} of kernels.
            shifts: {layer: bias}.
        """
        found = {}
        for name, (kind, shapes) in self.shapes.items():
            arrays = [_random(name, kind, i, shape) for i, shape in enumerate(shapes)]
            if name in (factors or {}):
                arrays[0] *= np.float32(factors[name])
                arrays[1] = np.float32(shifts[name])
            found[name] = kind, arrays
        return found


def _random(name, kind, number, shape):
    """An array of unit gain; of the branches of a residual sum, of a small one."""
    key, count = f"{name}, {number}", math.prod(shape)
    if number == 0 and len(shape) > 1:
        limit = math.sqrt(6 / math.prod(shape[1:]))
        return uniform(count, -limit, limit, key, SEED).reshape(shape)
    ends = name.endswith(("branch2c", "branch1"))
    low, high = {
        ("BatchNorm", 1): (50.0, 200.0),
        ("BatchNorm", 2): (99.99, 100.0),  # the factor by which mean and variance are divided
        ("BatchNorm", 0): (-20.0, 20.0),
        ("Scale", 0): (0.2, 0.6) if ends else (0.5, 1.5),
    }.get((kind, number), (-0.2, 0.2))
    return uniform(count, low, high, key, SEED)


# -- the authors' networks ---------------------------------------------------------------------------


def vgg16(net):
    """Add VGG-16 up to conv5_3."""
    x = "data"
    for block, (filters, count) in enumerate(
        ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1
    ):
        for i in range(1, count + 1):
            x = net.conv(f"conv{block}_{i}", x, filters, 3, relu=f"relu{block}_{i}")
        if block < 5:
            x = net.pool(f"pool{block}", x, 2, 2)
    return x


def zf(net):
    """Add the five convolutions of Zeiler and Fergus."""
    x, norm = "data", {"local_size": 3, "alpha": 0.00005, "beta": 0.75}
    norm["norm_region"] = "WITHIN_CHANNEL"
    for i, (filters, size, stride) in enumerate(((96, 7, 2), (256, 5, 2)), start=1):
        x = net.conv(f"conv{i}", x, filters, size, stride, relu=f"relu{i}")
        x = net.add(f"norm{i}", "LRN", [x], lrn_param=norm)
        x = net.pool(f"pool{i}", x, 3, 2, 1)
    for i, filters in enumerate((384, 384, 256), start=3):
        x = net.conv(f"conv{i}", x, filters, 3, relu=f"relu{i}")
    return x


def resnet101(net):
    """Add ResNet-101 with a dilated fifth stage; return the maps of the fourth and of the fifth."""
    x = net.normed("conv1", "_conv1", "data", 64, 7, 2)
    x = net.pool("pool1", x, 3, 2)
    fourth = None
    for stage, blocks in ((2, 3), (3, 4), (4, 23), (5, 3)):
        fourth = x if stage == 5 else None
        for block in range(blocks):
            name = f"{stage}b{block}" if stage in (3, 4) and block else f"{stage}{'abc'[block % 3]}"
            stride, width = (2 if stage in (3, 4) and block == 0 else 1), 32 * 2**stage // 2
            dilation, y = (2 if stage == 5 else 1), x
            for branch, filters, size in (("a", width, 1), ("b", width, 3), ("c", 4 * width, 1)):
                y = net.normed(
                    f"res{name}_branch2{branch}",
                    f"{name}_branch2{branch}",
                    *(y, filters, size, stride if branch == "a" else 1),
                    dilation=dilation if branch == "b" else 1,
                    relu=branch != "c",
                )
            if block == 0:
                place = f"{name}_branch1"
                x = net.normed(f"res{place}", place, x, 4 * width, 1, stride, relu=False)
            x = net.add(f"res{name}", "Eltwise", [x, y])
            x = net.add(f"res{name}_relu", "ReLU", [x], x)
    return fourth, x


def proposals(net, features, name, width):
    """Add a proposal network; return its regions."""
    x = net.conv(name, features, width, 3, relu="rpn_relu")
    scores = net.conv("rpn_cls_score", x, 2 * ANCHORS, 1)
    deltas = net.conv("rpn_bbox_pred", x, 4 * ANCHORS, 1)
    for shape, top in (([0, 2, -1, 0], "rpn_cls_prob"), ([0, 2 * ANCHORS, -1, 0], None)):
        place = f"{scores if top else 'rpn_cls_prob'}_reshape"
        x = net.add(place, "Reshape", [scores], reshape_param={"shape": {"dim": shape}})
        scores = net.add(top, "Softmax", [x]) if top else x
    return net.add("proposal", "Proposal", [x, deltas, "im_info"], "rois", proposal_param=PROPOSAL)


def dense_head(net, features, rois, cells, units, classes, ratio=None):
    """Add RoI pooling, fc6, fc7 and the last layers; `ratio` of a dropout that scales in testing."""
    sides = {"pooled_w": cells, "pooled_h": cells, "spatial_scale": 0.0625}
    x = net.add("roi_pool5", "ROIPooling", [features, rois], roi_pooling_param=sides)
    inputs, drop = cells**2 * net.channels[features], {"dropout_ratio": 0.5}
    for name in ("6", "7"):
        x = net.dense(f"fc{name}", x, inputs, units)
        net.add(f"relu{name}", "ReLU", [x], x)
        numbers = drop | ({"scale_train": False} if ratio else {})
        x = net.add(f"drop{name}", "Dropout", [x], x, dropout_param=numbers)
        inputs = units
    scores = net.dense("cls_score", x, units, 1 + classes)
    net.dense("bbox_pred", x, units, 4 * (1 + classes))
    net.add("cls_prob", "Softmax", [scores])


def sensitive_head(net, features, rois, width, classes, bins=7):
    """Add R-FCN's score maps, their pooling and the votes."""
    x = net.conv("conv_new_1", features, width, 1, relu="conv_new_1_relu")
    for name, short, count in (("rfcn_cls", "cls", 1 + classes), ("rfcn_bbox", "loc", 8)):
        maps = net.conv(name, x, count * bins**2, 1)
        numbers = {"spatial_scale": 0.0625, "output_dim": count, "group_size": bins}
        place = f"psroipooled_{short}_rois"
        pooled = net.add(place, "PSROIPooling", [maps, rois], psroi_pooling_param=numbers)
        top, average = (
            ("cls_score", "ave_cls_score_rois")
            if short == "cls"
            else ("bbox_pred", "ave_bbox_pred_rois")
        )
        net.pool(average, pooled, bins, bins, kind="AVE", top=top)
    net.add("cls_prob", "Softmax", ["cls_score"])


def network(name, size, classes=20, width=None, units=4096):
    """Return a detector's network.

    Args:
        name: of its manifest.
        size: (height, width) of the image.
        classes: K.
        width: channels of the convolution in front of the last layers; None: as published.
        units: of fc6 and fc7.
    """
    inputs = {"data": (1, 3, *size)}
    if name == "fast_rcnn_vgg16_voc07":
        net = Network(inputs | {"rois": (50, 5)})
        dense_head(net, vgg16(net), "rois", 7, units, classes)
        return net
    net = Network(inputs | {"im_info": (1, 3)})
    if name == "rfcn_resnet101_voc0712":
        fourth, fifth = resnet101(net)
        rois = proposals(net, fourth, "rpn_conv/3x3", width or 512)
        sensitive_head(net, fifth, rois, 2 * width if width else 1024, classes)
        return net
    if name == "faster_rcnn_zf_voc07":
        features = zf(net)
        rois = proposals(net, features, "rpn_conv1", width or 256)
        dense_head(net, features, rois, 6, units, classes, ratio=0.5)
        return net
    features = vgg16(net)
    rois = proposals(net, features, "rpn_conv/3x3", width or 512)
    dense_head(net, features, rois, 7, units, classes)
    return net


def write(net, folder, name, factors=None, shifts=None):
    """Write both files of a network; return their paths."""
    paths = Path(folder) / f"{name}.prototxt", Path(folder) / f"{name}.caffemodel"
    paths[0].write_text(net.prototxt())
    paths[1].write_bytes(caffe_files.caffemodel(net.weights(factors, shifts)))
    return paths
