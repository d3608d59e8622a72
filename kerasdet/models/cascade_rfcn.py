"""R-FCN with a cascade of score maps.

    Cai, Vasconcelos. Cascade R-CNN: Delving into High Quality Object Detection. CVPR 2018.
    arXiv 1712.00726v1, section 5.4.

Reading order: `cascade_rcnn.py` and `rfcn.py`, of which this is the sum: every stage has its own convolution,
score maps and box maps.
"""

import keras

from kerasdet.models.cascade_rcnn import Cascade
from kerasdet.models.rfcn import RFCN, PositionSensitiveClassifier


@keras.saving.register_keras_serializable("kerasdet")
class CascadeRFCN(Cascade, RFCN):
    """R-FCN with a cascade of score maps (arXiv 1712.00726).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: as of `RFCN`.
        ious: for each stage, the lowest IoU of a region with its object.
        delta_weights: for each stage, the factors of the deltas.
        loss_weights: for each stage, the factor of its losses.
        **rfcn: every other argument of `RFCN`. Its `head` serves the first stage, copies of it the others.

    Example:
        >>> model = CascadeRFCN(3)
        >>> model.compile(keras.optimizers.SGD(0.001, momentum=0.9))

    Raises:
        ValueError: an argument is out of its range.
    """

    @property
    def CLASSIFIER(self):
        """The class of each stage."""
        if self.box_of_each_class:
            raise ValueError(
                "box_of_each_class is True, but the stages of a cascade hand on one box for all classes: "
                "give False."
            )
        return PositionSensitiveClassifier
