"""Mutants of the integral loss: what each classifier learns, and the ensemble."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/models/integral_rcnn.py",
    "tests/models/test_integral_rcnn.py",
    {
        "there are three IoUs": (
            "IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)",
            "IOUS = (0.5, 0.6, 0.7)",
            "test_constants_are_the_papers",
        ),
        "every classifier learns by the first IoU": (
            "overlap >= iou",
            "overlap >= ious[0]",
            "test_each_classifier_learns_by_its_own_iou",
        ),
        "every classifier's loss is the first's": (
            '["class_logits"][:, :, number]',
            '["class_logits"][:, :, 0]',
            "test_each_classifier_learns_by_its_own_iou",
        ),
        "the box learns by the last IoU": (
            'found[0]["box_loss"]',
            'found[-1]["box_loss"]',
            "test_each_classifier_learns_by_its_own_iou",
        ),
        "the weight of boxes is not heeded": (
            "losses_of_regions(one, *rest, box_weight=box_weight)",
            "losses_of_regions(one, *rest)",
            "test_each_classifier_learns_by_its_own_iou",
        ),
        "padding is learnt": (
            "rest = targets, regions, own, counted",
            "rest = targets, regions, own, counted | True",
            "test_padding_has_no_loss",
        ),
        "the losses are averaged": (
            'sum(losses["classification_loss"] for losses in found)',
            'sum(losses["classification_loss"] for losses in found) / len(found)',
            "test_each_classifier_learns_by_its_own_iou test_padding_has_no_loss",
        ),
        "the ensemble is the mean of the logits": (
            "ops.logsumexp(ops.log_softmax(logits, axis=-1), axis=2) - math.log(logits.shape[2])",
            "ops.log_softmax(ops.mean(logits, axis=2), axis=-1)",
            "test_the_ensemble_is_the_mean_probability "
            "test_the_model_classifies_by_all_and_refines_by_one",
        ),
        "the probabilities are summed": (
            " - math.log(logits.shape[2])",
            "",
            "test_the_ensemble_is_the_mean_probability",
        ),
        "the first head serves all": (
            "head(regions, training=training) for head in heads",
            "self.head(regions, training=training) for head in heads",
            "test_each_classifier_has_its_head_and_pools_once",
        ),
        "the box is of the last head": (
            "self.box_output(features[0])",
            "self.box_output(features[-1])",
            "test_each_classifier_has_its_head_and_pools_once",
        ),
        "copies of a trained head are not trained": (
            "trained = self.head.built",
            "trained = False",
            "test_copies_of_a_trained_head_are_trained",
        ),
        "IoUs below that of the sampling are taken": (
            "not FOREGROUND_IOU <= self.ious[0]",
            "not 0 < self.ious[0]",
            "test_ious_are_checked",
        ),
    },
)
