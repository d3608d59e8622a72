"""The same model in float32, from which the formats without mixed precision are made."""

import keras


def float32_clone(model):
    """Rebuild a model in float32: equal weights, no mixed precision, not compiled.

    Args:
        model: a built detector under any dtype policy.

    Returns:
        A new model of the same class and config.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        clone = type(model).from_config(_in_float32(model.get_config()))
    finally:
        keras.config.set_dtype_policy(policy)
    clone.set_weights(model.get_weights())
    return clone


def _in_float32(config):
    """Replace every dtype policy in a config, at any depth, by float32."""
    if isinstance(config, dict):
        if str(config.get("class_name")).endswith("DTypePolicy"):
            return "float32"
        return {key: _in_float32(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    return config
