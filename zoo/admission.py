"""What the `config.json` of a `.keras` file may ask for, before Keras builds anything of it.

A config names classes, and Keras would import and call them. Here each is one that this process has
registered (`keras.saving.register_keras_serializable`: all parts of kerasdet, and the user's own), or
one of Keras' own in the tables below. Nothing is imported for a file's sake; no code of a file is run.
"""

import json
import math

import keras

from kerasdet.zoo.checkpoints.errors import printable

LARGEST = 8 << 20  # bytes of a config; a backbone of 800 layers from keras.applications has 0.8 MB
MOST_OBJECTS = 20_000
DEEPEST = 64
LONGEST_TEXT = 4096
LONGEST_NUMBER = 40  # digits; ids of 128 bits have 39

# Keras' own classes that backbones are made of, by the module that a config names.
KERAS = {
    "keras": {"DTypePolicy", "Sequential"},
    "keras.dtype_policies": {"DTypePolicy"},
    "keras.layers": {
        *("Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate"),
        *("Conv2D", "Conv2DTranspose", "Cropping2D", "Dense", "DepthwiseConv2D", "Dropout", "ELU"),
        *("Flatten", "GaussianNoise", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Identity"),
        *("GroupNormalization", "InputLayer", "LayerNormalization", "LeakyReLU", "MaxPooling2D"),
        *("Maximum", "Minimum", "MultiHeadAttention", "Multiply", "Normalization", "PReLU", "ReLU"),
        *("Permute", "Rescaling", "Reshape", "Resizing", "SeparableConv2D", "Softmax", "Subtract"),
        *("SpatialDropout2D", "UnitNormalization", "UpSampling2D", "ZeroPadding2D"),
    },
    "keras.initializers": {
        *("Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "LecunNormal"),
        *("LecunUniform", "Ones", "RandomNormal", "RandomUniform", "TruncatedNormal"),
        *("VarianceScaling", "Zeros"),
    },
    "keras.regularizers": {"L1", "L1L2", "L2"},
    "keras.constraints": {"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"},
    # As functional models name themselves and their arithmetic.
    "keras.src.models.functional": {"Functional"},
    "keras.src.ops.numpy": {"Add", "Divide", "Mean", "Multiply", "Subtract", "TrueDivide"},
    "keras.src.applications.convnext": {"LayerScale", "StochasticDepth"},
}
NUMBERS = ("bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64")


def read_config(path, content):
    """Read a model's config, and refuse what it may not hold.

    Args:
        path: the `.keras` file, for errors.
        content: bytes of its `config.json`.

    Returns:
        The config, for `keras.saving.deserialize_keras_object`, without how the model was compiled.

    Raises:
        ValueError: it is no JSON, too large or too deep, holds a number that is not finite or a text that
            is none, or asks for what is not admitted; names file and place.
    """
    if len(content) > LARGEST:
        raise ValueError(
            f"{path}: config.json has {len(content)} bytes, more than {LARGEST}: no model of kerasdet "
            "has so many. Take another copy."
        )
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: config.json is no JSON ({error}). Take another copy.") from error
    _check_model(path, config)
    objects, todo = 0, [(config, "config.json", 0)]
    while todo:
        value, place, depth = todo.pop()
        if depth > DEEPEST:
            raise ValueError(f"{path}: {place[:200]} lies deeper than {DEEPEST} levels.")
        if isinstance(value, list):
            todo += [(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
        elif isinstance(value, dict):
            if "class_name" in value:
                objects += 1
                _check_class(path, place, value)
                value.pop("compile_config", None)
            for key in value:
                _check_text(path, place, key)
            todo += [(v, f"{place}.{printable(k)}", depth + 1) for k, v in value.items()]
        elif isinstance(value, str):
            _check_text(path, place, value)
        else:
            _check_number(path, place, value)
        if objects > MOST_OBJECTS:
            raise ValueError(f"{path}: config.json describes more than {MOST_OBJECTS} objects.")
    return config


def _check_model(path, config):
    """Refuse a config whose outermost object is no model of kerasdet."""
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise ValueError(f"{path}: config.json describes no model. Take another copy.")
    kind = _registered(config)
    if kind is None and not _is_known(config):
        return  # `_check_class` says what is to be imported
    bases = getattr(kind, "__mro__", ())
    ours = any(base.__module__.startswith("kerasdet.") for base in bases)
    if not ours or keras.Model not in bases:
        name = printable(config["class_name"])
        raise ValueError(f"{path} holds a {name}, not a model of kerasdet.")


def _check_class(path, place, node):
    name = node["class_name"]
    if isinstance(name, str) and (_is_value(node) or _registered(node) or _is_known(node)):
        return
    asked = f"{printable(node.get('module'))}.{printable(name)}"
    if name == "function":
        asked = f"the function {printable(node.get('config'))}"
    raise ValueError(
        f"{path}: {place[:200]} asks for {asked}, which is neither a part of kerasdet nor one of the "
        "layers of Keras that are admitted. If it is your own, import the module that registers it "
        "(keras.saving.register_keras_serializable) before you load the file; a Lambda is never loaded."
    )


def _is_value(node):
    """Whether a config holds a symbolic tensor, or an array of numbers."""
    if node["class_name"] not in ("__numpy__", "__tensor__"):
        return node["class_name"] == "__keras_tensor__"
    return isinstance(node.get("config"), dict) and node["config"].get("dtype") in NUMBERS


def _registered(node):
    """The class or function that this process has registered under the name in a config, or None."""
    key = "config" if node["class_name"] == "function" else "registered_name"
    name = node.get(key, node["class_name"])
    found = keras.saving.get_registered_object(name) if isinstance(name, str) else None
    if node["class_name"] == "function" or hasattr(found, "from_config"):
        return found
    return None


def _is_known(node):
    """Whether a config names one of Keras' own classes that are admitted."""
    module, name = node.get("module"), node["class_name"]
    return isinstance(module, str) and isinstance(name, str) and name in KERAS.get(module, ())


def _check_text(path, place, text):
    if len(text) > LONGEST_TEXT or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(
            f"{path}: {place[:200]} holds a text of more than {LONGEST_TEXT} characters, or with half a "
            f"character: {printable(text)}."
        )


def _check_number(path, place, value):
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: {place[:200]} is {value}; give a finite number.")
    if isinstance(value, int) and abs(value) >= 10**LONGEST_NUMBER:
        raise ValueError(
            f"{path}: {place[:200]} is a number of more than {LONGEST_NUMBER} digits; give a smaller one."
        )
