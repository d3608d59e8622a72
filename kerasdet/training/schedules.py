"""Learning-rate schedules that Keras does not have: steps after a linear warm-up.

The cosine schedule with a warm-up is Keras' own `keras.optimizers.schedules.CosineDecay`.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerasdet")
class WarmupSteps(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly to a learning rate, then divide it at given steps.

    Args:
        learning_rate: the rate after the warm-up.
        boundaries: optimizer steps at which the rate is multiplied by `factor`.
        factor: the multiplier.
        warmup_steps: steps of the rise; step 0 runs at `learning_rate / warmup_steps`.

    Source: RetinaNet (1708.02002), section 4.1: 0.01, divided by 10 at 60k and 80k of 90k steps.
    """

    def __init__(self, learning_rate, boundaries, factor=0.1, warmup_steps=0):
        super().__init__()
        self.learning_rate = float(learning_rate)
        self.boundaries = tuple(int(boundary) for boundary in boundaries)
        self.factor = float(factor)
        self.warmup_steps = int(warmup_steps)

    def __call__(self, step):
        """Return the rate at an optimizer step.

        Args:
            step: () integer, the number of steps already taken.

        Returns:
            () float32.
        """
        step = ops.cast(step, "float32")
        rate = self.learning_rate
        for boundary in self.boundaries:
            rate = rate * ops.where(step >= boundary, self.factor, 1.0)
        return rate * ops.minimum(1.0, (step + 1.0) / max(self.warmup_steps, 1))

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "boundaries": list(self.boundaries),
            "factor": self.factor,
            "warmup_steps": self.warmup_steps,
        }
