"""Deformable ConvNets in R-FCN: each bin of a region learns where to vote.

    Dai, Qi, Xiong, Li, Zhang, Hu, Wei. Deformable Convolutional Networks. ICCV 2017. arXiv 1703.06211v3.

Reading order: `deformable_faster_rcnn.py` and `rfcn.py`; then the pooling, `DeformablePSRoIPool` (section
2.2, figure 4), whose offsets are maps of the whole image.

Departures from the paper:
    - All classes and the box share the offsets of a region's bins; in the paper each class has its own.
"""

import keras

from kerasdet.backbones import ResNet101
from kerasdet.layers.deform import Deformable
from kerasdet.layers.deform_roi import DeformablePSRoIPool
from kerasdet.models.deformable_faster_rcnn import BINS, MAPS, Deformed
from kerasdet.models.rfcn import RFCN


@keras.saving.register_keras_serializable("kerasdet")
class DeformableRFCN(Deformed, RFCN):
    """R-FCN with deformable convolutions and deformable position-sensitive pooling (arXiv 1703.06211).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: as of `RFCN`; default with three deformable convolutions in stage 5.
        neck: a `FeaturePyramid`, or False (default) for none.
        pooling: a position-sensitive layer; default `DeformablePSRoIPool(7)` of the last level.
        **rfcn: every other argument of `RFCN`.

    Example:
        >>> model = DeformableRFCN(3)
        >>> model.compile(keras.optimizers.SGD(0.001, momentum=0.9))

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, num_classes, backbone=None, neck=False, pooling=None, **rfcn):
        backbone = backbone or ResNet101(
            levels=MAPS, deformable=Deformable(), dtype=rfcn.get("dtype")
        )
        if neck is False and pooling is None:
            scale = 1 / backbone.strides[backbone.levels[-1]]
            pooling = DeformablePSRoIPool(BINS, scale, dtype="float32", name="pooling")
        super().__init__(num_classes, backbone, neck=neck, pooling=pooling, **rfcn)
