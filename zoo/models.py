"""From a name or a path to a model: shipped and published weights, `.keras` files and run folders.

A manifest is the one description of a published model: whatever builds one builds it here, from the
manifest's `config`.
"""

import contextlib
import copy
import difflib
import hashlib
import tempfile
from pathlib import Path

from kerasdet.zoo import origins
from kerasdet.zoo.manifest import (
    FOLDER,
    PAPER_SOURCES,
    is_published,
    manifest_paths,
    read_manifest,
)
from kerasdet.zoo.overrides import keeps_outputs, overridden
from kerasdet.zoo.verify import digest, published_hash, verify

_REINSTALL = "Reinstall it with `pip install --force-reinstall --no-deps kerasdet`."

# Of the conversion from published files to Keras': with another number they are converted again.
CONVERSION_VERSION = 3

RUN_FILES = ("best.keras", "last.keras", "model.keras")  # of a run's folder, by preference


def list_models():
    """List the models whose weights are shipped or published.

    Returns:
        Their names, sorted; `info` and `summary` tell more about each.
    """
    return list(manifest_paths(FOLDER))


def summary(name):
    """Summarise a listed model for a line of a table.

    Args:
        name: one of `list_models()`.

    Returns:
        Dict with the keys name, task, paper (its title), source (arXiv number, DOI or address), class,
        parameters, metrics (measured here, a dict, empty if nothing is), published (the published
        figures, a dict, empty if there are none), data, licence and bytes (size of the weights, rounded
        where only MiB are published, and four bytes a parameter where no size is).

    Raises:
        ValueError: unknown name; suggests the nearest ones.
    """
    manifest = info(name)
    paper, weights = manifest["paper"], manifest["weights"]
    published = manifest.get("published", {"metrics": {}})
    return {
        "name": manifest["name"],
        "task": manifest["task"],
        "paper": paper["title"],
        "source": next(paper[kind] for kind in PAPER_SOURCES if kind in paper),
        "class": manifest["class"],
        "parameters": manifest["parameters"],
        "metrics": manifest["metrics"] or {},
        "published": published["metrics"],
        "data": published["data"] if is_published(manifest) else manifest["data"]["name"],
        "licence": weights["licence"],
        "bytes": _size(manifest),
    }


def _size(manifest):
    """Bytes of all files of a manifest's weights, as exactly as they are published."""
    weights = manifest["weights"]
    sizes = [file["bytes"] for file in (weights, *weights.get("parts", ()))]
    if None not in sizes:
        return sum(sizes)
    if weights["mebibytes"] is None:
        return 4 * manifest["parameters"]
    return round(weights["mebibytes"] * 2**20)


def info(name):
    """Give all that is known about a listed model.

    Args:
        name: one of `list_models()`.

    Returns:
        Its manifest, a dict; `kerasdet.zoo.manifest` describes the fields.

    Raises:
        ValueError: unknown name; suggests the nearest ones.
    """
    paths = manifest_paths(FOLDER)
    if name not in paths:
        near = difflib.get_close_matches(str(name), paths, n=3, cutoff=0.4) or list(paths)
        raise ValueError(
            f"Unknown model {name!r}. Nearest names: {', '.join(near) or 'none is known'}. "
            "`kerasdet list` shows all; a saved model is given by the path of its .keras file."
        )
    return read_manifest(paths[name])


def build(name, **overrides):
    """Rebuild a model with its weights, which are downloaded if they do not come with the package.

    Args:
        name: one of `list_models()`.
        **overrides: arguments of the model's constructor to use instead of those it was trained
            with, e.g. `score_threshold=0.3`. Another `num_classes`, or other `class_names`, and so with
            keypoints, makes new heads and keeps the parts that the model names in `TRANSFERRED`; a
            backbone's batch normalisation is then frozen, unless `frozen_norm=False` is given.
            `freeze_at` and `frozen_norm` are handed to the backbone.

    Returns:
        The model, built, not compiled.

    Raises:
        ValueError: unknown name or argument, or a weights file that is cut short or altered, which
            is then not read.
        kerasdet.zoo.download.DownloadError: the weights could not be downloaded; names every source.
    """
    from kerasdet.zoo.weights import load_weights

    manifest = info(name)
    wanted = overridden(manifest, overrides)
    path = weights_file(manifest)
    if keeps_outputs(manifest, overrides):
        return load_weights(empty_model(manifest, wanted), path)
    source = load_weights(empty_model(manifest, manifest["config"]), path)
    model = empty_model(manifest, wanted)
    for part in model.TRANSFERRED:
        old, new = (getattr(owner, part, None) for owner in (source, model))
        if old and new:  # None or False: a model without this part
            new.set_weights(old.get_weights())
    return model


def untrained(name, **overrides):
    """Build a listed model without its weights; nothing is downloaded.

    Args:
        name: one of `list_models()`.
        **overrides: as for `build`.

    Returns:
        The model, built, not compiled.

    Raises:
        ValueError: unknown name or argument.
    """
    manifest = info(name)
    return empty_model(manifest, overridden(manifest, overrides))


