"""Layers that learn at another rate than the rest of their model.

A layer says so by an attribute `rate_factor`, the factor of the learning rate of its weights, as papers give
it for new layers beside pretrained ones.
"""

import functools

from keras import ops


def follow_rates(model):
    """Let a model's optimizer multiply its changes of the weights of layers by their `rate_factor`.

    The changes are multiplied, not the gradients, so that the factor is right under every optimizer: Adam
    does not see how long a gradient is.

    Args:
        model: compiled.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # of a scaled loss
    # An optimizer that is compiled again must not multiply twice.
    plain = getattr(optimizer.apply, "plain", optimizer.apply)
    if not _rates(model):
        optimizer.apply = plain
        return

    @functools.wraps(plain)
    def apply(grads, trainable_variables=None):
        rates = _rates(model).values()
        before = [ops.copy(variable) for variable, _ in rates]
        plain(grads, trainable_variables)
        for (variable, rate), old in zip(rates, before):
            variable.assign(old + rate * (variable - old))

    apply.plain = plain
    optimizer.apply = apply


def _rates(model):
    """{id of a trainable variable: (variable, rate)} of those whose rate is not 1."""
    found = {}
    for layer in model._flatten_layers():
        rate = getattr(layer, "rate_factor", 1.0)
        if rate != 1.0:
            found |= {id(weight): (weight, rate) for weight in layer.trainable_variables}
    return found
