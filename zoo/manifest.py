"""Manifests: one JSON file per model with weights: what it is, where it comes from, how good it is.

A manifest has the fields in `COMMON`, and those in `SHIPPED` (its weights are beside it) or
`PUBLISHED` (its weights are downloaded and converted). It may have fields in `OPTIONAL`, and no others.
Its `config` is the complete result of the model's `get_config`; a model is built from nothing else.
"""

import json
import re
from pathlib import Path

from kerasdet.zoo.origins import origin_names

SCHEMA = 3
FOLDER = Path(__file__).parent
PAPER_SOURCES = ("arxiv", "doi", "url")
OLD_HASHES = ("sha1", "md5")  # in place of a SHA-256, where nobody has published one

_BOXES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
# The names of figures by task; a table shows the first. All are shares from 0 to 1.
METRICS = {
    "detection": (
        *_BOXES,
        *(f"{part}_{name}" for part in ("mask", "keypoint") for name in _BOXES),
        *("VOC07_mAP", "VOC12_mAP"),  # 11 points; all points
    ),
    "segmentation": (
        *("mIU", "pixel_accuracy", "mean_accuracy", "frequency_weighted_IU"),
        *("dice", "sensitivity", "specificity"),
    ),
    "classification": ("top1", "top5"),
    "features": (),
}


def _matches(pattern):
    return lambda value: re.fullmatch(pattern, value) is not None


def _positive(value):
    return value > 0


def _different_names(value):
    if isinstance(value, str):
        return _class_list(value).is_file()
    return len(value) == len(set(map(str, value))) and all(isinstance(v, str) for v in value)


def _figures(value):
    return all(type(v) in (int, float) and -1 <= v <= 1 for v in value.values())


def _origin(value):
    return value in origin_names()


def _parts(value):
    fields = ("url", "sha256", "bytes")
    rules = [(field, *PUBLISHED[f"weights.{field}"][:2]) for field in fields]
    return value and all(
        isinstance(part, dict)
        and part.keys() == set(fields)
        and all(isinstance(part[field], kind) and test(part[field]) for field, kind, test in rules)
        for part in value
    )


# field: (type, test, required value)
COMMON = {
    "schema": (int, lambda value: value == SCHEMA, f"{SCHEMA}, the format this version reads"),
    "name": (str, _matches(r"[a-z0-9_]+"), "lower-case letters, digits and underscores"),
    "task": (str, lambda value: value in METRICS, "one of " + ", ".join(METRICS)),
    "paper.title": (str, str.strip, "a text"),
    "class": (
        str,
        str.isidentifier,
        "the name of a class of kerasdet.models or kerasdet.backbones",
    ),
    "config": (dict, bool, "what get_config of the model gives"),
    "parameters": (int, _positive, "a positive count"),
    "classes": (
        (list, str),
        _different_names,
        "a list of different class names, empty for a backbone, or the name of a list in zoo/classes",
    ),
    "input.channels": (int, _positive, "a positive count"),
    "input.order": (str, str.strip, "the order of the channels, such as RGB"),
    "input.range": (list, lambda value: len(value) == 2, "[lowest, highest] value of a pixel"),
    "weights.licence": (str, str.strip, "a text"),
}
SHIPPED = {
    "weights.file": (str, _matches(r"weights/[a-z0-9_]+\.weights\.h5"), "weights/NAME.weights.h5"),
    "weights.sha256": (str, _matches(r"[0-9a-f]{64}"), "64 hexadecimal digits"),
    "weights.bytes": (int, _positive, "the size of the file"),
    "data.name": (str, str.strip, "a text"),
    "data.train": (str, str.strip, "what was trained on"),
    "data.licence": (str, str.strip, "a text"),
    "training.command": (str, str.strip, "the command that trained it"),
    "training.minutes": ((int, float), _positive, "wall-clock minutes"),
    "evaluation.data": (str, str.strip, "what was measured on"),
    "evaluation.command": (str, str.strip, "the command that prints the metrics"),
    "metrics": (dict, _figures, "figures in 0 to 1 (-1: none)"),
}
PUBLISHED = {
    "input.preparation": (str, str.strip, "what is done to an image before the model has it"),
    "weights.url": (str, _matches(r"https?://\S+"), "where the file is published"),
    "weights.sha256": (str, _matches(r"[0-9a-f]{8,64}"), "its hash, or the published first digits"),
    "weights.bytes": (
        (int, type(None)),
        lambda value: value is None or value > 0,
        "its size or null",
    ),
    "weights.mebibytes": (
        (int, float, type(None)),
        lambda value: value is None or value > 0,
        "the size of all files as published, in MiB, or null; of a member of an archive, that of its numbers",
    ),
    "weights.format": (str, _matches(r"[a-z0-9_]+"), "the kind of file, such as torch"),
    "conversion": (str, _origin, "the name of a file in zoo/origins"),
    "published.data": (str, str.strip, "what was measured on"),
    "published.metrics": (dict, _figures, "the published figures, if any, in 0 to 1"),
    "published.source": (str, str.strip, "where they are published"),
    "metrics": (
        (dict, type(None)),
        lambda value: value is None or _figures(value),
        "null until measured, else figures in 0 to 1 (-1: none)",
    ),
}
OPTIONAL = {
    "paper.arxiv": (
        str,
        _matches(r"\d{4}\.\d{4,5}(v\d+)?"),
        "an arXiv number such as 1708.02002",
    ),
    "paper.doi": (str, _matches(r"10\.\d{4,9}/\S+"), "a DOI such as 10.1109/5.771073"),
    "paper.url": (str, _matches(r"https?://\S+"), "an address"),
    "weights.sha1": (str, _matches(r"[0-9a-f]{40}"), "40 hexadecimal digits"),
    "weights.md5": (str, _matches(r"[0-9a-f]{32}"), "32 hexadecimal digits"),
    "weights.member": (str, str.strip, "the weights' name in the archive at the URL"),
    "weights.member_sha1": (str, _matches(r"[0-9a-f]{40}"), "40 hexadecimal digits"),
    "weights.parts": (
        list,
        _parts,
        'more files, a list of {"url": ..., "sha256": ..., "bytes": ...}; bytes may be null',
    ),
}


