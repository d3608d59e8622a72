"""YOLO's head: convolutions, and layers that look at the whole map at once."""

import keras
from keras import ops

from kerasdet.layers.conv import dark_layer, leaky
from kerasdet.ops.checks import check_whole

YOLO_CONVS = ((1024, 3), (1024, 3, 2), (1024, 3), (1024, 3))  # yolo figure 3


@keras.saving.register_keras_serializable("kerasdet")
class LocallyConnected(keras.layers.Layer):
    """A convolution that has other weights at each place of the map, and leaky ReLU.

    Args:
        filters: number of output channels.
        kernel_size: height and width of the kernel, odd; the map is padded by zeros and keeps its size.

    Call arguments:
        inputs: (B, H, W, C), of the size that the layer was built for.

    Returns:
        (B, H, W, filters).

    Source: the `local` layer of Darknet, in its yolov1.cfg.
    """

    def __init__(self, filters, kernel_size=3, **kwargs):
        super().__init__(**kwargs)
        check_whole("filters", filters)
        check_whole("kernel_size", kernel_size, most=101)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}; give an odd number.")
        self.filters = filters
        self.kernel_size = kernel_size

    def build(self, input_shape):
        """Create the kernels, (H, W, k * k * C, filters), and biases, (H, W, filters)."""
        _, height, width, channels = input_shape
        taps = self.kernel_size**2 * channels
        normal = keras.initializers.RandomNormal(0, (2 / taps) ** 0.5)
        self.kernel = self.add_weight((height, width, taps, self.filters), normal, name="kernel")
        self.bias = self.add_weight((height, width, self.filters), "zeros", name="bias")

    def call(self, inputs):
        """See the class docstring."""
        reach = self.kernel_size // 2
        height, width = self.kernel.shape[:2]
        padded = ops.pad(inputs, [[0, 0], [reach, reach], [reach, reach], [0, 0]])
        taps = [
            padded[:, y : y + height, x : x + width]
            for y in range(self.kernel_size)
            for x in range(self.kernel_size)
        ]
        patches = ops.concatenate(taps, axis=-1)  # (B, H, W, k * k * C)
        patches = ops.transpose(patches, (1, 2, 0, 3))
        outputs = ops.matmul(patches, ops.cast(self.kernel, inputs.dtype))  # (H, W, B, filters)
        outputs = ops.transpose(outputs, (2, 0, 1, 3))
        return leaky(outputs + ops.cast(self.bias, inputs.dtype))

    def compute_output_shape(self, input_shape):
        """Return (B, H, W, filters)."""
        return (*input_shape[:3], self.filters)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
        }


@keras.saving.register_keras_serializable("kerasdet")
class GridHead(keras.layers.Layer):
    """Convolutions with leaky ReLU, then dense layers on the flattened map; the detector adds the last one.

    Args:
        convs: rows in order: (filters, size), (filters, size, stride), "pool" (2 x 2 cells to one) or "pool1"
            (the same at every cell).
        units: units of each hidden dense layer with leaky ReLU.
        local: filters of a locally connected layer after the convolutions (Darknet's yolov1.cfg); 0: none.
        dropout: share of the last hidden features that is dropped in training.
        norm: None (the paper) or "batch", of the convolutions.
        norm_epsilon: epsilon of the batch normalisation.

    Call arguments:
        inputs: (B, H, W, C), of the size that the layer was built for.

    Returns:
        (B, F), in the compute type; a map is flattened by rows, columns and channels.

    Raises:
        ValueError: another norm, or counts out of range.

    Source: YOLO (arXiv 1506.02640), section 2.1 and figure 3; section 2.2, Training.
    """

    def __init__(
        self,
        convs=YOLO_CONVS,
        units=(4096,),
        local=0,
        dropout=0.5,
        norm=None,
        norm_epsilon=1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if norm not in (None, "batch"):
            raise ValueError(f'norm must be None or "batch", not {norm!r}.')
        check_whole("local", local, least=0)
        self.convs = tuple(row if isinstance(row, str) else tuple(row) for row in convs)
        self.units = tuple(units)
        self.local = local
        self.dropout = dropout
        self.norm = norm
        self.norm_epsilon = norm_epsilon
        for count in self.units:
            check_whole("units", count)
        policy = self.dtype_policy
        self.parts = [
            dark_layer(row, i, norm, norm_epsilon, policy)[0] for i, row in enumerate(self.convs)
        ]
        if local:
            self.parts.append(LocallyConnected(local, dtype=policy, name="local"))
        self.dense = [
            keras.layers.Dense(
                count, leaky, kernel_initializer="he_normal", dtype=policy, name=f"dense{i}"
            )
            for i, count in enumerate(self.units)
        ]
        self.drop = keras.layers.Dropout(dropout, dtype=policy, name="dropout")

    def build(self, input_shape):
        """Create the weights for maps of one size."""
        shape = tuple(input_shape)
        for part in self.parts:
            part.build(shape)
            shape = part.compute_output_shape(shape)
        self.features = shape[1] * shape[2] * shape[3]
        width = self.features
        for dense in self.dense:
            dense.build((None, width))
            width = dense.units
        self.built = True

    def call(self, inputs, training=False):
        """See the class docstring."""
        x = inputs
        for part in self.parts:
            x = part(x)
        # Not -1: maps of another size would become other images.
        x = ops.reshape(x, (ops.shape(x)[0], self.features))
        for dense in self.dense:
            x = dense(x)
        return self.drop(x, training=training)

    def compute_output_shape(self, input_shape):
        """Return (B, F)."""
        return (input_shape[0], self.units[-1] if self.units else self.features)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "convs": self.convs,
            "units": self.units,
            "local": self.local,
            "dropout": self.dropout,
            "norm": self.norm,
            "norm_epsilon": self.norm_epsilon,
        }
