"""torchvision's side: lively weights in its models, what they give for pictures, one file per model.

Runs where PyTorch and torchvision are, and nothing of this package need be. Started by `run.py`.
For each model NAME the folder receives NAME.pth, a state dict as published files have it, and NAME.npz:

    meta                    JSON: name, seed, shapes of the state dict, pictures, batches, settings
    picture/I               (H, W, 3) uint8
    bias/KEY, scale/KEY     what calibration changed in the state dict
    B/raw/OUTPUT            a module's output for batch B, channels last (`lively.sample` of it)
    B/I/boxes, /scores, /labels    detections of picture I in batch B

With `--golden` no .pth and no pictures are written: both follow from the seed.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.transforms.functional import normalize

from tests.parity.lively import lively_state, picture, sample
from tests.parity.models import MODELS, in_order

CONFIDENT = 500  # (anchor, class) pairs over the score threshold, at least, in every picture
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main():
    """Write the files of the models that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", nargs="+", default=["480x640", "640x427", "333x500", "800x1088"])
    parser.add_argument("--pictures", type=Path, help="folder of pictures to take instead")
    parser.add_argument("--edges", nargs=2, type=int, default=[800, 1333], help="resize detectors")
    parser.add_argument("--limit", type=int, help="values of each output to keep; default all")
    parser.add_argument("--golden", action="store_true", help="leave out what follows from seeds")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_grad_enabled(False)
    titles, pictures = load_pictures(options)
    for name in options.models:
        write(name, titles, pictures, options)
        print(f"{name}: written", flush=True)


def load_pictures(options):
    """Titles, a file's name or HxW of a drawn picture, and pictures (H, W, 3) uint8."""
    if options.pictures:
        files = sorted(f for f in options.pictures.iterdir() if f.suffix in (".jpg", ".png"))
        pictures = [np.array(Image.open(file).convert("RGB")) for file in files]
        return [file.name for file in files], pictures
    sizes = [map(int, size.split("x")) for size in options.sizes]
    return options.sizes, [picture(*size, options.seed + i) for i, size in enumerate(sizes)]


def write(name, titles, pictures, options):
    """Build the model, run it on each picture alone and on all together, write its files."""
    entry = MODELS[name]
    model = build(entry, options.edges)
    state = lively_state(
        {key: tuple(value.shape) for key, value in model.state_dict().items()},
        options.seed,
        dead_channels=entry.norm_epsilon == 0,
    )
    load(model, state)
    tensors = [_tensor(array, entry) for array in pictures]
    arrays = calibrate(model, entry, state, tensors) if entry.calibrated else {}
    batches = [[i] for i in range(len(tensors))]
    if entry.calibrated and len(tensors) > 1:
        batches.append(list(range(len(tensors))))
    for number, batch in enumerate(batches):
        outputs, detections = run(model, entry, [tensors[i] for i in batch])
        for key, value in outputs.items():
            value = in_order(key, value, entry)
            arrays[f"{number}/raw/{key}"] = sample(value, options.limit, key)
        for i, found in zip(batch, detections):
            arrays |= {f"{number}/{i}/{key}": value.numpy() for key, value in found.items()}
    meta = {
        "name": name,
        "seed": options.seed,
        "shapes": {key: value.shape for key, value in state.items()},
        "pictures": titles,
        "batches": batches,
        "edges": options.edges,
        "limit": options.limit,
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
    }
    if not options.golden:
        arrays |= {f"picture/{i}": value for i, value in enumerate(pictures)}
        torch.save(published(state, entry), options.out / f"{name}.pth")
    save = np.savez_compressed if options.golden else np.savez
    save(options.out / f"{name}.npz", meta=json.dumps(meta), **arrays)


def _tensor(array, entry):
    """A picture as the model takes it: detectors in 0..1, as their first step is to normalise it."""
    tensor = torch.from_numpy(array).permute(2, 0, 1) / 255
    return tensor if entry.calibrated else normalize(tensor, IMAGENET_MEAN, IMAGENET_STD)


def build(entry, edges):
    """torchvision's model in inference, with the epsilon that it sets when it loads published weights."""
    if not entry.calibrated:
        return torchvision.models.get_model(entry.torchvision, weights=None).eval()
    model = torchvision.models.get_model(
        entry.torchvision,
        weights=None,
        weights_backbone=None,
        min_size=edges[0],
        max_size=edges[1],
    )
    for module in model.backbone.body.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = entry.norm_epsilon
    return model.eval()


def load(model, state):
    """Fill the model, strictly."""
    model.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in state.items()})


def run(model, entry, tensors):
    """Outputs of the entry's modules, NumPy, channels last; and the detections of a detector."""
    outputs, hooks = {}, []
    for name, path in entry.modules.items():
        keep = _keeper(outputs, name)
        hooks.append(model.get_submodule(path).register_forward_hook(keep))
    result = model(tensors if entry.calibrated else torch.stack(tensors))
    for hook in hooks:
        hook.remove()
    return outputs, result if entry.calibrated else []


def _keeper(outputs, name):
    def keep(module, inputs, result):
        outputs.update(_flat(name, result))

    return keep


def _flat(name, result):
    """{name: array} of a module's result, a container's entries as "name/key"."""
    if isinstance(result, torch.Tensor):
        result = result.permute(0, 2, 3, 1) if result.ndim == 4 else result
        return {name: result.contiguous().numpy()}
    entries = result.items() if isinstance(result, dict) else enumerate(result)
    return {k: v for key, entry in entries for k, v in _flat(f"{name}/{key}", entry).items()}


def calibrate(model, entry, state, tensors):
    """Spread the heads' outputs over the score threshold; changes model and state.

    Random heads answer alike everywhere. Every channel gets mean zero over the first picture, and logits then
    a common bias by which `CONFIDENT` of them pass the threshold in the dullest picture.

    Returns:
        {"bias/KEY": array, "scale/KEY": factor} of what was changed.
    """
    outputs = [run(model, entry, [tensor])[0] for tensor in tensors]
    changed = {}
    for name, (module, deviation) in entry.calibrated.items():
        weight, bias = f"{module}.weight", f"{module}.bias"
        channels = [output[name].reshape(-1, len(state[bias])) for output in outputs]
        mean = channels[0].mean(axis=0, dtype=np.float64)
        scale = deviation / channels[0].std(axis=0, dtype=np.float64).mean()
        level = 0.0
        if "logits" in name:
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


def published(state, entry):
    """The state dict as the published file has it."""
    if not entry.old_names:
        return {key: torch.from_numpy(value) for key, value in state.items()}
    old = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        key = re.sub(r"(fpn\.(?:inner|layer)_blocks\.\d+)\.0\.", r"\1.", key)
        key = re.sub(r"(_head\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", key)
        old[key] = torch.from_numpy(value)
    return old


if __name__ == "__main__":
    main()
