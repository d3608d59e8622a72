"""What ends a training that could only go wrong in silence: faulty targets, weights that are not finite."""

import contextlib
import re

import keras
import numpy as np

from kerasdet.ops import native

# A message of this package within what a backend makes of an error in a compiled step.
_RAISED = re.compile(r"ValueError: (.+?)(?:\n|$)")


class StopOnNonFiniteWeights(keras.callbacks.Callback):
    """End `fit` with an error when a weight is NaN or infinite after an epoch, or the loss alone is."""

    def on_epoch_end(self, epoch, logs=None):
        """Look at every weight, then at the loss.

        Raises:
            FloatingPointError: one is not finite; names the first.
        """
        path = first_non_finite(self.model)
        if path:
            raise FloatingPointError(
                f"After epoch {epoch + 1} the weight {path} holds values that are not finite. Lower the "
                "learning rate or clip gradients, and look for faulty boxes (`kerasdet check`)."
            )
        if logs and np.isnan(logs.get("loss", 0.0)):
            raise FloatingPointError(
                f"In epoch {epoch + 1} the loss was not a number. With jit_compile=True faulty targets can "
                "be refused in no other way: labels must be 0..K-1, and -1 in rows of padding alone. "
                "jit_compile=False names the label."
            )


class StopOnRefusedTargets(keras.callbacks.Callback):
    """End `fit` on JAX soon after a step that has refused its targets."""

    def on_train_batch_end(self, batch, logs=None):
        """Raise what is known by now."""
        native.raise_refused(wait=False)

    def on_epoch_end(self, epoch, logs=None):
        """Raise what the epoch has refused."""
        native.raise_refused()


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


def guards():
    """Return the callbacks that every `fit` has."""
    on_jax = [StopOnRefusedTargets()] if keras.backend.backend() == "jax" else []
    return [*on_jax, StopOnNonFiniteWeights()]


@contextlib.contextmanager
def readable_errors(model):
    """Raise what a step has refused as a ValueError, and leave the model whole after any error.

    Args:
        model: the model whose steps run in the block.
    """
    try:
        yield
        native.raise_refused()
    except BaseException as error:
        if keras.backend.backend() == "jax":
            model.jax_state_sync()  # within `fit`, Keras holds the weights elsewhere
        message = _RAISED.search(str(error))
        wrapped = type(error).__module__.startswith(("tensorflow", "jax"))
        if wrapped and message:
            raise ValueError(message[1]) from error
        raise
