import copy
import json

import pytest

from kerasdet.zoo.manifest import (
    FOLDER,
    METRICS,
    is_published,
    manifest_paths,
    read_manifest,
    validate,
)
from kerasdet.zoo.verify import verify


@pytest.fixture(scope="module")
def good(packed):
    return json.loads((packed / "tiny_digits.json").read_text())


def changed(manifest, field, value):
    """A copy with the dotted field set, or removed where the value is None."""
    result = copy.deepcopy(manifest)
    *parents, last = field.split(".")
    place = result
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return result


MANIFESTS = {name: read_manifest(path) for name, path in manifest_paths().items()}
SHIPPED = [name for name, manifest in MANIFESTS.items() if not is_published(manifest)]
PUBLISHED = [name for name, manifest in MANIFESTS.items() if is_published(manifest)]
TORCHVISION = [name for name in PUBLISHED if MANIFESTS[name]["conversion"] == "torchvision"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_weights_of_a_shipped_manifest_are_those_it_tells_of(name):
    weights = MANIFESTS[name]["weights"]
    verify(FOLDER / weights["file"], weights["sha256"], weights["bytes"])
    assert weights["bytes"] < 6_000_000
    assert (FOLDER / f"{name}.md").is_file(), "no model card"


def test_every_weights_file_has_a_manifest():
    files = {path.name for path in (FOLDER / "weights").glob("*") if path.is_file()}
    assert files == {f"{name}.weights.h5" for name in SHIPPED}


def test_what_torchvision_publishes_for_these_models_is_listed():
    once = ["resnet18_imagenet", "resnet34_imagenet", "vgg16_imagenet", "alexnet_imagenet"]
    once += ["googlenet_imagenet", "inception_v3_imagenet"]
    twice = ["resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"]
    twice = [f"{backbone}_imagenet" for backbone in [*twice, "mobilenet_v2", "mobilenet_v3_large"]]
    backbones = [*once, *twice, *(f"{backbone}_v2" for backbone in twice)]
    detectors = [
        f"{family}_resnet50_fpn{version}_coco"
        for family in ("retinanet", "fasterrcnn", "maskrcnn")
        for version in ("", "_v2")
    ]
    detectors += [f"fasterrcnn_mobilenet_v3_large{size}_fpn_coco" for size in ("", "_320")]
    detectors += ["fcos_resnet50_fpn_coco"]
    detectors += [f"keypointrcnn_resnet50_fpn_coco{version}" for version in ("", "_legacy")]
    detectors += ["ssd300_vgg16_coco", "ssdlite320_mobilenet_v3_large_coco"]
    assert sorted(TORCHVISION) == sorted([*backbones, "vgg16_imagenet_features", *detectors])
    by_origin = {
        origin: {name for name in PUBLISHED if MANIFESTS[name]["conversion"] == origin}
        for origin in ("caffe", "object_detection_api", "face_api")
    }
    assert by_origin == {
        "caffe": {
            *("fast_rcnn_vgg16_voc07", "faster_rcnn_vgg16_voc07", "faster_rcnn_zf_voc07"),
            "rfcn_resnet101_voc0712",
        },
        "object_detection_api": {
            *("faster_rcnn_inception_v2_coco", "rfcn_resnet101_coco", "ssd_mobilenet_v1_coco"),
        },
        "face_api": {"ssd_mobilenet_v1_face", "tiny_yolov2_face"},
    }


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_published_manifest_agrees_with_itself(name):
    manifest = MANIFESTS[name]
    weights = manifest["weights"]
    # torchvision ends a file's name with the first digits of its hash.
    assert weights["url"].rpartition("-")[2].startswith(weights["sha256"][:8])
    if weights["bytes"]:
        assert weights["bytes"] / 2**20 == pytest.approx(weights["mebibytes"], abs=1e-3)
    assert weights["licence"] == "not stated"
    parameters = manifest["parameters"]
    if manifest["task"] == "features":
        assert manifest["classes"] == []
        parameters += 123_642_856  # of the classifier, which the file has and which is not used
    else:
        count = manifest["config"]["num_classes"]
        assert len(manifest["classes"]) == len(set(manifest["classes"])) == count
    # The side classifiers, which the files have, with their statistics.
    parameters += {"googlenet_imagenet": 6_380_496, "inception_v3_imagenet": 3_328_488}.get(name, 0)
    # Four bytes a number, and a little around each tensor.
    assert weights["mebibytes"] == pytest.approx(4 * parameters / 2**20, rel=0.02)


# torchvision's counts; ours less the background's boxes and masks, and with the batch normalisations'
# statistics and, where they are frozen, scales, which it does not count.
@pytest.mark.parametrize(
    ("name", "parameters", "background", "uncounted"),
    [
        ("fasterrcnn_resnet50_fpn_coco", 41_755_286, 4 * 1025, 4 * 26_560),
        ("fasterrcnn_mobilenet_v3_large_fpn_coco", 19_386_354, 4 * 1025, 4 * 12_200),
        ("fasterrcnn_mobilenet_v3_large_320_fpn_coco", 19_386_354, 4 * 1025, 4 * 12_200),
        ("maskrcnn_resnet50_fpn_coco", 44_401_393, 4 * 1025 + 257, 4 * 26_560),
        # Neck, box head and mask head have 2 x (4 x 2 + 4 + 4) x 256 statistics more.
        ("maskrcnn_resnet50_fpn_v2_coco", 46_359_409, 4 * 1025 + 257, 2 * 26_560 + 2 * 16 * 256),
        ("keypointrcnn_resnet50_fpn_coco", 59_137_258, 4 * 1025, 4 * 26_560),
        ("keypointrcnn_resnet50_fpn_coco_legacy", 59_137_258, 4 * 1025, 4 * 26_560),
        ("ssd300_vgg16_coco", 35_641_826, 0, 0),
        ("ssdlite320_mobilenet_v3_large_coco", 3_440_060, 0, 2 * 16_472),
    ],
)
def test_detectors_have_torchvisions_parameters(name, parameters, background, uncounted):
    assert MANIFESTS[name]["parameters"] == parameters - background + uncounted
    config = MANIFESTS[name]["config"]
    assert config.get("num_keypoints", 17) == len(config.get("keypoint_names", range(17)))


def test_published_figures_of_the_two_stage_detectors():
    figures = {
        name: tuple(manifest["published"]["metrics"].values())
        for name, manifest in MANIFESTS.items()
        if name in TORCHVISION and "rcnn" in name
    }
    assert figures == {
        "fasterrcnn_resnet50_fpn_coco": (0.37,),
        "fasterrcnn_resnet50_fpn_v2_coco": (0.467,),
        "fasterrcnn_mobilenet_v3_large_fpn_coco": (0.328,),
        "fasterrcnn_mobilenet_v3_large_320_fpn_coco": (0.228,),
        "maskrcnn_resnet50_fpn_coco": (0.379, 0.346),
        "maskrcnn_resnet50_fpn_v2_coco": (0.474, 0.418),
        "keypointrcnn_resnet50_fpn_coco": (0.546, 0.65),
        "keypointrcnn_resnet50_fpn_coco_legacy": (0.506, 0.611),
    }


def test_categories_known_by_heart():
    imagenet, coco = (
        MANIFESTS[name]["classes"] for name in ("resnet50_imagenet", "retinanet_resnet50_fpn_coco")
    )
    assert (imagenet[0], imagenet[207], imagenet[999]) == (
        "tench",
        "golden retriever",
        "toilet tissue",
    )
    assert (len(coco), coco[1], coco[17], coco[90]) == (91, "person", "cat", "toothbrush")


def test_a_packed_manifest_is_valid(good, packed):
    assert read_manifest(packed / "tiny_digits.json") == good


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 1),
        ("name", "Tiny Digits"),
        ("task", "poetry"),
        ("paper.arxiv", "170802002"),
        ("paper.title", None),
        ("parameters", True),
        ("parameters", 1.5),
        ("classes", ["one", "one", "three"]),
        ("input.range", [255]),
        ("weights.sha256", "ab12"),
        ("weights.file", "../elsewhere.h5"),
        ("weights.bytes", 0),
        ("training.minutes", -1),
        ("training.minutes", None),
        ("paper.arxiv", 1708.02002),
        ("metrics", {}),
        ("metrics", {"AP": 53.0}),
        ("metrics", {"top1": 0.5}),
        ("metrics", {"AP": 0.5, "mood": 0.9}),
        ("config", {}),
        ("config", None),
        ("classes", ["one", 2, "three"]),
    ],
)
def test_a_wrong_field_is_named_with_its_file_and_value(good, field, value):
    with pytest.raises(ValueError, match=r"tiny_digits\.json") as error:
        validate(changed(good, field, value), "tiny_digits.json")
    assert repr(field) in str(error.value)
    assert value is None or repr(value) in str(error.value)


