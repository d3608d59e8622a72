"""fc6 and fc7 of the classifiers that end in dense layers: on a whole image, and on each region."""

from keras import ops

from kerasdet.layers.region_heads import DenseHead
from kerasdet.ops.pooling import spatial_pyramid_pool


class ImageHead(DenseHead):
    """The head with the whole image as its region: (B, H, W, C) -> (B, 1, 1, units[-1]).

    The map is averaged over bins, which are its cells where it has the size that the classifier was made for.

    Args:
        cells: bins per side, those of the regions.
        units: outputs of each dense layer.
        dropout: share of each dense layer's outputs dropped in training.
    """

    def __init__(self, cells, units, dropout, **kwargs):
        super().__init__(units, dropout=dropout, **kwargs)
        self.cells = cells

    @property
    def filters(self):
        """Channels of the result."""
        return self.units[-1]

    def build(self, features_shape):
        """Create every weight."""
        super().build((None, 1, self.cells, self.cells, features_shape[-1]))

    def call(self, features, training=False):
        """See the class docstring."""
        bins = spatial_pyramid_pool(features, [self.cells], pooling="average")  # (B, n n, C)
        regions = ops.reshape(bins, (-1, 1, self.cells, self.cells, features.shape[-1]))
        return super().call(regions, training=training)[:, None]

    def compute_output_shape(self, features_shape):
        """Return (B, 1, 1, units[-1])."""
        return (features_shape[0], 1, 1, self.units[-1])


def region_head_of(classifier, dtype):
    """Return fc6 and fc7 of a trained classifier as a layer for each region.

    Args:
        classifier: `ImageClassifier` whose first layer above the backbone is an `ImageHead`.
        dtype: precision of the layer.

    Returns:
        A built `DenseHead` with the classifier's weights, for regions of as many cells.
    """
    (image_head,) = classifier.head
    head = DenseHead(image_head.units, dropout=image_head.dropout, dtype=dtype, name="head")
    channels = classifier.backbone.channels["C5"]
    head.build((None, None, image_head.cells, image_head.cells, channels))
    head.set_weights(image_head.get_weights())
    return head
