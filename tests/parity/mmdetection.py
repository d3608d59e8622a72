"""mmdetection's side: lively weights in its models, what they give for images, one file per model.

Runs where mmdet 3.3.0, mmengine 0.10.7, mmcv-lite 2.1.0, torch, torchvision and opencv-python-headless<5 are.
mmcv-lite has no compiled operations: `mmcv_ops.py` of this folder puts torchvision's in their place. Started
by `run.py`; see `reference.py` for the files. Masks are in their boxes alone, as pasting differs.
"""

import contextlib
from pathlib import Path

import numpy as np

from tests.parity import mmcv_ops

mmcv_ops.install()  # before mmdet is imported

import mmdet  # noqa: E402
import mmengine  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from mmdet.registry import MODELS, TRANSFORMS  # noqa: E402
from mmdet.utils import register_all_modules  # noqa: E402
from mmengine.config import Config  # noqa: E402

from tests.parity import reference  # noqa: E402
from tests.parity.lively import MASKS, step_of  # noqa: E402

CONFIGURATIONS = Path(mmdet.__file__).parent / ".mim" / "configs"
META = ("ori_shape", "img_shape", "scale_factor")
# As mmengine saves it; the published files were saved likewise.
CHECKPOINT_META = {
    "epoch": 20,
    "iter": 146_600,
    "mmdet_version": "2.0.0",
    "config": "model = dict()\n",
}


class Detector:
    """A model of mmdetection, called as torchvision's detectors are: with a list of images.

    Args:
        entry: of `models.MODELS`.
        edges: shortest and longest edge, or None for the configuration's own.
    """

    def __init__(self, entry, edges):
        register_all_modules()
        config = Config.fromfile(CONFIGURATIONS / entry.there)
        config.model.backbone.pop("init_cfg", None)
        self.model = MODELS.build(config.model).eval()
        steps = {step["type"]: step for step in config.test_dataloader.dataset.pipeline}
        scale = tuple(edges[::-1]) if edges else tuple(steps["Resize"]["scale"])
        self.resize = TRANSFORMS.build({**steps["Resize"], "scale": scale})
        self.pack = TRANSFORMS.build({"type": "PackDetInputs", "meta_keys": META})

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, images):
        """Detect in images (H, W, 3) RGB uint8: one `DetDataSample` for each."""
        packed = []
        for image in images:
            size = image.shape[:2]
            pixels = np.ascontiguousarray(image[..., ::-1])  # as OpenCV reads a file
            found = self.resize({"img": pixels, "img_shape": size, "ori_shape": size})
            packed.append(self.pack(found))
        keys = ("inputs", "data_samples")
        return self.model.test_step({key: [one[key] for one in packed] for key in keys})


def prepare(array, entry):
    """An image as the model takes it."""
    return array


def run(model, entry, images, limit=None):
    """Run the model on a batch; see `reference.run`."""
    seen = {}
    heads = {"bbox": _last(model.roi_head.bbox_head)}
    if getattr(model.roi_head, "mask_head", None) is not None:
        heads["mask"] = _last(model.roi_head.mask_head)
    with contextlib.ExitStack() as stack:
        for name, path in entry.modules.items():
            hook = model.get_submodule(path).register_forward_hook(reference.keeper(seen, name))
            stack.callback(hook.remove)
        called = {name: stack.enter_context(_arguments(head)) for name, head in heads.items()}
        results = model(images)
    outputs = {}
    for name in entry.modules:
        outputs |= reference.flat(name, seen[name])
    return outputs, [_image(result, called, i, limit) for i, result in enumerate(results)]


def _last(head):
    return head[-1] if isinstance(head, torch.nn.ModuleList) else head


@contextlib.contextmanager
def _arguments(head):
    """The arguments with which the head's last step is called, as a dict that the call fills."""
    called, predict = {}, head.predict_by_feat

    def remembered(**arguments):
        called.update(arguments)
        return predict(**arguments)

    head.predict_by_feat = remembered
    yield called
    del head.predict_by_feat


def _image(result, called, number, limit):
    """What is compared of image `number`; see `reference.run`."""
    found = result.pred_instances
    logits = called["bbox"]["cls_scores"][number]
    logits = torch.cat([logits[:, -1:], logits[:, :-1]], dim=1)  # the background is first
    image = {
        "boxes": found.bboxes.numpy(),
        "scores": found.scores.numpy(),
        "labels": 1 + found.labels.numpy(),  # columns of the logits
        "proposals": called["bbox"]["rois"][number][:, 1:].numpy(),
        "class_logits": logits[:: step_of(logits.numel(), limit)].numpy(),
    }
    if "mask" in called:
        masks = torch.as_tensor(called["mask"]["mask_preds"][number])
        if not called["mask"].get("activate_map"):
            masks = masks.sigmoid()
        masks = masks[torch.arange(len(found)), found.labels]
        step = step_of(masks.numel(), limit and MASKS * limit)
        image["masks"] = masks[::step].numpy()
    return image


def published(state, entry):
    """The published file's content."""
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    return {"meta": CHECKPOINT_META, "state_dict": tensors}


MMDETECTION = reference.Side(
    "mmdetection",
    Detector,
    prepare,
    run,
    published,
    {m.__name__: m.__version__ for m in (mmdet, mmengine, torch, torchvision)},
)

if __name__ == "__main__":
    reference.main(MMDETECTION)
