"""What ends a training that could only go wrong in silence: faulty targets, weights that are not finite."""

import contextlib
import re

import keras
import numpy as np

# A message of this package within what a backend makes of an error in a compiled step.
_RAISED = re.compile(r"ValueError: (.+?)(?:\n|$)")


class StopOnNonFiniteWeights(keras.callbacks.Callback):
    """End `fit` with an error when a weight is NaN or infinite after an epoch, whatever the loss says."""

    def on_epoch_end(self, epoch, logs=None):
        """Look at every weight.

        Raises:
            FloatingPointError: one is not finite; names the first.
        """
        path = first_non_finite(self.model)
        if path:
            raise FloatingPointError(
                f"After epoch {epoch + 1} the weight {path} holds values that are not finite. Lower the "
                "learning rate or clip gradients, and look for faulty boxes (`kerasdet check`)."
            )


def first_non_finite(model):
    """Find a weight that is not finite.

    Args:
        model: a built model.

    Returns:
        Its path, or None.
    """
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return variable.path
    return None


@contextlib.contextmanager
def readable_errors():
    """Raise what a compiled step has refused as the ValueError that it was."""
    try:
        yield
    except Exception as error:
        message = _RAISED.search(str(error))
        wrapped = type(error).__module__.startswith(("tensorflow", "jax"))
        if not (wrapped and message):
            raise
        raise ValueError(message[1]) from error