def manifest_paths(folder=FOLDER):
    """Find the manifests in a folder.

    Args:
        folder: folder of the manifests; by default the package's own.

    Returns:
        Dict from model name to the path of its manifest, sorted by name.
    """
    return {path.stem: path for path in sorted(Path(folder).glob("*.json"))}


def read_manifest(path):
    """Read and validate one manifest.

    Args:
        path: the JSON file.

    Returns:
        Dict, as the tables above describe it; a named list of classes is replaced by its content.

    Raises:
        ValueError: not JSON, or a missing, unknown or wrong field; the message names file, field and value.
    """
    path = Path(path)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    validate(manifest, path)
    if isinstance(manifest["classes"], str):
        names = _class_list(manifest["classes"])
        manifest["classes"] = json.loads(names.read_text(encoding="utf-8"))
    return manifest


def is_published(manifest):
    """Tell whether a manifest's weights are downloaded; otherwise they are beside it."""
    return "url" in manifest["weights"]


def validate(manifest, path):
    """Check a manifest against the tables of fields and against its own file name.

    Args:
        manifest: the dict.
        path: the manifest's file, whose stem is the model's name.

    Raises:
        ValueError: a field is wrong; the message names file, field, value and the fix.
    """
    found = _flatten(manifest, path)
    fields = COMMON | (PUBLISHED if "weights.url" in found else SHIPPED)
    fields |= {field: rule for field, rule in OPTIONAL.items() if field in found}
    if "weights.url" in found and any(f"weights.{kind}" in found for kind in OLD_HASHES):
        del fields["weights.sha256"]
    for field, (kind, test, asked) in fields.items():
        if field not in found:
            raise ValueError(f"{path}: the field {field!r} is missing; give {asked}.")
        value = found.pop(field)
        if not isinstance(value, kind) or isinstance(value, bool) or not test(value):
            raise ValueError(f"{path}: the field {field!r} is {value!r}; give {asked}.")
    if found:
        field = min(found)
        raise ValueError(f"{path}: unknown field {field!r}; remove it or correct its name.")
    if not any(source in manifest["paper"] for source in PAPER_SOURCES):
        raise ValueError(
            f"{path}: the field 'paper' names no source; give at least one of "
            f"{', '.join(f'paper.{source}' for source in PAPER_SOURCES)}."
        )
    _check_figures(manifest, path)
    _check_agreement(manifest, Path(path))


def _check_figures(manifest, path):
    """Check that figures belong to the task, and that shipped weights have at least one."""
    task, published = manifest["task"], manifest.get("published", {"metrics": {}})
    allowed = METRICS[task]
    fields = {"metrics": manifest["metrics"] or {}, "published.metrics": published["metrics"]}
    for field, figures in fields.items():
        for name in figures.keys() - set(allowed):
            raise ValueError(
                f"{path}: the field {field!r} is {figures!r}, but {name!r} is not a figure of {task}; give "
                f"{'any of ' + ', '.join(allowed) if allowed else 'none'}."
            )
    if allowed and not is_published(manifest) and not manifest["metrics"]:
        raise ValueError(
            f"{path}: the field 'metrics' is {{}}; give at least one of {', '.join(allowed)}."
        )


def _check_agreement(manifest, path):
    """Check that fields agree with each other and with the file's name."""
    name, config, classes = manifest["name"], manifest["config"], manifest["classes"]
    agreements = {"name": (name, path.stem)}
    if not is_published(manifest):
        file = f"weights/{name}.weights.h5"
        agreements["weights.file"] = (manifest["weights"]["file"], file)
    if isinstance(classes, list):
        agreements["classes"] = (classes, list(config.get("class_names") or classes))
        agreements["config.num_classes"] = (config.get("num_classes"), len(classes) or None)
    for field, (value, wanted) in agreements.items():
        if value != wanted:
            raise ValueError(f"{path}: the field {field!r} is {value!r} but should be {wanted!r}.")


def _class_list(name):
    return FOLDER / "classes" / f"{name}.json"


def _flatten(manifest, path):
    """Return the manifest's values by dotted field name; dicts that are fields themselves stay whole."""
    if not isinstance(manifest, dict):
        raise ValueError(
            f"{path}: a manifest must be a JSON object, not {type(manifest).__name__}."
        )
    flat = {}
    for key, value in manifest.items():
        if isinstance(value, dict) and key not in COMMON | SHIPPED:
            flat |= {f"{key}.{inner}": content for inner, content in value.items()}
        else:
            flat[key] = value
    return flat
