"""torchvision's side: lively weights in its models, what they give for images, one file per model.

Runs where PyTorch and torchvision are, and nothing of this package need be. Started by `run.py`. Another
program's side has a `Side` of its own (`mmdetection.py`).
For each model NAME the folder receives NAME.pth, a state dict as published files have it, and NAME.npz:

    meta                    JSON: name, seed, shapes of the state dict, images, batches, settings
    image/I               (H, W, 3) uint8
    bias/KEY, scale/KEY     what calibration changed in the state dict
    B/raw/OUTPUT            a module's output for batch B, channels last (`lively.sample` of it)
    B/I/boxes, /scores, /labels    detections of image I in batch B
    B/I/masks, /pasted             their masks (D, m, m) in the box, and in the image, as packed bits
    B/I/keypoints                  or their keypoints (D, P, 2)
    B/I/proposals, /class_logits   of two stages: proposals, and their logits (with a limit, every n-th's)

With `--golden` no .pth and no images are written: both follow from the seed.
"""

import argparse
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.transforms.functional import normalize

from tests.parity.lively import image, lively_state, sample, step_of
from tests.parity.models import MODELS

# Of detectors of two stages, modules from whose results proposals and masks in their boxes are read.
SECOND_STAGE = {
    "proposals": "rpn",
    "class_logits": "roi_heads.box_predictor.cls_score",
    "regions": "roi_heads",
}
CONFIDENT = 500  # (anchor, class) pairs over the score threshold, at least, in every image
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Side(NamedTuple):
    """What differs between the programs whose models are the reference.

    Fields:
        origin: a name in zoo/origins; the side's models are those of this origin.
        build: function of an entry and the shortest and longest edge, or None, that returns the model.
        prepare: function of an image (H, W, 3) uint8 and an entry that returns it as the model takes it.
        run: function of the model, an entry, images as the model takes them, and the limit; see `run`.
        published: function of the state dict and an entry that returns what the published file holds.
        versions: {package: version}.
    """

    origin: str
    build: Callable
    prepare: Callable
    run: Callable
    published: Callable
    versions: dict


def main(side):
    """Write the files of the models that the command line names."""
    names = [name for name, entry in MODELS.items() if entry.origin == side.origin]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--models", nargs="+", default=names, choices=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", nargs="+", default=["480x640", "640x427", "333x500", "800x1088"])
    parser.add_argument("--images", type=Path, help="folder of images to take instead")
    parser.add_argument(
        "--edges", nargs=2, type=int, help="shortest and longest; default: each's own"
    )
    parser.add_argument("--limit", type=int, help="values of each output to keep; default all")
    parser.add_argument("--golden", action="store_true", help="leave out what follows from seeds")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_grad_enabled(False)
    titles, images = load_images(options)
    for name in options.models:
        if name in names:
            write(side, name, titles, images, options)
            print(f"{name}: written", flush=True)


def load_images(options):
    """Titles, a file's name or HxW of a drawn image, and images (H, W, 3) uint8."""
    if options.images:
        files = sorted(f for f in options.images.iterdir() if f.suffix in (".jpg", ".png"))
        images = [np.array(Image.open(file).convert("RGB")) for file in files]
        return [file.name for file in files], images
    sizes = [map(int, size.split("x")) for size in options.sizes]
    return options.sizes, [image(*size, options.seed + i) for i, size in enumerate(sizes)]


def write(side, name, titles, images, options):
    """Build the model, run it on each image alone and on all together, write its files."""
    entry = MODELS[name]
    model = side.build(entry, options.edges)
    state = lively_state(
        {key: tuple(value.shape) for key, value in model.state_dict().items()},
        options.seed,
        dead_channels=entry.norm_epsilon == 0,
    )
    load(model, state)
    tensors = [side.prepare(array, entry) for array in images]
    arrays = calibrate(model, entry, state, tensors) if entry.calibrated else {}
    batches = [[i] for i in range(len(tensors))]
    if entry.calibrated and len(tensors) > 1:
        batches.append(list(range(len(tensors))))
    for number, batch in enumerate(batches):
        outputs, detections = side.run(model, entry, [tensors[i] for i in batch], options.limit)
        for key, value in outputs.items():
            arrays[f"{number}/raw/{key}"] = sample(value, options.limit, key)
        for i, found in zip(batch, detections):
            arrays |= {f"{number}/{i}/{key}": value for key, value in found.items()}
    meta = {
        "name": name,
        "seed": options.seed,
        "shapes": {key: value.shape for key, value in state.items()},
        "images": titles,
        "batches": batches,
        "edges": options.edges,
        "limit": options.limit,
        "versions": side.versions,
    }
    if not options.golden:
        arrays |= {f"image/{i}": value for i, value in enumerate(images)}
        torch.save(side.published(state, entry), options.out / f"{name}.pth")
    save = np.savez_compressed if options.golden else np.savez
    save(options.out / f"{name}.npz", meta=json.dumps(meta), **arrays)


def prepare(array, entry):
    """An image as the model takes it: detectors in 0..1, as their first step is to normalise it."""
    tensor = torch.from_numpy(array).permute(2, 0, 1) / 255
    return tensor if entry.calibrated else normalize(tensor, IMAGENET_MEAN, IMAGENET_STD)


def build(entry, edges):
    """torchvision's model in inference, with the epsilon that it sets when it loads published weights."""
    if not entry.calibrated:
        keywords = dict(entry.keywords)
        return torchvision.models.get_model(entry.there, weights=None, **keywords).eval()
    sides = {} if edges is None else {"min_size": edges[0], "max_size": edges[1]}
    model = torchvision.models.get_model(entry.there, weights=None, weights_backbone=None, **sides)
    # SSD's backbones are built with the epsilon of their weights.
    for module in model.backbone.body.modules() if hasattr(model.backbone, "body") else ():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = entry.norm_epsilon
    return model.eval()


