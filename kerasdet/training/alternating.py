"""Four-step alternating training of a Faster R-CNN: its two stages in turn, finally on a shared backbone.

    Ren, He, Girshick, Sun. Faster R-CNN. arXiv 1506.01497v3, section 3.2, "4-Step Alternating Training".

Each step is a run of `train` in a folder of its own:

    1_proposals      the proposal network and its backbone, from the model's weights
    2_regions        the second stage and another backbone, from the model's weights, on step 1's proposals
    3_proposals      the proposal network on step 2's backbone, which stays as it is
    4_regions        the second stage on the same backbone, on step 3's proposals
"""

from pathlib import Path

from kerasdet.training.train import strategy_of, train

FOLDERS = ("1_proposals", "2_regions", "3_proposals", "4_regions")


def train_alternating(model, data, recipe=None, *, out, validation=None, **options):
    """Train a Faster R-CNN in four steps (arXiv 1506.01497, section 3.2).

    Steps 2 and 4 compute the proposals they learn from during training, by the first stage that the step
    before has trained, with its layers as in inference; proposals therefore follow an augmented image.

    Args:
        model: a `FasterRCNN` or a subclass, with a pretrained backbone; it holds the result at the end.
        data: `Dataset` to train on.
        recipe: `Recipe` of each step, or a list of four; default `Recipe()`.
        out: folder of the four runs.
        validation: `Dataset` on which steps 2 and 4 are measured, or None. Steps 1 and 3 detect nothing yet.
        **options: further arguments of `train`, the same for each step. With `resume=True` finished
            steps are read from their folders, and the interrupted step continues.

    Returns:
        The model.

    Raises:
        ValueError: `recipe` is a list whose length is not four, or an argument that `train` refuses.
        FileExistsError: `out` holds runs and `resume` is not True.
    """
    recipes = list(recipe) if isinstance(recipe, (list, tuple)) else [recipe] * len(FOLDERS)
    if len(recipes) != len(FOLDERS):
        raise ValueError(
            f"recipe holds {len(recipes)} recipes; give one, or one for each of 4 steps."
        )

    def run(number, step, measured=None):
        folder = Path(out) / FOLDERS[number - 1]
        train(step, data, recipes[number - 1], out=folder, validation=measured, **options)

    first = _copy(model, "proposals")
    run(1, first)
    second = _copy(model, "regions")
    second.proposer = first.proposals
    run(2, second, validation)
    third = _copy(model, "proposals", shared=second)
    run(3, third)
    fourth = _copy(model, "regions", shared=second, proposals=third, regions=second)
    run(4, fourth, validation)
    model.set_weights(fourth.get_weights())
    return model


def _copy(model, learnt, **sources):
    """Copy a model that trains one stage, and also the shared layers unless they are given.

    Args:
        model: a `FasterRCNN`.
        learnt: "proposals" or "regions".
        **sources: for a kind of layers, "shared", "proposals" or "regions", the model to take them from.
    """
    with strategy_of(model):
        copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    copy.learns = [learnt]
    for kind, layers in _kinds(copy).items():
        if kind in sources:
            for layer, source in zip(layers, _kinds(sources[kind])[kind]):
                layer.set_weights(source.get_weights())
        if kind != learnt and (kind != "shared" or kind in sources):
            for layer in layers:
                layer.trainable = False
    return copy


def _kinds(model):
    """Return a model's layers: those that both stages share, the first stage's own and the second's."""
    kinds = {"shared": [model.backbone], "proposals": [model.rpn]}
    if model.neck:
        kinds["shared"].append(model.neck)
    earlier = {id(layer) for layers in kinds.values() for layer in layers}
    kinds["regions"] = [layer for layer in model.layers if id(layer) not in earlier]
    return kinds
