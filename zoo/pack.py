"""From a trained model to a shipped one: weights in float16 and the manifest that describes them.

    python -m kerasdet.zoo.pack RUN --name NAME --card card.json --metrics metrics.json

`card.json` holds the fields of a manifest that a program cannot know: "paper", "data", "training",
"evaluation", the "licence" of the weights and, for images that are not RGB, "order", the order of
their channels. `metrics.json` is written by `kerasdet evaluate --out`.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from kerasdet.files import atomic_write, save_json
from kerasdet.zoo.manifest import METRICS, SCHEMA, validate
from kerasdet.zoo.models import load
from kerasdet.zoo.verify import sha256
from kerasdet.zoo.weights import save_weights_float16

CARD = ("paper", "data", "training", "evaluation", "licence")
# Names of the tables of average precision from `kerasdet evaluate --out`: the prefix of their figures.
TABLES = {"coco": "", "coco_masks": "mask_", "coco_keypoints": "keypoint_"}


def pack(model, name, card, metrics, folder):
    """Write `folder/weights/NAME.weights.h5` and `folder/NAME.json`.

    The precision is left out of the config, so that the rebuilt model follows the user's policy.

    Args:
        model: a trained model.
        name: lower-case letters, digits and underscores.
        card: dict with the fields "paper", "data", "training" and "evaluation" as in
            `kerasdet.zoo.manifest`, "licence" of the weights, and "order" of the channels, which may be
            left out for RGB images.
        metrics: dict of the measured numbers; those of the model's task are kept, to four digits.
        folder: folder of the manifests.

    Returns:
        The manifest, a dict.

    Raises:
        ValueError: a field is missing or wrong; the message names it. Nothing is written then.
        OSError: a file cannot be written.
    """
    missing, unknown = sorted(set(CARD) - set(card)), sorted(set(card) - {*CARD, "order"})
    if missing or unknown:
        raise ValueError(f"The card lacks {missing} and has the unknown fields {unknown}.")
    folder = Path(folder)
    path, file = folder / f"{name}.json", f"weights/{name}.weights.h5"
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "model.weights.h5"
        save_weights_float16(model, weights)
        facts = {"file": file, "sha256": sha256(weights), "bytes": weights.stat().st_size}
        manifest = _manifest(model, name, card, metrics, facts)
        validate(manifest, path)
        with atomic_write(folder / file) as target:
            shutil.copyfile(weights, target)
    save_json(path, manifest, indent=2)
    return manifest


def described(model):
    """Return a model's config in the form of a manifest: as JSON is read, without the precision.

    Args:
        model: a built model.

    Returns:
        Dict, from which `kerasdet.zoo.models.empty_model` builds the model.
    """
    return _without_precision(json.loads(json.dumps(model.get_config())))


def _manifest(model, name, card, metrics, weights_facts):
    task = _task(model)
    mean = model.mean if hasattr(model, "mean") else model.backbone.mean
    order = card.get("order", "RGB" if len(mean) == 3 else None)
    if order is None:
        raise ValueError(
            f"The card lacks 'order', but the images of this {type(model).__name__} have "
            f"{len(mean)} channels: give their order, such as 'FLAIR, T1, T1c, T2'."
        )
    # A figure of None: the data has nothing to measure it on.
    figures = {k: metrics[k] for k in METRICS[task] if metrics.get(k) is not None}
    classes = getattr(model, "class_names", None) or range(getattr(model, "num_classes", 0))
    return {
        "schema": SCHEMA,
        "name": name,
        "task": task,
        "paper": card["paper"],
        "class": type(model).__name__,
        "parameters": int(model.count_params()),
        "classes": [str(value) for value in classes],
        "input": {"channels": len(mean), "order": order, "range": [0, 255]},
        "weights": {**weights_facts, "licence": card["licence"]},
        "data": card["data"],
        "training": card["training"],
        "evaluation": card["evaluation"],
        "metrics": {k: round(float(value), 4) for k, value in figures.items()},
        "config": described(model) | {"name": name},
    }


def _task(model):
    from kerasdet.backbones import Backbone, ImageClassifier

    if isinstance(model, Backbone):
        return "features"
    if isinstance(model, ImageClassifier):
        return "classification"
    return "segmentation" if "semantic" in model.TARGETS else "detection"


def _figures(measured):
    """Return figures by their names in a manifest, from the output of `kerasdet evaluate --out`."""
    figures = {k: v for k, v in measured.items() if isinstance(v, int | float)}
    for table, prefix in TABLES.items():
        figures |= {f"{prefix}{k}": v for k, v in measured.get(table, {}).items()}
    return figures


def _without_precision(config):
    if isinstance(config, dict):
        return {k: _without_precision(v) for k, v in config.items() if k != "dtype"}
    if isinstance(config, list):
        return [_without_precision(value) for value in config]
    return config


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run's folder or a .keras file")
    parser.add_argument("--name", required=True)
    parser.add_argument("--card", required=True, help=f"JSON: {', '.join(CARD)}")
    parser.add_argument("--metrics", required=True, help="JSON of `kerasdet evaluate --out`")
    parser.add_argument("--out", default="zoo", help="folder of the manifests")
    given = parser.parse_args(arguments)
    card, measured = (
        json.loads(Path(path).read_text(encoding="utf-8")) for path in (given.card, given.metrics)
    )
    manifest = pack(load(Path(given.run)), given.name, card, _figures(measured), given.out)
    print(f"{given.out}/{given.name}.json: {manifest['weights']['bytes'] / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
