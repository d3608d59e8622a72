"""From a name or a path to a model: the shipped weights, saved `.keras` files and run folders."""

import difflib
from pathlib import Path

from kerasdet.zoo.manifest import FOLDER, manifest_paths, read_manifest
from kerasdet.zoo.verify import verify, verify_archive

_REINSTALL = "Reinstall it with `pip install --force-reinstall --no-deps kerasdet`."


RUN_FILES = ("best.keras", "last.keras", "model.keras")  # of a run's folder, by preference


def list_models():
    """List the weights that come with the package.

    Returns:
        Their names, sorted; `info` and `summary` tell more of each.
    """
    return list(manifest_paths(FOLDER))


def summary(name):
    """Tell about one shipped weight what fits a line of a table.

    Args:
        name: one of `list_models()`.

    Returns:
        Dict with the keys name, task, paper, class, parameters, AP, AP50 (None if not measured),
        data, licence and bytes (size of the weights file).

    Raises:
        ValueError: unknown name; suggests the nearest ones.
    """
    manifest = info(name)
    paper, metrics, weights = manifest["paper"], manifest["metrics"], manifest["weights"]
    return {
        "name": manifest["name"],
        "task": manifest["task"],
        "paper": f"{paper['title']} (arXiv {paper['arxiv']})",
        "class": manifest["class"],
        "parameters": manifest["parameters"],
        "AP": metrics["AP"],
        "AP50": metrics.get("AP50"),
        "data": manifest["data"]["name"],
        "licence": weights["licence"],
        "bytes": weights["bytes"],
    }


def info(name):
    """Tell all that is known about one shipped weight.

    Args:
        name: one of `list_models()`.

    Returns:
        Its manifest, a dict; the fields stand in `kerasdet.zoo.manifest.FIELDS`.

    Raises:
        ValueError: unknown name; suggests the nearest ones.
    """
    paths = manifest_paths(FOLDER)
    if name not in paths:
        near = difflib.get_close_matches(str(name), paths, n=3, cutoff=0.4) or list(paths)
        raise ValueError(
            f"Unknown model {name!r}. Nearest names: {', '.join(near) or 'none is shipped'}. "
            "`kerasdet list` shows all; a saved model is given by the path of its .keras file."
        )
    return read_manifest(paths[name])


def build(name, **overrides):
    """Rebuild a shipped model with its weights.

    Args:
        name: one of `list_models()`.
        **overrides: arguments of the model's constructor to use instead of those it was trained
            with, e.g. `score_threshold=0.3`; those that change the weights' shapes do not fit.

    Returns:
        The model, built, not compiled.

    Raises:
        ValueError: unknown name or argument, a number of classes that is not the weights', or a
            weights file that is cut short or altered, which is then not read.
    """
    from kerasdet import models
    from kerasdet.zoo.weights import load_weights

    manifest = info(name)
    _check_overrides(manifest, overrides)
    path = FOLDER / manifest["weights"]["file"]
    verify(path, manifest["weights"]["sha256"], manifest["weights"]["bytes"], fix=_REINSTALL)
    model = getattr(models, manifest["class"]).from_config(
        manifest["config"] | {key: _plain(value) for key, value in overrides.items()}
    )
    return load_weights(model, path)


def load(name_or_path):
    """Load a detector: a shipped one by its name, or one's own by its path.

    Args:
        name_or_path: a name of `list_models()`, a `.keras` file, or the folder of a training run,
            which holds `best.keras` or `last.keras`. A str that is a shipped name means that.

    Returns:
        The model, built, not compiled.

    Raises:
        ValueError: unknown name, or a file that is cut short, altered or no detector.
        FileNotFoundError: the path does not exist, or the folder holds no model.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and name_or_path in manifest_paths(FOLDER):
        return build(name_or_path)
    if path.is_dir():
        path = _model_of_run(path)
    if path.is_file():
        return _load_file(path)
    looks_like_path = path.suffix == ".keras" or len(path.parts) > 1
    if looks_like_path or not isinstance(name_or_path, str):
        raise FileNotFoundError(f"There is no model file {path}.")
    return info(name_or_path)  # raises, with the nearest names


def _model_of_run(folder):
    for name in RUN_FILES:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"The folder {folder} holds none of {', '.join(RUN_FILES)}: give a .keras file, or the "
        "folder of a training run that has finished an epoch."
    )


def _load_file(path):
    if path.suffix != ".keras":
        raise ValueError(f"{path} is not a .keras file; give one that model.save has written.")
    verify_archive(path)
    import keras

    from kerasdet import models  # registers the classes that the file names

    model = keras.saving.load_model(path, compile=False)
    if not isinstance(model, models.Detector):
        raise ValueError(f"{path} holds a {type(model).__name__}, not a kerasdet detector.")
    return model


def _check_overrides(manifest, overrides):
    name, classes = manifest["name"], manifest["classes"]
    unknown = sorted(overrides.keys() - manifest["config"].keys())
    if unknown:
        known = ", ".join(sorted(manifest["config"]))
        raise ValueError(f"{name} has no argument {unknown[0]!r}; it has {known}.")
    asked = overrides.get("num_classes", len(overrides.get("class_names") or classes))
    if asked != len(classes):
        raise ValueError(
            f"{name}: its weights have {len(classes)} classes ({', '.join(classes[:5])}"
            f"{', ...' if len(classes) > 5 else ''}), not {asked}. Leave num_classes and "
            f"class_names out; to train on other classes, build a new {manifest['class']} with "
            f"backbone=kerasdet.load({name!r}).backbone."
        )


def _plain(value):
    """A part given as an object, in the form that a config has it."""
    import keras

    return keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value
