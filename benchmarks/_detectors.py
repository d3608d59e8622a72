"""Shared by the benchmarks of whole detectors: images and objects, training steps, and a worker's side.

Functions that use a framework import it themselves: each side may run in its own environment.
"""

import importlib

from _harness import forget_peak, peak_memory, seconds, serve, tensorflow_matmul_rate

BOXES = 8
LEARNING_RATE, MOMENTUM = 1e-3, 0.9
WARM_UP = 2


# -- the same data for everyone ----------------------------------------------------------------


def random_images(batch, height, width):
    """Return random pixels (B, H, W, 3) float32, 0..255."""
    import numpy as np

    return np.random.default_rng(0).uniform(0, 255, (batch, height, width, 3)).astype("float32")


def torchvision_images(batch, height, width):
    """Return the same pixels as torchvision takes them: a list of (3, H, W), 0..1."""
    import torch

    return list(torch.from_numpy(random_images(batch, height, width) / 255).permute(0, 3, 1, 2))


def objects(batch, height, width, classes):
    """Return boxes (B, 8, 4) xyxy with sides of 1/8 to 1/2 of the image, and labels (B, 8) from 1."""
    import numpy as np

    rng = np.random.default_rng(1)
    extent = np.array([width, height], "float32")
    sides = rng.uniform(1 / 8, 1 / 2, (batch, BOXES, 2)) * extent
    corner = rng.uniform(0, 1, (batch, BOXES, 2)) * (extent - sides)
    boxes = np.concatenate([corner, corner + sides], axis=-1).astype("float32")
    return boxes, rng.integers(1, classes, (batch, BOXES)).astype("int32")


# -- Keras ----------------------------------------------------------------------------------------


def keras_step(model, images, targets):
    """Return a function that makes a training step of a compiled Keras detector, and facts."""
    import keras
    import tensorflow as tf

    images, targets = tf.nest.map_structure(tf.constant, (images, targets))

    def run():
        logs = {}

        def step():
            # Keras' own step: KerasHub's train_on_batch takes no dict of targets.
            logs.update(keras.Model.train_on_batch(model, images, targets, return_dict=True))

        return {"seconds": seconds(step), "loss": float(logs["loss"])}

    layers = [layer for layer in model._flatten_layers() if layer.weights]
    assert all(layer.trainable for layer in layers)
    return run, {"parameters": trainable_parameters(model)}


def trainable_parameters(model):
    """Count the trainable parameters of a Keras model."""
    return sum(int(weight.shape.num_elements()) for weight in model.trainable_weights)


# -- torchvision ------------------------------------------------------------------------------------


def torchvision_step(model, images, targets):
    """Return a function that makes a training step of a torchvision detector, and facts."""
    import torch

    model.train()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM)
    assert all(parameter.requires_grad for parameter in model.parameters())

    def run():
        logs = {}

        def step():
            optimizer.zero_grad()
            loss = sum(model(images, targets).values())
            loss.backward()
            optimizer.step()
            logs["loss"] = loss.item()

        return {"seconds": seconds(step), **logs}

    return run, {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def torchvision_outputs(layers, detect):
    """Return what torch layers give in one call of a model: {layer: list of tensors, one per call}."""
    seen = {layer: [] for layer in layers}
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: seen[layer].append(output))
        for layer in layers
    ]
    detect()
    for hook in hooks:
        hook.remove()
    return seen


# -- a worker --------------------------------------------------------------------------------------


def serve_side(make, libraries=()):
    """Serve one side: its warm-up, its runs, the peak memory of one run, the machine's rate.

    Args:
        make: function without arguments that returns a function which runs once, and facts.
        libraries: modules whose loaded memory is reported apart from that of a run (Linux).
    """
    state = {"libraries": 0}

    def prepare():
        if libraries:
            for name in libraries:
                importlib.import_module(name)
            forget_peak()
            state["libraries"] = peak_memory()
        state["run"], facts = make()
        facts["warm_up"] = [state["run"]() for _ in range(WARM_UP)]
        return facts

    def memory():
        forget_peak()
        state["run"]()
        return {"libraries": state["libraries"], "peak": peak_memory()}

    serve(
        lambda: {
            "prepare": prepare,
            "run": lambda: state["run"](),
            "memory": memory,
            "rate": lambda: {"rate": tensorflow_matmul_rate()},
        }
    )


def loss_text(facts, runs):
    """Describe how a side's loss changes, warm-up included, and whether it falls."""
    losses = [answer["loss"] for answer in facts["warm_up"] + runs]
    fell = "falls" if losses[-1] < losses[0] else "DOES NOT FALL"
    return f"{losses[0]:.3f} to {losses[-1]:.3f}, {fell}"


def head_line(machine, rate):
    """Return the table's first line: the machine and its rate."""
    return (
        f"{machine['processor']}, {machine['cores']} cores; "
        f"float32 matrix product {rate / 1e9:.0f} GFLOP/s"
    )
