"""Write tf_slim_NAME.npz: what networks of tf-slim detect in the way of the Object Detection API.

Run from the root with a Python that has tf-slim and a TensorFlow that it runs on:

    pip install tf-slim==1.1.0 tensorflow-cpu==2.15.1 tf_keras==2.15.1
    python -m tests.golden.make_tf_slim
    python -m tests.golden.make_tf_slim --tiny
    python -m tests.golden.make_tf_slim --full FOLDER

The first writes the golden files, of small images; the second a small checkpoint of TensorFlow 1's saver, for
the tests of its reader. The third takes images of the published size and writes checkpoints too, packed as
the published ones are; `python -m tests.parity.object_detection FOLDER` compares.

ResNet and Inception are tf-slim's own networks. MobileNet, and what the API adds to each network, are written
here with tf-slim's layers, in the API's scopes. All around them is `object_detection_numpy.py`.
"""

import argparse
import json
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
import tf_slim as slim
from tf_keras.src import legacy_tf_layers
from tf_keras.src.legacy_tf_layers import normalization
from tf_slim.nets import inception_v2, resnet_utils, resnet_v1

from tests.golden import object_detection_numpy as api
from tests.parity.lively import image, lively_variables, sample

# TensorFlow 2.15 looks for the layers of TensorFlow 1 under a name that they no longer have.
sys.modules["tf_keras.legacy_tf_layers"] = legacy_tf_layers
sys.modules["tf_keras.legacy_tf_layers.normalization"] = normalization

FOLDER = Path(__file__).parent
SEED = 3
LIMIT = 1500  # numbers of each map that are kept
CLASSES, ANCHORS = 90, 12
MEANS = np.float32([123.68, 116.779, 103.939])
SMALL = ("150x200", "231x160")
FULL = ("480x640", "683x400")


class Network:
    """A graph with its variables, and what it returns for an image. Abstract.

    Args:
        sizes: {"short", "long"} of the resizer that keeps the aspect ratio, if the network has that.
    """

    name = None
    spread = ()  # rounds of {predictor: standard deviation of its outputs}
    proposals = 0

    def __init__(self, sizes):
        self.sizes = sizes
        self.session = tf.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            tf.train.get_or_create_global_step()
            self.inputs = tf.placeholder(tf.float32, (1, None, None, 3))
            self.build()
            self.variables = {v.op.name: v for v in tf.global_variables()}
        self.shapes = {name: tuple(v.shape.as_list()) for name, v in self.variables.items()}
        self.scales, self.biases = {}, {}

    def fill(self, seed):
        """Give lively values, and the predictors' outputs their spread about 0 on an image."""
        values = lively_variables(self.shapes, seed)
        self.load(values)
        for round_ in self.spread:
            outputs = self.run(image(231, 260, seed))["predicted"]
            for name, deviation in round_.items():
                own = outputs[name] - values[f"{name}/biases"]
                mean = own.mean(tuple(range(own.ndim - 1)))
                if not np.any(np.abs(own - mean) > 1e-3):  # a map of one cell
                    mean = np.zeros_like(mean)
                scale = np.float32(deviation / (own - mean).std())
                self.scales[f"{name}/weights"] = scale
                self.biases[f"{name}/biases"] = -scale * mean
            self.load({name: values[name] * scale for name, scale in self.scales.items()})
            self.load(self.biases)

    def load(self, values):
        """Assign values by name."""
        for name, value in values.items():
            self.variables[name].load(value, self.session)

    def run(self, picture):
        """Return {"predicted": {predictor: outputs}, "maps": {level: map}, "boxes", "scores", "labels"}."""
        raise NotImplementedError

    def at(self, tensors, **feeds):
        """Evaluate tensors."""
        return self.session.run(tensors, {getattr(self, name): x for name, x in feeds.items()})


def predictor(x, outputs, scope):
    """A 1x1 convolution with a bias."""
    return slim.conv2d(x, outputs, [1, 1], activation_fn=None, normalizer_fn=None, scope=scope)


