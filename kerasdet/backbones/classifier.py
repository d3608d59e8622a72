"""The ImageNet classifier on a backbone, the form in which backbones are pretrained."""

import keras


@keras.saving.register_keras_serializable("kerasdet")
class ImageClassifier(keras.Model):
    """Backbone, global average pooling and one dense layer.

    Args:
        backbone: a `Backbone` that has level "C5".
        num_classes: number of classes K.
        dropout: share of the pooled features dropped in training (MobileNetV2's is 0.2).

    Source: resnet §3.3; mobilenet_v2 table 2.
    """

    TRANSFERRED = ("backbone",)  # attributes that a model for other classes keeps

    def __init__(self, backbone, num_classes=1000, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        if "C5" not in backbone.levels:
            raise ValueError(f"backbone.levels must contain 'C5'; got {backbone.levels}.")
        self.backbone = backbone
        self.num_classes = num_classes
        self.head = backbone.classifier_layers()
        self.pool = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")
        self.dropout = keras.layers.Dropout(dropout, dtype="float32", name="dropout")
        self.fc = keras.layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype="float32",
            name="fc",
        )
        self.build()

    def build(self, input_shape=None):
        """Create every weight."""
        if self.built:
            return
        channels = self.backbone.channels["C5"]
        for layer in self.head:
            layer.build((None, None, None, channels))
            channels = layer.filters
        self.fc.build((None, channels))

    def call(self, images, training=False):
        """Classify images.

        Args:
            images: (B, H, W, C) tensor, 0..255.
            training: whether layers run in training mode.

        Returns:
            (B, K) float32 logits.
        """
        x = self.backbone(self.backbone.normalize(images), training=training)["C5"]
        for layer in self.head:
            x = layer(x, training=training)
        return self.fc(self.dropout(self.pool(x), training=training))

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "dropout": self.dropout.rate,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuild the classifier and its backbone."""
        return cls(keras.saving.deserialize_keras_object(config.pop("backbone")), **config)
