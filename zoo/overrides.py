"""Replacing arguments of a manifest by those of the user."""

import copy

# Arguments of a model's backbone that may be given in addition to the model's own.
FREEZING = {"freeze_at", "frozen_norm"}
# Arguments for the last layers' outputs: a count, its names, and what else depends on it.
OUTPUTS = (("num_classes", "class_names", "category_ids"), ("num_keypoints", "keypoint_names"))


def keeps_outputs(manifest, overrides):
    """Tell whether a model keeps the classes and keypoints that its weights know.

    Args:
        manifest: the result of `kerasdet.zoo.info`.
        overrides: {argument: value} from the user.

    Returns:
        bool; False: the model needs new last layers.
    """
    known = {**manifest["config"], "class_names": manifest["classes"]}
    known["num_classes"] = len(manifest["classes"])
    given = {name: overrides[name] for group in OUTPUTS for name in group[:2] if name in overrides}
    return all(
        value is None or (value if isinstance(value, int) else list(value)) == known.get(name)
        for name, value in given.items()
    )


def overridden(manifest, overrides):
    """Replace a manifest's arguments by those of the user.

    Other classes or keypoints remove the old names and ids, and freeze the backbone's normalisation.

    Args:
        manifest: the result of `kerasdet.zoo.info`.
        overrides: {argument: value} from the user.

    Returns:
        The config of the model to build.

    Raises:
        ValueError: the model has no such argument; the message names its arguments.
    """
    config = copy.deepcopy(manifest["config"])
    backbone = config["backbone"]["config"] if "backbone" in config else config
    known = sorted(config.keys() | FREEZING & backbone.keys())
    if unknown := sorted(overrides.keys() - set(known)):
        raise ValueError(
            f"{manifest['name']} has no argument {unknown[0]!r}; it has {', '.join(known)}."
        )
    if "backbone" in overrides and (given := sorted(FREEZING & overrides.keys())):
        raise ValueError(
            f"Give {given[0]} to the new backbone itself, not together with backbone=."
        )
    overrides = dict(overrides)
    if not keeps_outputs(manifest, overrides):
        if "frozen_norm" in backbone:
            overrides.setdefault("frozen_norm", True)
        for count, names, *others in OUTPUTS:
            if overrides.keys() & {count, names}:
                overrides.setdefault(count, len(overrides.get(names) or ()))
                # The old names and ids belong to the old outputs.
                config |= {key: None for key in (names, *others) if key in config}
    for name in FREEZING & overrides.keys():
        backbone[name] = overrides.pop(name)
    return config | {key: _plain(value) for key, value in overrides.items()}


def _plain(value):
    """Convert a part given as an object to its form in a config."""
    import keras

    return keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value
