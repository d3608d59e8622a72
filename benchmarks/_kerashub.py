"""KerasHub's RetinaNet, as torchvision's v1 is, for `one_stage.py`."""

from _detectors import CLASSES, MOMENTUM, keras_inference, keras_step, objects, random_images

# The heads start far from a solution: with 1e-3 the loss diverges immediately.
LEARNING_RATE = 1e-6
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def model_of(task):
    import keras_hub

    _, height, width = task.images
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(height, width, 3),
    )
    backbone = keras_hub.models.RetinaNetBackbone(
        image_encoder=encoder,
        min_level=3,
        max_level=7,
        use_p5=False,  # what others call P6 from P5; True uses the backbone's C5
        image_shape=(height, width, 3),
    )
    model = keras_hub.models.RetinaNetObjectDetector(
        backbone=backbone, num_classes=CLASSES, bounding_box_format="xyxy"
    )
    # As in torchvision.
    model.prediction_decoder = keras_hub.layers.NonMaxSuppression(
        bounding_box_format="xyxy",
        from_logits=True,
        iou_threshold=0.5,
        confidence_threshold=0.05,
        max_detections=300,
    )
    return model


def inference(task):
    import tensorflow as tf

    model = model_of(task)
    pixels = tf.constant(random_images(*task.images))

    @tf.function(jit_compile=False)
    def forward(pixels):
        return model((pixels - MEAN) / STD, training=False)

    @tf.function(jit_compile=False)
    def decode(raw):
        return model.decode_predictions(raw, pixels)

    @tf.function(jit_compile=False)
    def detect(pixels):
        return decode(forward(pixels))

    lively(task, model, forward(pixels))
    return keras_inference(model, pixels, forward, decode, detect)


def lively(task, model, raw):
    """Scale the last layers as in `torchvision_lively` of one_stage.py, where the outputs are `raw` now."""
    for head, key, (mean, std) in (
        (model.classification_head, "cls_logits", task.model.class_spread),
        (model.box_head, "bbox_regression", task.model.box_spread),
    ):
        layer = head.prediction_layer
        layer.kernel.assign(layer.kernel * (std / raw[key].numpy().std()))
        layer.bias.assign(layer.bias * 0 + mean)


def training(task):
    import keras

    model = model_of(task)
    optimizer = keras.optimizers.SGD(LEARNING_RATE, MOMENTUM)
    model.compile(optimizer, jit_compile=False)
    boxes, labels = objects(*task.images, CLASSES)
    images = (random_images(*task.images) - MEAN) / STD
    return keras_step(model, images.astype("float32"), {"boxes": boxes, "labels": labels})