class SSD(Network):
    """ssd_mobilenet_v1_coco."""

    name = "ssd_mobilenet_v1_coco"
    spread = (
        {
            f"BoxPredictor_{i}/{kind}": deviation
            for i in range(6)
            for kind, deviation in (("BoxEncodingPredictor", 1.0), ("ClassPredictor", 1.0))
        },
    )

    def build(self):
        """MobileNet, four more maps, and six predictors."""
        norm = {"is_training": False, "scale": True, "center": True, "epsilon": 0.001}
        with slim.arg_scope(
            [slim.conv2d, slim.separable_conv2d],
            activation_fn=tf.nn.relu6,
            normalizer_fn=slim.batch_norm,
            normalizer_params=norm,
            padding="SAME",
        ):
            with tf.variable_scope("FeatureExtractor/MobilenetV1"):
                maps = self.features()
            self.maps, self.predicted = maps, {}
            for i, x in enumerate(maps.values()):
                boxes = 3 if i == 0 else 6
                with tf.variable_scope(f"BoxPredictor_{i}"):
                    for kind, width in (
                        ("BoxEncodingPredictor", 4),
                        ("ClassPredictor", 1 + CLASSES),
                    ):
                        self.predicted[f"BoxPredictor_{i}/{kind}"] = predictor(
                            x, boxes * width, kind
                        )

    def features(self):
        """The maps by our levels."""
        blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
        x, maps = slim.conv2d(self.inputs, 32, [3, 3], stride=2, scope="Conv2d_0"), {}
        for i, (width, stride) in enumerate([*blocks, (1024, 2), (1024, 1)], start=1):
            x = slim.separable_conv2d(
                x, None, [3, 3], depth_multiplier=1, stride=stride, scope=f"Conv2d_{i}_depthwise"
            )
            x = slim.conv2d(x, width, [1, 1], scope=f"Conv2d_{i}_pointwise")
            if i in (11, 13):
                maps["C4" if i == 11 else "C5"] = x
        for i, width in enumerate((512, 256, 256, 128), start=2):
            place = f"Conv2d_13_pointwise_{{}}_Conv2d_{i}_{{}}_{{}}"
            x = slim.conv2d(x, width // 2, [1, 1], scope=place.format(1, "1x1", width // 2))
            x = slim.conv2d(x, width, [3, 3], stride=2, scope=place.format(2, "3x3_s2", width))
            maps[f"extra{i - 1}"] = x
        return maps

    def run(self, picture):
        """See `Network.run`."""
        height, width = picture.shape[:2]
        inputs = api.resize(picture, 300, 300) * np.float32(2 / 255) - np.float32(1)
        predicted, maps = self.at((self.predicted, self.maps), inputs=inputs[None])
        codes, logits = (
            np.concatenate([v.reshape(-1, width) for name, v in predicted.items() if kind in name])
            for kind, width in (("BoxEncoding", 4), ("ClassPredictor", 1 + CLASSES))
        )
        boxes = api.decode(codes, api.ssd_anchors([x.shape[1:3] for x in maps.values()]))
        scores = 1 / (1 + np.exp(-logits[:, 1:]))
        found = api.suppress_each(boxes[:, None], scores, (1, 1), 1e-8, 0.6, 100, 100)
        return {"predicted": predicted, "maps": maps, **pixels(*found, height, width)}


class TwoStages(Network):
    """What both two-stage networks share: the API's first stage and its post-processing."""

    spread = (
        {
            "FirstStageBoxPredictor/ClassPredictor": 1.5,
            "FirstStageBoxPredictor/BoxEncodingPredictor": 1.5,
        },
    )

    def first_stage(self, features):
        """The proposal network on a map."""
        self.features = features
        x = slim.conv2d(features, 512, [3, 3], activation_fn=tf.nn.relu6, scope="Conv")
        with tf.variable_scope("FirstStageBoxPredictor"):
            self.first = {
                f"FirstStageBoxPredictor/{kind}": predictor(x, ANCHORS * width, kind)
                for kind, width in (("BoxEncodingPredictor", 4), ("ClassPredictor", 2))
            }

    def run(self, picture):
        """See `Network.run`."""
        size = api.keep_aspect(*picture.shape[:2], **self.sizes)
        inputs = self.preprocessed(api.resize(picture, *size))[None]
        features, first = self.at((self.features, self.first), inputs=inputs)
        codes, logits = (
            first[f"FirstStageBoxPredictor/{k}Predictor"] for k in ("BoxEncoding", "Class")
        )
        anchors = api.grid_anchors(*features.shape[1:3], *size)
        boxes = api.clip(api.decode(codes.reshape(-1, 4), anchors), *size)
        scores = api.softmax(logits.reshape(-1, 2))[:, 1]
        usable = np.flatnonzero((scores > 0) & np.all(boxes[:, 2:] > boxes[:, :2], axis=-1))
        boxes, scores = boxes[usable], scores[usable]
        check_suppression(boxes, scores)
        proposals = boxes[api.suppress(boxes, scores, 0.7, self.proposals)]
        shares = proposals * (np.float32(1) / np.float32([*size, *size]))
        class_logits, codes, second, maps = self.second_stage(features, shares)
        boxes = api.decode(codes, proposals[:, None])
        probabilities = api.softmax(class_logits)[:, 1:]
        found = api.suppress_each(boxes, probabilities, size, 0.0, 0.6, 100, 100)
        scale = np.divide(picture.shape[:2], size)
        return {
            "predicted": {**first, **second},
            "maps": {"C4": features, **maps},
            "proposals": proposals[:, [1, 0, 3, 2]],
            "class_logits": class_logits,
            **pixels(*found, *scale),
        }


class FasterRCNN(TwoStages):
    """faster_rcnn_inception_v2_coco."""

    name = "faster_rcnn_inception_v2_coco"
    proposals = 100
    spread = (
        *TwoStages.spread,
        {
            "SecondStageBoxPredictor/ClassPredictor": 2.0,
            "SecondStageBoxPredictor/BoxEncodingPredictor": 1.0,
        },
    )

    def build(self):
        """Inception v2 to Mixed_4e; Mixed_5a to Mixed_5c on each region."""
        norm = {"is_training": False, "scale": True, "epsilon": 0.001}
        scope = {"normalizer_fn": slim.batch_norm, "normalizer_params": norm}
        with (
            slim.arg_scope([slim.conv2d, slim.separable_conv2d], **scope),
            tf.variable_scope("FirstStageFeatureExtractor"),
            tf.variable_scope("InceptionV2") as own,
        ):
            _, maps = inception_v2.inception_v2_base(self.inputs, "Mixed_4e", scope=own)
        self.first_stage(maps["Mixed_4e"])
        self.crops = tf.placeholder(tf.float32, (None, 14, 14, 576))
        x = slim.max_pool2d(self.crops, [2, 2], stride=2)
        pooled = [slim.conv2d, slim.max_pool2d, slim.avg_pool2d]
        with (
            tf.variable_scope("SecondStageFeatureExtractor/InceptionV2"),
            slim.arg_scope([slim.conv2d], **scope),
            slim.arg_scope(pooled, padding="SAME", stride=1),
        ):
            for module in (self.mixed_5a, self.mixed_5b, self.mixed_5c):
                with tf.variable_scope(module.__name__.capitalize()):
                    x = tf.concat(module(x), 3)
        x = tf.reduce_mean(x, [1, 2])
        with tf.variable_scope("SecondStageBoxPredictor"):
            self.second = {
                f"SecondStageBoxPredictor/{kind}": slim.fully_connected(
                    x, outputs, activation_fn=None, scope=kind
                )
                for kind, outputs in (
                    ("BoxEncodingPredictor", 4 * CLASSES),
                    ("ClassPredictor", 1 + CLASSES),
                )
            }
        self.crop_boxes = tf.placeholder(tf.float32, (None, 4))
        self.cropped = tf.image.crop_and_resize(
            self.features, self.crop_boxes, tf.zeros_like(self.crop_boxes[:, 0], tf.int32), (14, 14)
        )

    @staticmethod
    def mixed_5a(x):
        """Two branches of stride 2, and a pooling."""
        with tf.variable_scope("Branch_0"):
            a = slim.conv2d(x, 128, [1, 1], scope="Conv2d_0a_1x1")
            a = slim.conv2d(a, 192, [3, 3], stride=2, scope="Conv2d_1a_3x3")
        with tf.variable_scope("Branch_1"):
            b = slim.conv2d(x, 192, [1, 1], scope="Conv2d_0a_1x1")
            b = slim.conv2d(b, 256, [3, 3], scope="Conv2d_0b_3x3")
            b = slim.conv2d(b, 256, [3, 3], stride=2, scope="Conv2d_1a_3x3")
        return a, b, slim.max_pool2d(x, [3, 3], stride=2)

    @staticmethod
    def mixed_5b(x):
        """Four branches, of which the last is an average."""
        return (*branches(x, 160), last_branch(slim.avg_pool2d(x, [3, 3])))

    @staticmethod
    def mixed_5c(x):
        """Four branches, of which the last is a maximum."""
        return (*branches(x, 192), last_branch(slim.max_pool2d(x, [3, 3])))

    @staticmethod
    def preprocessed(pixels_):
        """From 0..255 to -1..1."""
        return pixels_ * np.float32(2 / 255) - np.float32(1)

    def second_stage(self, features, shares):
        """Logits, codes, outputs of the predictors, and maps."""
        crops = api.crop_and_resize(features[0], shares, 14)
        theirs = self.session.run(self.cropped, {self.features: features, self.crop_boxes: shares})
        refuse(np.abs(crops - theirs).max() > 1e-4 * np.abs(crops).max(), "crops differ")
        second = self.at(self.second, crops=crops)
        logits, codes = (
            second[f"SecondStageBoxPredictor/{k}Predictor"] for k in ("Class", "BoxEncoding")
        )
        return logits, codes.reshape(-1, CLASSES, 4), second, {}


def branches(x, narrow):
    """The first three branches of the last two modules."""
    with tf.variable_scope("Branch_0"):
        a = slim.conv2d(x, 352, [1, 1], scope="Conv2d_0a_1x1")
    with tf.variable_scope("Branch_1"):
        b = slim.conv2d(x, 192, [1, 1], scope="Conv2d_0a_1x1")
        b = slim.conv2d(b, 320, [3, 3], scope="Conv2d_0b_3x3")
    with tf.variable_scope("Branch_2"):
        c = slim.conv2d(x, narrow, [1, 1], scope="Conv2d_0a_1x1")
        c = slim.conv2d(c, 224, [3, 3], scope="Conv2d_0b_3x3")
        c = slim.conv2d(c, 224, [3, 3], scope="Conv2d_0c_3x3")
    return a, b, c


def last_branch(x):
    """A 1x1 convolution after a pooling."""
    with tf.variable_scope("Branch_3"):
        return slim.conv2d(x, 128, [1, 1], scope="Conv2d_0b_1x1")


class RFCN(TwoStages):
    """rfcn_resnet101_coco."""

    name = "rfcn_resnet101_coco"
    proposals = 300
    spread = (
        *TwoStages.spread,
        {
            "SecondStageBoxPredictor/class_predictions": 6.0,
            "SecondStageBoxPredictor/refined_locations": 3.0,
        },
    )

    def build(self):
        """ResNet-101 at stride 16; its fourth block again, without dilation, on the whole map."""
        scope = resnet_utils.resnet_arg_scope(batch_norm_epsilon=1e-5, batch_norm_scale=True)
        with (
            slim.arg_scope(scope),
            tf.variable_scope("FirstStageFeatureExtractor"),
            tf.variable_scope("resnet_v1_101") as own,
        ):
            _, maps = resnet_v1.resnet_v1_101(
                self.inputs, is_training=False, global_pool=False, output_stride=16, scope=own
            )
        self.first_stage(maps["FirstStageFeatureExtractor/resnet_v1_101/block3"])
        with (
            slim.arg_scope(scope),
            slim.arg_scope([slim.batch_norm], is_training=False),
            tf.variable_scope("SecondStageFeatureExtractor/resnet_v1_101"),
        ):
            block = resnet_v1.resnet_v1_block("block4", base_depth=512, num_units=3, stride=1)
            self.block4 = resnet_utils.stack_blocks_dense(self.features, [block])
        with tf.variable_scope("SecondStageBoxPredictor"):
            x = slim.conv2d(self.block4, 1024, [1, 1], scope="reduce_depth")
            self.second = {
                f"SecondStageBoxPredictor/{kind}": predictor(x, 9 * outputs, kind)
                for kind, outputs in (
                    ("refined_locations", 4 * CLASSES),
                    ("class_predictions", 1 + CLASSES),
                )
            }

    @staticmethod
    def preprocessed(pixels_):
        """Without VGG's means."""
        return pixels_ - MEANS

    def second_stage(self, features, shares):
        """Logits, codes, outputs of the predictors, and maps."""
        second, block4 = self.session.run((self.second, self.block4), {self.features: features})
        logits, codes = (
            api.position_sensitive(second[f"SecondStageBoxPredictor/{kind}"][0], shares)
            for kind in ("class_predictions", "refined_locations")
        )
        return logits, codes.reshape(-1, CLASSES, 4), second, {"C4_conv5": block4}


def pixels(boxes, scores, labels, y_scale, x_scale):
    """Detections as ours are: boxes x1, y1, x2, y2 in pixels of the image."""
    boxes = boxes[:, [1, 0, 3, 2]] * np.float32([x_scale, y_scale, x_scale, y_scale])
    return {"boxes": boxes, "scores": scores, "labels": labels}


def refuse(wrong, what):
    """Stop where the transcription and TensorFlow disagree."""
    if wrong:
        raise SystemExit(f"NumPy and TensorFlow: {what}")


def check_suppression(boxes, scores):
    """Hold the transcription against TensorFlow's kernel."""
    with tf.Graph().as_default(), tf.Session() as session:
        theirs = session.run(tf.image.non_max_suppression(boxes, scores, 300, 0.7))
    refuse(not np.array_equal(theirs, api.suppress(boxes, scores, 0.7, 300)), "kept boxes differ")


def check_resizing(picture):
    """Hold the transcription against TensorFlow's kernel."""
    with tf.Graph().as_default(), tf.Session() as session:
        theirs = session.run(tf.image.resize_bilinear(picture[None].astype("float32"), (300, 280)))
    refuse(np.abs(theirs[0] - api.resize(picture, 300, 280)).max() > 1e-3, "pixels differ")


def record(network, names, path):
    """Run a network on images, and write what it finds."""
    arrays = {f"scale/{name}": scale for name, scale in network.scales.items()}
    arrays |= {f"bias/{name}": values for name, values in network.biases.items()}
    for number, name in enumerate(names):
        picture = image(*map(int, name.split("x")), SEED + number)
        check_resizing(picture)
        outputs = network.run(picture)
        for key in ("boxes", "scores", "labels", "proposals", "class_logits"):
            if key in outputs:
                arrays[f"{number}/{key}"] = outputs[key]
        for level, x in outputs["maps"].items():
            arrays[f"{number}/raw/{level}"] = sample(x, LIMIT, level)
        print(network.name, name, len(outputs["scores"]), outputs["scores"][[0, -1]])
    meta = {
        "name": network.name,
        "seed": SEED,
        "images": names,
        "sizes": network.sizes,
        "shapes": network.shapes,
        "limit": LIMIT,
        "versions": {"tensorflow": tf.__version__, "tf-slim": "1.1.0"},
    }
    temporary = path.with_name(f".{path.name}")
    np.savez_compressed(temporary, meta=json.dumps(meta), **arrays)
    os.replace(temporary, path)


def write_tiny(folder):
    """Write a checkpoint of two layers; variable i by name has the numbers 100 i, 100 i + 1, ..."""
    folder.mkdir(exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        x = tf.placeholder(tf.float32, (1, 8, 8, 3))
        norm = {"is_training": False, "scale": True}
        x = slim.conv2d(
            *(x, 2, [3, 3]),
            normalizer_fn=slim.batch_norm,
            normalizer_params=norm,
            scope="Conv2d_0",
        )
        slim.separable_conv2d(
            x, None, [3, 3], depth_multiplier=1, biases_initializer=None, scope="Conv2d_1_depthwise"
        )
        variables = sorted(tf.global_variables(), key=lambda v: v.op.name)
        for number, variable in enumerate(variables):
            count = int(np.prod(variable.shape.as_list()))
            values = 100 * number + np.arange(count).reshape(variable.shape.as_list())
            variable.load(1000 if variable is step else values, session)
        tf.train.Saver().save(session, str(folder / "model.ckpt"), write_meta_graph=False)
    (folder / "checkpoint").unlink()


def main():
    """Write the files of every network, or of those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", type=Path, help="folder for checkpoints and images of full size")
    parser.add_argument(
        "--models", nargs="*", default=[kind.name for kind in (SSD, FasterRCNN, RFCN)]
    )
    parser.add_argument("--tiny", action="store_true", help="a small checkpoint alone")
    options = parser.parse_args()
    tf.disable_v2_behavior()
    if options.tiny:
        write_tiny(FOLDER.parent / "zoo" / "golden" / "tensorflow_v1")
        return
    for kind in (SSD, FasterRCNN, RFCN):
        if kind.name not in options.models:
            continue
        full = options.full is not None
        network = kind(
            {}
            if kind is SSD
            else {"short": 600, "long": 1024}
            if full
            else {"short": 160, "long": 256}
        )
        network.fill(SEED)
        if not full:
            record(network, SMALL, FOLDER / f"tf_slim_{kind.name}.npz")
            continue
        folder = options.full / kind.name
        folder.mkdir(parents=True, exist_ok=True)
        with network.session.graph.as_default():
            tf.train.Saver().save(network.session, str(folder / "model.ckpt"))
        with tarfile.open(options.full / f"{kind.name}.tar.gz", "w:gz", compresslevel=1) as archive:
            archive.add(folder, kind.name)
        record(network, FULL, options.full / f"{kind.name}.npz")


if __name__ == "__main__":
    main()