def weights_file(manifest):
    """Give the weights of a manifest as a file of Keras, downloaded and converted if necessary.

    Args:
        manifest: what `info` returned.

    Returns:
        Path of a `.weights.h5` file.

    Raises:
        ValueError: a file is cut short or altered, or does not fit the model.
        kerasdet.zoo.download.DownloadError: the weights could not be downloaded; names every source.
    """
    weights = manifest["weights"]
    if not is_published(manifest):
        path = FOLDER / weights["file"]
        verify(path, weights["sha256"], weights["bytes"], fix=_REINSTALL)
        return path
    from kerasdet.zoo.cache import cached

    files = [weights, *weights.get("parts", ())]

    def convert(path):
        from kerasdet.zoo.download import fetch

        # Of several files the first is often a mere model.json: the model's name tells them apart.
        prefix = f"{manifest['name']}-" if len(files) > 1 else ""
        names = [f"{prefix}{file['url'].rpartition('/')[2]}" for file in files]
        sources = [
            fetch(file["url"], published_hash(file), file["bytes"], name)
            for file, name in zip(files, names)
        ]
        convert_file(manifest, *sources).save_weights(path)

    hashes = "-".join([*map(published_hash, files), *filter(None, [weights.get("member")])])
    source = hashes
    if hashes != files[0].get("sha256"):
        source = hashlib.sha256(hashes.encode()).hexdigest()
    return cached(f"{manifest['name']}.weights.h5", source, CONVERSION_VERSION, convert)


def convert_file(manifest, *paths):
    """Build a manifest's model with the weights of a published file.

    Args:
        manifest: what `info` returned.
        *paths: the file, as published, or the one in its archive, and the files in its manifest's
            `weights.parts`, if any, in their order; read without running code of their own. Then the files
            that the origin compares, if it does (Caffe: a prototxt).

    Returns:
        The model, built, not compiled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read or does not fit the model; names the file and the keys. Or
            the manifest's weights come with the package.
    """
    if not is_published(manifest):
        raise ValueError(
            f"The weights of {manifest['name']} come with the package, not from a published file: load "
            f"them with kerasdet.load({manifest['name']!r})."
        )
    wanted = [manifest["weights"], *manifest["weights"].get("parts", ())]
    most = len(wanted) + origins.most_extra(manifest["conversion"])
    if not len(wanted) <= len(paths) <= most:
        names = ", ".join(file["url"].rpartition("/")[2] for file in wanted)
        raise ValueError(
            f"{manifest['name']} is published as {len(wanted)} files, not {len(paths)}: give {names}."
        )
    model = empty_model(manifest, manifest["config"])
    with _unpacked(manifest["weights"], paths[0]) as path:
        return origins.load(manifest["conversion"], model, path, *paths[1:])


@contextlib.contextmanager
def _unpacked(weights, path):
    """Give the file of the weights: the path itself, or the member of the archive that it is."""
    from kerasdet.zoo.checkpoints.archived import extract, is_archive

    name = weights.get("member")
    if name is None or not Path(path).is_file() or not is_archive(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / name.rpartition("/")[2]
        extract(path, name, target)
        wanted = weights.get("member_sha1")
        if wanted and digest(target, "sha1:") != f"sha1:{wanted}":
            raise ValueError(
                f"{path} has another {name} than its authors': its SHA-1 is not {wanted}. Take a fresh copy."
            )
        yield target


def empty_model(manifest, config):
    """Build a manifest's model without its weights.

    Args:
        manifest: what `info` returned; its class is built, whatever its config.
        config: the constructor's arguments, as `get_config` gives them.

    Returns:
        The model, built, not compiled.

    Raises:
        ValueError: there is no such class, or an argument is wrong.
    """
    from kerasdet import backbones, models

    name = manifest["class"]
    kind = getattr(models, name, None) or getattr(backbones, name, None)
    if kind is None:
        raise ValueError(
            f"{manifest['name']}: the field 'class' is {name!r}, which neither kerasdet.models nor "
            "kerasdet.backbones has; correct the manifest or upgrade kerasdet."
        )
    model = kind.from_config(copy.deepcopy(config))
    if not model.built:
        model.build()
    return model


def load(name_or_path):
    """Load a model: a listed one by its name, or your own by its path.

    Args:
        name_or_path: a name of `list_models()`, a `.keras` file, or the folder of a training run,
            which holds `best.keras` or `last.keras`. A str that is a listed name means that.

    Returns:
        The model, built, not compiled.

    Raises:
        ValueError: unknown name, or a file that is cut short, altered or no model of kerasdet.
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


def load_darknet(cfg, weights, **settings):
    """Build the model of a Darknet configuration and fill it; see `kerasdet.zoo.origins.darknet`.

    Args:
        cfg: the `.cfg` file.
        weights: the `.weights` file.
        **settings: further arguments of the model's constructor, such as `class_names`.

    Returns:
        A `YOLO`, `YOLOv2` or `ImageClassifier`, built, not compiled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the network is unknown, or the weights are not its own; names file, section, line and fix.
    """
    from kerasdet.zoo.origins import darknet

    return darknet.load_darknet(cfg, weights, **settings)


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
    from kerasdet import backbones, models  # noqa: F401 registers the classes that the file names
    from kerasdet.zoo.keras_file import load_keras_file

    return load_keras_file(path)
