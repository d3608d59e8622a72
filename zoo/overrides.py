"""A user's arguments in the place of those that a manifest tells."""

import copy

# Arguments of a model's backbone that may be given beside its own.
FREEZING = {"freeze_at", "frozen_norm"}
# Arguments that say what the last layers give: a count, its names, and what else depends on it.
OUTPUTS = (("num_classes", "class_names", "category_ids"), ("num_keypoints", "keypoint_names"))


def keeps_outputs(manifest, overrides):
    """Tell whether a model keeps the classes and keypoints that its weights know.

    Args:
        manifest: what `kerasdet.zoo.info` returned.
        overrides: {argument: value} that a user gives.

    Returns:
        bool; False: it needs new last layers.
    """
    known = {**manifest["config"], "class_names": manifest["classes"]}
    known["num_classes"] = len(manifest["classes"])
    given = {name: overrides[name] for group in OUTPUTS for name in group[:2] if name in overrides}
    return all(
        value is None or (value if isinstance(value, int) else list(value)) == known.get(name)
        for name, value in given.items()
    )


def overridden(manifest, overrides):
    """Put a user's arguments in the place of a manifest's.

    Other classes or keypoints drop the old names and ids, and freeze the backbone's normalisation.

    Args:
        manifest: what `kerasdet.zoo.info` returned.
        overrides: {argument: value} that the user gives.

    Returns:
        The config of the model to build.

    Raises:
        ValueError: the model has no such argument; names those it has.
    """
    config = copy.deepcopy(manifest["config"])
    backbone = config["backbone"]["config"] if "backbone" in config else config
    known = sorted(config.keys() | FREEZING & backbone.keys())
    if unknown := sorted(overrides.keys() - set(known)):
        raise ValueError(
            f"{manifest['name']} has no argument {unknown[0]!r}; it has {', '.join(known)}."
        )
    if "backbone" in overrides and (given := sorted(FREEZING & overrides.keys())):
        raise ValueError(f"Give {given[0]} to the new backbone itself, not beside backbone=.")
    overrides = dict(overrides)
    if not keeps_outputs(manifest, overrides):
        if "frozen_norm" in backbone:
            overrides.setdefault("frozen_norm", True)
        for count, names, *others in OUTPUTS:
            if overrides.keys() & {count, names}:
                overrides.setdefault(count, len(overrides.get(names) or ()))
                # The old names, and ids, go with the old outputs.
                config |= {key: None for key in (names, *others) if key in config}
    for name in FREEZING & overrides.keys():
        backbone[name] = overrides.pop(name)
    return config | {key: _plain(value) for key, value in overrides.items()}


def _plain(value):
    """A part given as an object, in the form that a config has it."""
    import keras

    return keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value
