"""Shared by the benchmarks of whole detectors: images and objects, training steps, sides and their figures.

Functions that use a framework import it themselves: each side may run in its own environment.
"""

import importlib
from pathlib import Path

from _harness import (
    alternate,
    forget_peak,
    median,
    peak_memory,
    seconds,
    serve,
    start,
    tensorflow_flops,
    tensorflow_matmul_rate,
    torch_flops,
)

OWN, HALF, PEER = "kerasdet", "kerasdet-bfloat16", "torchvision"
BOXES, CLASSES = 8, 91
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


def keras_inference(model, pixels, forward, decode, detect):
    """Return inference of either Keras model: as a whole, and its decoding alone."""
    raw = forward(pixels)

    def run():
        found = {}
        total = seconds(lambda: found.update({k: v.numpy()[0] for k, v in detect(pixels).items()}))
        decoding = seconds(lambda: decode(raw)["num_detections"].numpy())
        count = int(found["num_detections"])
        score = float(found["confidence"][:count].mean())
        return {"seconds": total, "decode": decoding, "detections": count, "score": score}

    flops = tensorflow_flops(forward.get_concrete_function(pixels))
    return run, {"flops": flops, "parameters": trainable_parameters(model)}


def detector_inference(model, images):
    """Return inference of a detector of ours, in warmed graphs without XLA; see `keras_inference`."""
    import tensorflow as tf

    @tf.function(jit_compile=False)
    def detect(pixels):
        return model.decode(model(pixels, training=False))

    @tf.function(jit_compile=False)
    def forward(pixels):
        return model(pixels, training=False)

    decode = tf.function(model.decode, jit_compile=False)
    return keras_inference(model, tf.constant(images), forward, decode, detect)


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


def torchvision_step(model, images, targets, rate=LEARNING_RATE, half=False):
    """Return a function that makes a training step of a torchvision detector, `half` in bfloat16."""
    import torch

    model.train()
    optimizer = torch.optim.SGD(model.parameters(), rate, MOMENTUM)
    assert all(parameter.requires_grad for parameter in model.parameters())

    def run():
        logs = {}

        def step():
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = sum(model(images, targets).values())
            loss.backward()
            optimizer.step()
            logs["loss"] = loss.item()

        return {"seconds": seconds(step), **logs}

    return run, {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def torchvision_detections(model, detect, times):
    """Return inference of a torchvision detector, and facts.

    Args:
        model: the detector.
        detect: function without arguments that returns the detections of an image.
        times: dict of the seconds of its parts, which each call writes anew.
    """

    def run():
        found = {}
        total = seconds(lambda: found.update(detect()))
        scores = found["scores"]
        result = {"detections": len(scores), "score": float(scores.float().mean())}
        return {"seconds": total, **times, **result}

    parameters = sum(parameter.numel() for parameter in model.parameters())
    return run, {"flops": torch_flops(model, detect), "parameters": parameters}


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


def spread(layer, deviation, detect):
    """Scale a layer's weights so that its outputs, without bias, have this mean deviation per channel."""
    import torch

    layer.bias.zero_()
    outputs = torchvision_outputs([layer], detect)[layer]
    channels = torch.cat([values.transpose(0, 1).flatten(1) for values in outputs], 1)
    layer.weight.mul_(deviation / channels.std(1).mean())


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


# -- the sides together ------------------------------------------------------------------------------


def has_bfloat16():
    """Tell whether the processor multiplies bfloat16 numbers (Linux)."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def measure(commands, repetitions, with_memory, peer=PEER):
    """Alternate the sides of one model.

    Args:
        commands: {side: its worker's command line}, started in this order.
        repetitions: rounds.
        with_memory: whether to measure the peak memory of a run, too.
        peer: the side that must be there beside our own.

    Returns:
        Dict for the report: "facts", "answers", "matmul_flops_per_second" and "memory_bytes".
    """
    workers, facts = start(commands)
    missing = {OWN, peer} - {side.name for side in workers}
    if missing:
        raise SystemExit(
            f"{' and '.join(sorted(missing))} could not be prepared; see the error above."
        )
    own = next(side for side in workers if side.name == OWN)
    rates = [own.ask("rate")["rate"]]
    answers = alternate(workers, repetitions)
    rates.append(own.ask("rate")["rate"])
    memory = {side.name: side.ask("memory") for side in workers} if with_memory else {}
    for side in workers:
        side.close()
    return {
        "matmul_flops_per_second": rates,
        "facts": facts,
        "answers": answers,
        "memory_bytes": memory,
    }


def middle(result, side, key="seconds", less=None):
    """Return the median of a side's answers, without the seconds of the part `less`, or None."""
    runs = result["answers"].get(side)
    return runs and median([run[key] - (run[less] if less else 0.0) for run in runs])


def number(value):
    return "-" if value is None else f"{value:.2f}"


def judged(value, limit):
    return number(value) + (", MISSED" if limit is not None and value > limit else "")


def memory_columns(result, limit, peer=PEER):
    """Return the columns of a training step's memory, without and with the libraries'."""
    memory = result["memory_bytes"]
    peaks = {side: memory[side]["peak"] / 1e6 for side in (OWN, peer)}
    steps = {side: peaks[side] - memory[side]["libraries"] / 1e6 for side in (OWN, peer)}
    return {
        "kerasdet, MB": f"{steps[OWN]:.0f}",
        f"{peer}, MB": f"{steps[peer]:.0f}",
        "memory ratio": judged(steps[OWN] / steps[peer], limit),
        "memory limit": limit,
        "with libraries": number(peaks[OWN] / peaks[peer]),
    }


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
