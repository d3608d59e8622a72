"""Manifests: one JSON file per weight: what it is, where it comes from, what it reaches.

`FIELDS` below is the format. A manifest has these fields and no others.
"""

import json
import re
from pathlib import Path

SCHEMA = 1
FOLDER = Path(__file__).parent
TASKS = ("detection", "segmentation")

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")


def _matches(pattern):
    return lambda value: re.fullmatch(pattern, value) is not None


def _positive(value):
    return value > 0


def _different_names(value):
    return 0 < len(value) == len(set(map(str, value))) and all(isinstance(v, str) for v in value)


def _metrics(value):
    numbers = all(type(v) in (int, float) and -1 <= v <= 1 for v in value.values())
    return "AP" in value and numbers and set(value) <= set(METRICS)


# field: (type, test, what is asked)
FIELDS = {
    "schema": (int, lambda value: value == SCHEMA, f"{SCHEMA}, the format this version reads"),
    "name": (str, _matches(r"[a-z0-9_]+"), "lower-case letters, digits and underscores"),
    "task": (str, lambda value: value in TASKS, "one of " + ", ".join(TASKS)),
    "paper.title": (str, str.strip, "a text"),
    "paper.arxiv": (str, _matches(r"\d{4}\.\d{4,5}(v\d+)?"), "an arXiv number such as 1708.02002"),
    "class": (str, str.isidentifier, "the name of a class of kerasdet.models"),
    "config": (dict, bool, "what get_config of the model gives"),
    "parameters": (int, _positive, "a positive count"),
    "classes": (list, _different_names, "a list of different class names"),
    "input.channels": (int, _positive, "a positive count"),
    "input.order": (str, str.strip, "the order of the channels, such as RGB"),
    "input.range": (list, lambda value: len(value) == 2, "[lowest, highest] value of a pixel"),
    "weights.file": (str, _matches(r"weights/[a-z0-9_]+\.weights\.h5"), "weights/NAME.weights.h5"),
    "weights.sha256": (str, _matches(r"[0-9a-f]{64}"), "64 hexadecimal digits"),
    "weights.bytes": (int, _positive, "the size of the file"),
    "weights.licence": (str, str.strip, "a text"),
    "data.name": (str, str.strip, "a text"),
    "data.train": (str, str.strip, "what was trained on"),
    "data.licence": (str, str.strip, "a text"),
    "training.command": (str, str.strip, "the command that trained it"),
    "training.minutes": ((int, float), _positive, "wall-clock minutes"),
    "evaluation.data": (str, str.strip, "what was measured on"),
    "evaluation.command": (str, str.strip, "the command that prints the metrics"),
    "metrics": (dict, _metrics, f"AP and any of {', '.join(METRICS)}, in 0 to 1 (-1: none)"),
}


def manifest_paths(folder=FOLDER):
    """Manifests in a folder.

    Args:
        folder: where the manifests lie; the package's own by default.

    Returns:
        Dict from model name to the path of its manifest, sorted by name.
    """
    return {path.stem: path for path in sorted(Path(folder).glob("*.json"))}


def read_manifest(path):
    """Read and validate one manifest.

    Args:
        path: the JSON file.

    Returns:
        Dict, as `FIELDS` describes it.

    Raises:
        ValueError: not JSON, or a field is missing, unknown or wrong; names file, field and value.
    """
    path = Path(path)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    validate(manifest, path)
    return manifest


def validate(manifest, path):
    """Check a manifest against `FIELDS` and against its own file name.

    Args:
        manifest: the dict.
        path: the manifest's file, whose stem is the model's name.

    Raises:
        ValueError: names file, field, value and what is asked.
    """
    found = _flatten(manifest, path)
    for field, (kind, test, asked) in FIELDS.items():
        if field not in found:
            raise ValueError(f"{path}: the field {field!r} is missing; give {asked}.")
        value = found.pop(field)
        if not isinstance(value, kind) or isinstance(value, bool) or not test(value):
            raise ValueError(f"{path}: the field {field!r} is {value!r}; give {asked}.")
    if found:
        field = min(found)
        raise ValueError(f"{path}: unknown field {field!r}; remove it or correct its name.")
    _check_agreement(manifest, Path(path))


def _check_agreement(manifest, path):
    """What one field says must fit what another, or the file's name, says."""
    name, config = manifest["name"], manifest["config"]
    agreements = {
        "name": (name, path.stem),
        "weights.file": (manifest["weights"]["file"], f"weights/{name}.weights.h5"),
        "classes": (manifest["classes"], list(config.get("class_names") or manifest["classes"])),
        "config.num_classes": (config.get("num_classes"), len(manifest["classes"])),
    }
    for field, (value, wanted) in agreements.items():
        if value != wanted:
            raise ValueError(f"{path}: the field {field!r} is {value!r} but should be {wanted!r}.")


def _flatten(manifest, path):
    """The manifest's values by dotted field name; dicts that are themselves fields stay whole."""
    if not isinstance(manifest, dict):
        raise ValueError(f"{path}: a manifest is a JSON object, not {type(manifest).__name__}.")
    flat = {}
    for key, value in manifest.items():
        if isinstance(value, dict) and key not in FIELDS:
            flat |= {f"{key}.{inner}": content for inner, content in value.items()}
        else:
            flat[key] = value
    return flat