def load(model, state):
    """Fill the model, strictly."""
    model.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in state.items()})


def run(model, entry, tensors, limit=None):
    """Run the model on a batch.

    Returns:
        Outputs of the entry's modules, {name: array}, channels last; and of a detector for each image
        {"boxes", "scores", "labels", ...}, arrays too.
    """
    seen, hooks = {}, []
    for name, path in (entry.modules | (SECOND_STAGE if entry.two_stages else {})).items():
        keep = keeper(seen, name)
        hooks.append(model.get_submodule(path).register_forward_hook(keep))
    detections = model(tensors if entry.calibrated else torch.stack(tensors))
    for hook in hooks:
        hook.remove()
    outputs = {}
    for name in entry.modules:
        outputs |= flat(name, seen[name])
    if not entry.calibrated:
        return outputs, []
    found = [_image(detection) for detection in detections]
    if entry.two_stages:
        proposals, _ = seen["proposals"]
        logits = seen["class_logits"].split([len(boxes) for boxes in proposals])
        for rows, *image in zip(found, proposals, logits, seen["regions"][0]):
            rows |= _second_stage(*image, limit)
    return outputs, found


def keeper(seen, name):
    def keep(module, inputs, result):
        seen[name] = copy.deepcopy(result)  # torchvision writes into its own results

    return keep


def _image(detection):
    """Detections of an image, as they are compared."""
    found = {key: detection[key].numpy() for key in ("boxes", "scores", "labels")}
    if "masks" in detection:
        found["pasted"] = np.packbits(detection["masks"].numpy() > 0.5)
    if "keypoints" in detection:
        found["keypoints"] = detection["keypoints"][..., :2].numpy()
    return found


def _second_stage(proposals, logits, regions, limit):
    """Proposals of an image, their logits or, with a limit, every n-th's, and masks as they were drawn."""
    logits = logits[:: step_of(logits.numel(), limit)]
    found = {"proposals": proposals.numpy(), "class_logits": logits.numpy()}
    return found | ({"masks": regions["masks"][:, 0].numpy()} if "masks" in regions else {})


def flat(name, result):
    """{name: array} of a module's result, a container's entries as "name/key"."""
    if isinstance(result, torch.Tensor):
        result = result.permute(0, 2, 3, 1) if result.ndim == 4 else result
        return {name: result.contiguous().numpy()}
    entries = result.items() if isinstance(result, dict) else enumerate(result)
    return {k: v for key, entry in entries for k, v in flat(f"{name}/{key}", entry).items()}


def calibrate(model, entry, state, tensors):
    """Spread the heads' outputs over the score threshold; changes model and state.

    Random heads answer alike everywhere. Every channel gets mean zero over the first image, and those of
    `entry.confident` then a common bias: `CONFIDENT` logits pass the threshold in the dullest image.

    Returns:
        {"bias/KEY": array, "scale/KEY": factor} of what was changed.
    """
    changed = {}
    for deviations in entry.calibrated:
        # The others tell only of the dullest image.
        images = [
            _rows(model, deviations, tensor)
            for tensor in (tensors if entry.confident else tensors[:1])
        ]
        for module, deviation in deviations.items():
            weight, bias = f"{module}.weight", f"{module}.bias"
            channels = [rows[module] for rows in images]
            mean = channels[0].mean(axis=0, dtype=np.float64)
            scale = deviation / channels[0].std(axis=0, dtype=np.float64).mean()
            level = 0.0
            if module == entry.confident:
                threshold = np.log(model.score_thresh / (1 - model.score_thresh))
                ranked = [np.sort((c - mean) * scale, axis=None)[::-1] for c in channels]
                dullest = min(ranked, key=lambda values: values[CONFIDENT])
                level = threshold - dullest[CONFIDENT - 1 : CONFIDENT + 1].mean()  # on none of them
            new_bias = np.float32(level - scale * (mean - state[bias]))
            changed |= {f"scale/{weight}": np.float32(scale), f"bias/{bias}": new_bias}
            state[weight] *= np.float32(scale)
            state[bias] = new_bias
        load(model, state)
    return changed


def _rows(model, modules, tensor):
    """{module: (N, C)}: all that convolutions or dense layers give for one image."""
    rows = {module: [] for module in modules}

    def keep(module):
        return lambda _, inputs, result: rows[module].append(
            result.movedim(1, -1).flatten(0, -2).numpy()
        )

    hooks = [model.get_submodule(m).register_forward_hook(keep(m)) for m in modules]
    model([tensor])
    for hook in hooks:
        hook.remove()
    return {module: np.concatenate(parts) for module, parts in rows.items()}


def published(state, entry):
    """The state dict as the published file has it."""
    if not entry.old_names:
        return {key: torch.from_numpy(value) for key, value in state.items()}
    old = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        key = re.sub(r"(fpn\.(?:inner|layer)_blocks\.\d+)\.0\.", r"\1.", key)
        key = re.sub(r"(rpn\.head\.conv)\.0\.0\.", r"\1.", key)
        key = re.sub(r"(mask_head)\.(\d)\.0\.", lambda m: f"{m[1]}.mask_fcn{int(m[2]) + 1}.", key)
        key = re.sub(r"(_head\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", key)
        old[key] = torch.from_numpy(value)
    return old


TORCHVISION = Side(
    "torchvision",
    build,
    prepare,
    run,
    published,
    {"torch": torch.__version__, "torchvision": torchvision.__version__},
)

if __name__ == "__main__":
    main(TORCHVISION)
