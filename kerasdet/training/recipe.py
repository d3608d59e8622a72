"""The numbers of a training run, and the optimizer they define."""

import dataclasses
import json
from pathlib import Path

import keras

from kerasdet.files import save_json
from kerasdet.training.schedules import WarmupSteps


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All numbers of a training run, saved as JSON next to the weights.

    Args:
        epochs: passes over the training images.
        batch_size: images per step, over all devices together.
        optimizer: "adamw" or "sgd" (momentum 0.9).
        learning_rate: the highest rate; AdamW 1e-3 from scratch, 1e-4 from published weights;
            SGD 1e-2.
        schedule: "cosine" down to a hundredth, or "step": a tenth from 8/12 of the run, a
            hundredth from 11/12.
        warmup_steps: steps of the linear rise at the start; default a twentieth of the run, at
            most 500.
        weight_decay: decoupled weight decay (per step, kernels shrink by learning_rate * weight_decay);
            biases and norms do not decay.
        clip_norm: largest norm of the whole gradient; 0 for no limit.
        ema_momentum: momentum of the weights' moving average, which is validated and saved. Default:
            1 - 1/(a twentieth of the run's steps), at most 0.9998; 0 for no averaging.
        seed: seed of the images' order and augmentation, and of the model's random layers.

    Raises:
        ValueError: a value is out of its range.
    """

    epochs: int = 50
    batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int | None = None
    weight_decay: float = 0.05
    clip_norm: float = 10.0
    ema_momentum: float | None = None
    seed: int = 0

    def __post_init__(self):
        _check(self, "epochs", self.epochs >= 1, "at least 1")
        _check(self, "batch_size", self.batch_size >= 1, "at least 1")
        _check(self, "optimizer", self.optimizer in ("adamw", "sgd"), '"adamw" or "sgd"')
        _check(self, "learning_rate", self.learning_rate > 0, "above 0")
        _check(self, "schedule", self.schedule in ("cosine", "step"), '"cosine" or "step"')
        _check(self, "warmup_steps", (self.warmup_steps or 0) >= 0, "0 or more")
        _check(self, "weight_decay", self.weight_decay >= 0, "0 or more")
        _check(self, "clip_norm", self.clip_norm >= 0, "0 or more")
        _check(self, "ema_momentum", 0 <= (self.ema_momentum or 0) < 1, "in [0, 1)")
        _check(self, "seed", self.seed >= 0, "0 or more")

    def resolved(self, steps_per_epoch):
        """Return the same recipe with the defaults that depend on the run's length filled in."""
        steps = self.epochs * steps_per_epoch
        defaults = {
            "warmup_steps": min(500, steps // 20),
            "ema_momentum": min(0.9998, 1 - 1 / max(steps / 20, 1)),
        }
        unset = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **unset)


def learning_rate_schedule(recipe, steps_per_epoch):
    """Return the learning rate as a function of the optimizer step.

    Args:
        recipe: `Recipe`, resolved.
        steps_per_epoch: steps per epoch.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.
    """
    steps, warmup = recipe.epochs * steps_per_epoch, recipe.warmup_steps
    if recipe.schedule == "step":
        boundaries = (steps * 8 // 12, steps * 11 // 12)
        return WarmupSteps(recipe.learning_rate, boundaries, warmup_steps=warmup)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.learning_rate / (warmup + 1),
        decay_steps=max(1, steps - warmup),
        alpha=0.01,
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def make_optimizer(recipe, steps_per_epoch, variables):
    """Return the optimizer that a recipe describes.

    Args:
        recipe: `Recipe`, resolved.
        steps_per_epoch: steps per epoch.
        variables: the model's trainable variables; one-dimensional ones (biases, norms) do not
            decay.

    Returns:
        An unbuilt `keras.optimizers.Optimizer`.
    """
    common = {
        "learning_rate": learning_rate_schedule(recipe, steps_per_epoch),
        "weight_decay": recipe.weight_decay or None,
        "global_clipnorm": recipe.clip_norm or None,
        "use_ema": recipe.ema_momentum > 0,
        "ema_momentum": recipe.ema_momentum,
    }
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, **common)
    else:
        # AdamW requires a number where the other optimizers take None.
        optimizer = keras.optimizers.AdamW(**{**common, "weight_decay": recipe.weight_decay})
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) <= 1])
    return optimizer


def save_recipe(path, recipe):
    """Write a recipe as JSON."""
    save_json(path, dataclasses.asdict(recipe), indent=2)


def load_recipe(path):
    """Read a recipe that `save_recipe` wrote."""
    return Recipe(**json.loads(Path(path).read_text(encoding="utf-8")))


def _check(recipe, name, good, meaning):
    if not good:
        raise ValueError(f"{name} must be {meaning}, not {getattr(recipe, name)!r}.")
