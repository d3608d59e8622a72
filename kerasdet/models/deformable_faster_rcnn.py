"""Deformable ConvNets in Faster R-CNN: convolutions and region pooling that learn where to look.

    Dai, Qi, Xiong, Li, Zhang, Hu, Wei. Deformable Convolutional Networks. ICCV 2017. arXiv 1703.06211v3.

Reading order: `kerasdet.ops.deform_conv2d` (section 2.1) and `deform_roi_pool` (section 2.2), the layers with
their offsets in `kerasdet/layers/deform.py` and `deform_roi.py`, then what they change in a detector: its
backbone takes `deformable=Deformable()` and its pooling is `DeformableRoIPool` (section 3). R-FCN has the
same in `deformable_rfcn.py`. Any model on a `ResNet` or `MobileNetV2` takes deformable stages; version 2
(arXiv 1811.11168v2) is `Deformable(("C3", "C4", "C5"), modulated=True)`.

Departures from the paper:
    - Taps beyond the map fade over one cell, as in version 2; `Deformable(border="cut")` is the paper's code.
    - `for_data` has deformable stages and plain region pooling, because the pyramid has several maps.

Results: see the tables of `docs/papers/deformable_faster_rcnn.md`. The paper's figures are not reproduced.
"""

import keras

from kerasdet.backbones import MobileNetV2, ResNet101
from kerasdet.layers.deform import LEVELS, Deformable
from kerasdet.layers.deform_roi import DeformableRoIPool
from kerasdet.models.faster_rcnn import FasterRCNN
from kerasdet.ops.checks import check_choice

MAPS = ("C4", "C4_conv5")  # section 3: stage 5 at stride 16, dilated
BINS = 7
VERSIONS = (1, 2)


class Deformed:
    """What makes a two-stage detector's backbone deformable. Abstract: comes before the detector's class."""

    @classmethod
    def for_data(cls, data, resize=None, backbone=None, levels=LEVELS, version=1, **options):
        """Build a model with a feature pyramid for a data set.

        Args:
            data: `Dataset`, for its classes and the sizes of its objects.
            resize: `Resize` part of the model.
            backbone: a `ResNet` or `MobileNetV2`, plain or trained, whose convolutions become deformable;
                default MobileNetV2.
            levels: stages with deformable convolutions.
            version: 1, or 2 with masks.
            **options: as of the detector that is made deformable.

        Raises:
            ValueError: an argument is out of its range, or the backbone has no deformable form.
        """
        check_choice("version", version, VERSIONS)
        deformable = Deformable(levels, modulated=version == 2)
        backbone = (backbone or MobileNetV2()).with_deformable(deformable)
        return super().for_data(data, resize, backbone, **options)


@keras.saving.register_keras_serializable("kerasdet")
class DeformableFasterRCNN(Deformed, FasterRCNN):
    """Faster R-CNN with deformable convolutions and deformable region pooling (arXiv 1703.06211).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default `ResNet101(levels=("C4", "C4_conv5"),
            deformable=Deformable())`, three deformable convolutions: conv4 proposes, and regions are pooled
            from conv5.
        neck: a `FeaturePyramid`, or False (default) for none.
        pooling: a layer from a dict of maps and boxes to regions; default `DeformableRoIPool(7)` of the last
            level.
        **faster_rcnn: every other argument of `FasterRCNN`.

    Example:
        >>> model = DeformableFasterRCNN(3)
        >>> model.compile(keras.optimizers.SGD(0.001, momentum=0.9))
        >>> model.fit(data.batches(1, resize=model.resize))
        >>> model.detect("image.jpg")[0]["boxes"]

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, num_classes, backbone=None, neck=False, pooling=None, **faster_rcnn):
        dtype = faster_rcnn.get("dtype")
        backbone = backbone or ResNet101(levels=MAPS, deformable=Deformable(), dtype=dtype)
        if neck is False and pooling is None:
            scale = 1 / backbone.strides[backbone.levels[-1]]
            pooling = DeformableRoIPool(BINS, scale, dtype=dtype, name="pooling")
        super().__init__(num_classes, backbone, neck=neck, pooling=pooling, **faster_rcnn)
