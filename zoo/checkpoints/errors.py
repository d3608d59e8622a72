"""Errors about checkpoints that cannot be read."""

DAMAGED = "take a fresh copy of the file: this one is damaged or cut short"
RESAVE = (
    "where PyTorch is installed, and only if you trust the file, load it and save the state dict "
    "alone, its tensors dense, not quantised and of a common dtype: "
    "torch.save(model.state_dict(), 'clean.pth')"
)
REWRITE = "write the weights again with Keras: model.save_weights(path)"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; the message names the file, what is wrong and the fix."""


def refusal(source, what):
    """Return the error for something that a checkpoint must not ask for.

    Args:
        source: the `Source`.
        what: its name.

    Returns:
        `CheckpointError`.
    """
    return source.fault(
        f"asks for {what}: refused; a checkpoint holds tensors and plain containers only", RESAVE
    )


def printable(value):
    """Return a text or number from a file in a form fit for an error.

    Args:
        value: str, bytes, int, float, bool or None; for anything else its type is returned.

    Returns:
        str of printable ASCII, at most 80 characters.
    """
    if isinstance(value, str):
        return ascii(value[:81])[1:-1][:80]
    if isinstance(value, bytes):
        return ascii(value[:80])[:80]
    if isinstance(value, int | float) or value is None:
        return ascii(value)[:80]
    return type(value).__name__