@pytest.mark.parametrize(
    ("source", "value", "asked"),
    [
        ("doi", "doi:10.1109/5", "a DOI such as 10.1109/5.771073"),
        ("url", "cs.toronto.edu", "an address"),
        ("arxiv", "1708.2", "an arXiv number"),
    ],
)
def test_a_paper_has_an_arxiv_number_or_a_doi_or_an_address(good, source, value, asked):
    for paper in (
        {"doi": "10.1109/CVPR.2001.990517"},
        {"url": "https://papers.example/1"},
        {"arxiv": "1708.02002v2", "doi": "10.1109/ICCV.2017.324"},
    ):
        validate(changed(good, "paper", {"title": "A Paper"} | paper), "tiny_digits.json")
    with pytest.raises(ValueError, match=rf"json: the field 'paper.{source}' is .*; give {asked}"):
        validate(changed(good, "paper", {"title": "A Paper", source: value}), "tiny_digits.json")
    with pytest.raises(
        ValueError, match=r"give at least one of paper\.arxiv, paper\.doi, paper\.url"
    ):
        validate(changed(good, "paper", {"title": "A Paper"}), "tiny_digits.json")


@pytest.mark.parametrize(
    ("task", "figures", "others"),
    [
        ("detection", {"AP50": 0.5, "mask_AP": 0.4, "VOC07_mAP": 0.7}, {"mIU": 0.5}),
        ("segmentation", {"mIU": 0.6, "dice": 0.8}, {"AP": 0.5}),
        ("classification", {"top1": 0.7, "top5": 0.9}, {"AP": 0.5}),
        ("features", {}, {"top1": 0.7}),
    ],
)
def test_figures_are_those_of_the_task(good, task, figures, others):
    good = changed(good, "task", task)
    validate(changed(good, "metrics", figures), "tiny_digits.json")
    (stranger,) = others
    with pytest.raises(
        ValueError, match=f"'metrics' is .*'{stranger}' is not a figure of {task}; give"
    ):
        validate(changed(good, "metrics", figures | others), "tiny_digits.json")
    if figures:
        with pytest.raises(
            ValueError,
            match=rf"'metrics' is {{}}; give at least one of {next(iter(METRICS[task]))}",
        ):
            validate(changed(good, "metrics", {}), "tiny_digits.json")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "published.metrics",
            {"AP": 0.4, "top1": 0.7},
            "'published.metrics' is .*'top1' is not a figure",
        ),
        (
            "published.metrics",
            {"AP": 36.4},
            "'published.metrics' is .*; give the published figures",
        ),
        ("metrics", {"top1": 0.7}, "'metrics' is .*'top1' is not a figure of detection"),
        (
            "conversion",
            "__init__",
            "'conversion' is '__init__'; give the name of a file in zoo/origins",
        ),
        ("weights.licence", None, "'weights.licence' is missing"),
        ("weights.format", "a kind", "'weights.format' is 'a kind'"),
        ("weights.parts", [], "'weights.parts' is .*; give more files"),
        (
            "weights.parts",
            [{"url": "https://a.example/b", "sha256": "0" * 64}],
            "'weights.parts' is",
        ),
        (
            "weights.parts",
            [{"url": "https://a.example/b", "sha256": "0" * 7, "bytes": None}],
            "'weights.parts' is",
        ),
    ],
)
def test_wrong_fields_of_published_weights(field, value, message):
    name = "retinanet_resnet50_fpn_coco"
    manifest = MANIFESTS[name]
    parts = [{"url": "https://a.example/b", "sha256": "0" * 64, "bytes": None}]
    validate(changed(manifest, "weights.parts", parts), f"{name}.json")
    with pytest.raises(ValueError, match=message):
        validate(changed(manifest, field, value), f"{name}.json")


