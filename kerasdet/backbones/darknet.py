"""The networks of YOLO and YOLOv2, laid out so that Darknet's weights fit.

Redmon, Divvala, Girshick, Farhadi, You Only Look Once, arXiv 1506.02640: the first twenty convolutions
of the network of figure 3, which are trained as a classifier, and those of Fast YOLO. Redmon, Farhadi,
YOLO9000, arXiv 1612.08242: Darknet-19 (table 6) and the network of tiny YOLOv2.

A plan is a tuple of rows in the order of the network: (filters, kernel size) or (filters, kernel size,
stride) for a convolution, "pool" for a pooling of 2 x 2 cells, "pool1" for one of stride 1. Level "Cn" is
the last map of stride 2**n. Convolutions are named `conv1`, `conv2`, ... in that order.
"""

import keras

from kerasdet.backbones.backbone import LEVELS, Backbone
from kerasdet.layers.conv import LEAK, dark_layer

MOST_ROWS = 1000
NO_MEAN, SCALE = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)  # pixels are divided by 255, no more
FACE_MEAN = (117.001, 114.697, 97.404)

# Source: yolo_v2 table 6, without the last convolution, which is the classifier.
DARKNET19 = (
    *((32, 3), "pool", (64, 3), "pool"),
    *((128, 3), (64, 1), (128, 3), "pool"),
    *((256, 3), (128, 1), (256, 3), "pool"),
    *((512, 3), (256, 1), (512, 3), (256, 1), (512, 3), "pool"),
    *((1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3)),
)
# Source: yolo figure 3, up to the convolutions that are added for detection.
YOLO20 = (
    *((64, 7, 2), "pool", (192, 3), "pool"),
    *((128, 1), (256, 3), (256, 1), (512, 3), "pool"),
    *((256, 1), (512, 3)) * 4,
    *((512, 1), (1024, 3), "pool"),
    *((512, 1), (1024, 3)) * 2,
)
# Six of the nine convolutions of Fast YOLO, as in Darknet's configuration files.
FAST_YOLO = (
    *((16, 3), "pool", (32, 3), "pool", (64, 3), "pool", (128, 3), "pool", (256, 3), "pool"),
    (512, 3),
)
TINY_YOLO_V2 = (*FAST_YOLO, "pool1", (1024, 3))


@keras.saving.register_keras_serializable("kerasdet")
class Darknet(Backbone):
    """Convolutions with leaky ReLU and poolings, by a plan.

    As in Darknet, an odd last row or column is kept by the poolings. Pixels are divided by 255.

    Args:
        plan: rows, as the module's docstring describes them.
        levels: the levels to return; rows above the highest are not built.
        norm: "batch", or None for a bias instead (the network of YOLO's paper).
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.
        norm_epsilon: epsilon of the batch normalisation.

    Raises:
        ValueError: a row is none of the three kinds, a level is not in the plan, or another norm.
    """

    def __init__(
        self,
        plan,
        levels=LEVELS,
        norm="batch",
        mean=NO_MEAN,
        std=SCALE,
        norm_epsilon=1e-5,
        *,
        dtype=None,
        **kwargs,
    ):
        if norm not in ("batch", None):
            raise ValueError(f'norm must be "batch" or None, not {norm!r}.')
        plan = _checked_plan(plan)
        inputs = x = keras.Input((None, None, len(mean)), name="images")
        outputs, stage, number = {}, 0, 0
        for index, row in enumerate(plan):
            is_pool = isinstance(row, str)
            number += not is_pool
            layer, stride = dark_layer(row, index if is_pool else number, norm, norm_epsilon, dtype)
            x = layer(x)
            stage += stride == 2
            outputs[f"C{stage}"] = x
        missing = [level for level in levels if level not in outputs]
        if missing or not levels:
            raise ValueError(f"levels are {tuple(levels)}; give some of {', '.join(outputs)}.")
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.plan = plan
        self.norm = norm
        self.norm_epsilon = norm_epsilon

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "plan": self.plan,
            "norm": self.norm,
            "norm_epsilon": self.norm_epsilon,
        }


def Darknet19(**settings):
    """Return Darknet-19, YOLOv2's backbone; `settings` are `Darknet`'s.

    Source: yolo_v2 §3 and table 6. Its classifier is `ImageClassifier(Darknet19())`.
    """
    return Darknet(**{"plan": DARKNET19, "name": "darknet19", **settings})


def YOLO20Convs(**settings):
    """Return the twenty convolutions of YOLO that are trained as a classifier, by the paper without norm.

    Source: yolo §2.1, §2.2 and figure 3.
    """
    return Darknet(**{"plan": YOLO20, "norm": None, "name": "yolo20", **settings})


def FastYOLO(**settings):
    """Return six convolutions of Fast YOLO; three more belong to the detector.

    Source: yolo §2.1; the filters are those of Darknet's configuration.
    """
    return Darknet(**{"plan": FAST_YOLO, "name": "fast_yolo", **settings})


def TinyYOLOv2(**settings):
    """Return the seven convolutions of tiny YOLOv2; `settings` are `Darknet`'s."""
    return Darknet(**{"plan": TINY_YOLO_V2, "name": "tiny_yolo_v2", **settings})


@keras.saving.register_keras_serializable("kerasdet")
class SeparableTinyYOLOv2(Backbone):
    """Tiny YOLOv2 of separable convolutions with biases, as face-api.js detects faces with.

    The first convolution is a plain one without padding: it drops a pixel at each side.

    Args:
        filters: channels of the convolutions; a pooling follows each, from the sixth on of stride 1.
        levels: the levels to return.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.
    """

    def __init__(
        self,
        filters=(16, 32, 64, 128, 256, 512),
        levels=("C5",),
        mean=FACE_MEAN,
        std=SCALE,
        *,
        dtype=None,
        **kwargs,
    ):
        inputs = x = keras.Input((None, None, len(mean)), name="images")
        outputs, stage = {}, 0
        for index, channels in enumerate(filters):
            conv = (
                keras.layers.SeparableConv2D(
                    channels, 3, padding="same", name=f"conv{index}", dtype=dtype
                )
                if index
                else keras.layers.Conv2D(channels, 3, name="conv0", dtype=dtype)
            )
            x = keras.layers.LeakyReLU(LEAK, name=f"leaky{index}", dtype=dtype)(conv(x))
            stride = 2 if stage < 5 else 1
            x = keras.layers.MaxPooling2D(
                2, stride, padding="same", name=f"pool{index}", dtype=dtype
            )(x)
            stage += stride == 2
            outputs[f"C{stage}"] = x
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.filters = tuple(filters)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "filters": self.filters}


def _checked_plan(plan):
    """Return the plan as a tuple, its convolutions with three numbers each."""
    rows = tuple(row if isinstance(row, str) else (*row, 1)[:3] for row in plan)
    if not 1 <= len(rows) <= MOST_ROWS:
        raise ValueError(f"plan has {len(rows)} rows; give 1 to {MOST_ROWS}.")
    for row in rows:
        if not (row in ("pool", "pool1") or (len(row) == 3 and row[2] in (1, 2))):
            raise ValueError(
                f'plan has the row {row!r:.80}; give "pool", "pool1" or (filters, size, stride 1 or 2).'
            )
    return rows
