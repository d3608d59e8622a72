"""From a trained model to a shipped one: weights in float16 and the manifest that describes them.

    python -m kerasdet.zoo.pack RUN --name NAME --card card.json --metrics metrics.json

`card.json` holds the fields of a manifest that no program can know ("paper", "data", "training",
"evaluation" and the weights' "licence"), `metrics.json` is what `kerasdet evaluate --out` writes.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from kerasdet.files import atomic_write, save_json
from kerasdet.zoo.manifest import METRICS, SCHEMA, validate
from kerasdet.zoo.presets import load
from kerasdet.zoo.verify import sha256
from kerasdet.zoo.weights import save_weights_float16

CARD = ("paper", "data", "training", "evaluation", "licence")


def pack(model, name, card, metrics, folder):
    """Write `folder/weights/NAME.weights.h5` and `folder/NAME.json`.

    The precision is left out of the config, so that the rebuilt model follows its user's policy.

    Args:
        model: a trained detector.
        name: lower-case letters, digits and underscores.
        card: dict with the fields "paper", "data", "training" and "evaluation" as
            `kerasdet.zoo.manifest` has them, and "licence", the weights'.
        metrics: dict of the measured numbers; those of COCO are kept, rounded to four digits.
        folder: where the manifests lie.

    Returns:
        The manifest, a dict.

    Raises:
        ValueError: a field is missing or wrong; names it. Nothing is written then.
        OSError: a file cannot be written.
    """
    missing, unknown = sorted(set(CARD) - set(card)), sorted(set(card) - set(CARD))
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


def _manifest(model, name, card, metrics, weights_facts):
    config = _without_precision(model.get_config()) | {"name": name}
    channels = len(model.backbone.mean)
    return {
        "schema": SCHEMA,
        "name": name,
        "task": "detection",
        "paper": card["paper"],
        "class": type(model).__name__,
        "parameters": int(model.count_params()),
        "classes": list(model.class_names),
        "input": {
            "channels": channels,
            "order": "RGB" if channels == 3 else "as trained",
            "range": [0, 255],
        },
        "weights": {**weights_facts, "licence": card["licence"]},
        "data": card["data"],
        "training": card["training"],
        "evaluation": card["evaluation"],
        # None: the data has no object of that size.
        "metrics": {k: round(float(metrics[k]), 4) for k in METRICS if metrics.get(k) is not None},
        "config": json.loads(json.dumps(config)),  # tuples as lists: as it will be read
    }


def _without_precision(config):
    if isinstance(config, dict):
        return {k: _without_precision(v) for k, v in config.items() if k != "dtype"}
    if isinstance(config, (list, tuple)):
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
    manifest = pack(load(Path(given.run)), given.name, card, measured["coco"], given.out)
    print(f"{given.out}/{given.name}.json: {manifest['weights']['bytes'] / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
