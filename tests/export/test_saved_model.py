import numpy as np
import pytest
import tensorflow as tf

from kerasdet.export import export_model, saved_model
from kerasdet.export.endpoint import make_endpoint
from kerasdet.layers.resizing import KeepSize, ShortestEdge

from .conftest import assert_same, colour_blocks


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model"
    assert export_model(model, str(path)) == path
    return tf.saved_model.load(path).signatures["serving_default"]


def run(model, *images):
    """The exported function, step by step: no tracing, no disk."""
    function, _ = make_endpoint(model, portable=False)
    return function(tf.constant(np.stack(images)))


@pytest.mark.parametrize("size", [(80, 100), (100, 80), (64, 64), (31, 17), (200, 90)])
def test_images_of_any_size(model, exported, size):
    image = colour_blocks(*size)
    assert_same(exported(images=tf.constant(image[None])), model.detect([image]))


def test_batches_of_any_size(model, exported):
    images = [colour_blocks(50, 70, seed) for seed in range(3)]
    assert_same(exported(images=tf.constant(np.stack(images))), model.detect(images))


def test_the_signature_says_names_and_types(exported):
    spec = exported.structured_input_signature[1]["images"]
    assert (spec.dtype, spec.shape.as_list()) == (tf.uint8, [None, None, None, 3])
    shapes = {name: value.shape.as_list() for name, value in exported.structured_outputs.items()}
    assert shapes == {
        "boxes": [None, 20, 4],
        "labels": [None, 20],
        "confidence": [None, 20],
        "num_detections": [None],
    }


@pytest.mark.parametrize("resize", [ShortestEdge(64, 100), KeepSize(32)], ids=repr)
def test_every_resize_part(model, resize):
    model.resize = resize
    function, (spec,) = make_endpoint(model, portable=False)
    function = tf.function(function, input_signature=[spec], autograph=False)
    for size in ((80, 100), (45, 200)):
        image = colour_blocks(*size)
        assert_same(function(image[None]), model.detect([image]))


@pytest.mark.parametrize(
    "changes", [{"score_threshold": 0.5}, {"iou_threshold": 0.05}, {"max_detections": 3}], ids=str
)
def test_settings_made_after_building_are_honoured(model, changes):
    image = colour_blocks(80, 100)
    before = model.detect([image])
    for name, value in changes.items():
        setattr(model, name, value)
    wanted = model.detect([image])
    assert_same(run(model, image), wanted)
    assert len(wanted[0]["labels"]) < len(before[0]["labels"])


def test_no_detection_is_all_padding(model):
    model.score_threshold = 0.9999
    assert_same(
        run(model, colour_blocks(80, 100)),
        [{"boxes": np.zeros((0, 4)), "labels": [], "confidence": []}],
    )


def test_a_fixed_size_is_fixed(model):
    image = colour_blocks(80, 100)
    function, (spec,) = make_endpoint(model, size=(80, 100), batch_size=1)
    assert spec.shape.as_list() == [1, 80, 100, 3]
    assert_same(function(tf.constant(image[None])), model.detect([image]))


def test_an_earlier_export_is_replaced_whole(model, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "model"

    def write(content, fail=False):
        def write_archive(model, folder, **options):
            folder.mkdir()
            (folder / "saved_model.pb").write_text(content)
            (folder / content).touch()
            if fail:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(saved_model, "write_archive", write_archive)
        export_model(model, path)

    write("one")
    write("two")
    with pytest.raises(OSError, match="No space left"):
        write("three", fail=True)
    assert sorted(file.name for file in path.iterdir()) == ["saved_model.pb", "two"]
    assert [file.name for file in path.parent.iterdir()] == ["model"]


def test_nothing_but_a_saved_model_is_replaced(model, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("x")
    for name in ("work", "file"):
        with pytest.raises(FileExistsError, match=f"{name} is there and is no SavedModel"):
            export_model(model, tmp_path / name)
    with pytest.raises(OSError, match="cannot write into the folder"):
        export_model(model, tmp_path / "file" / "model")
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"