def test_an_old_hash_may_stand_for_the_new_one_and_weights_in_an_archive():
    name = "retinanet_resnet50_fpn_coco"
    manifest = changed(MANIFESTS[name], "weights.sha256", None)
    with pytest.raises(ValueError, match=r"'weights\.sha256' is missing"):
        validate(manifest, f"{name}.json")
    for kind, digits in (("sha1", 40), ("md5", 32)):
        validate(changed(manifest, f"weights.{kind}", "0" * digits), f"{name}.json")
        with pytest.raises(ValueError, match=f"'weights.{kind}' is .*; give {digits} hexadecimal"):
            validate(changed(manifest, f"weights.{kind}", "0" * 31), f"{name}.json")
    member = changed(MANIFESTS[name], "weights.member", "folder/net.caffemodel")
    validate(changed(member, "weights.member_sha1", "0" * 40), f"{name}.json")
    with pytest.raises(ValueError, match=r"'weights\.member_sha1' is 'x'; give 40"):
        validate(changed(member, "weights.member_sha1", "x"), f"{name}.json")


def test_an_unknown_field_is_named(good):
    with pytest.raises(ValueError, match=r"unknown field 'weights\.mirror'"):
        validate(changed(good, "weights.mirror", "x"), "tiny_digits.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "other"),
        ("weights.file", "weights/other.weights.h5"),
        ("classes", ["one", "two", "four"]),
        ("config.num_classes", 4),
        ("config.num_classes", 0),
    ],
)
def test_fields_must_agree_with_each_other(good, field, value):
    with pytest.raises(ValueError, match=f"'{field}' is .* but should be"):
        validate(changed(good, field, value), "tiny_digits.json")


def test_broken_json_is_named_with_its_place(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('{"schema": 1,\n  "name" "x"}')
    with pytest.raises(ValueError, match=r"broken\.json is not valid JSON: .*line 2"):
        read_manifest(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="a manifest must be a JSON object, not list"):
        read_manifest(path)
