"""Write slim_networks.npz: what TF-slim's Inception v2 gives for a small image.

Needs an environment of its own, of Python 3.11:

    pip install "tensorflow-cpu==2.15.*" tf-slim==1.1.0 "tf-keras==2.15.*" "numpy<2"
    python tests/golden/make_slim_networks.py

As in Google's detectors, the first convolution, which is separable, has batch normalisation too, and all have
a scale. Weights come from `drawn.py` by the layers' names; the file holds every eighth channel of the maps.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import drawn
import tensorflow as tf
import tf_slim as slim
from store import Case, save
from tf_keras.src import legacy_tf_layers
from tf_keras.src.legacy_tf_layers import normalization
from tf_slim.nets import inception_v2

# tf-slim looks for them here.
sys.modules["tf_keras.legacy_tf_layers"] = legacy_tf_layers
sys.modules["tf_keras.legacy_tf_layers.normalization"] = normalization

LEVELS = {
    "C2": "Conv2d_2c_3x3",
    "C3": "Mixed_3c",
    "C4_Mixed_4c": "Mixed_4c",
    "C4": "Mixed_4e",
    "C5": "Mixed_5c",
}
SIDES = 75, 98
DEPTHWISE = "Conv2d_1a_7x7/depthwise_weights"


def value_of(variable):
    """The values of a variable by its layer's name here."""
    path = variable.op.name.removeprefix("InceptionV2/").replace("/BatchNorm", "")
    shape = tuple(variable.shape.as_list())
    if path == DEPTHWISE:
        return drawn.kernel("Conv2d_1a_7x7_depthwise", shape, shape[0] * shape[1])
    layer, _, kind = path.rpartition("/")
    name = layer.replace("/", "_")
    return drawn.kernel(name, shape) if "weights" in kind else drawn.vector(name, kind, shape[0])


def main():
    """Write the file beside this script."""
    tf.compat.v1.disable_eager_execution()
    images = tf.constant(drawn.images("InceptionV2", *SIDES))
    norm = {"is_training": False, "scale": True, "epsilon": 1e-3}
    convs = [slim.conv2d, slim.separable_conv2d]
    with slim.arg_scope(convs, normalizer_fn=slim.batch_norm, normalizer_params=norm):
        _, ends = inception_v2.inception_v2_base(images, scope="InceptionV2")
    with tf.compat.v1.Session() as session:
        for variable in tf.compat.v1.global_variables():
            variable.load(value_of(variable), session)
        found = session.run({level: ends[name] for level, name in LEVELS.items()})
    cases = {}
    for level, value in found.items():
        options = {"level": level, "height": SIDES[0], "width": SIDES[1]}
        cases[level] = Case("InceptionV2", {}, options, value[..., :: drawn.CHANNEL_STEP])
    versions = {"tensorflow": tf.__version__, "tf_slim": version("tf_slim")}
    save(Path(__file__).with_name("slim_networks.npz"), cases, versions)


if __name__ == "__main__":
    main()
