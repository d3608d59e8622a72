import copy
import json

import pytest

from kerasdet.zoo.manifest import FOLDER, manifest_paths, read_manifest, validate
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


@pytest.mark.parametrize("path", manifest_paths().values(), ids=lambda path: path.stem)
def test_every_shipped_manifest_is_valid_and_its_weights_are_the_published_ones(path):
    weights = read_manifest(path)["weights"]
    verify(FOLDER / weights["file"], weights["sha256"], weights["bytes"])
    assert weights["bytes"] < 6_000_000
    assert path.with_suffix(".md").is_file(), "no model card"


def test_every_weights_file_has_a_manifest():
    files = {path.name for path in (FOLDER / "weights").glob("*") if path.is_file()}
    assert files == {f"{name}.weights.h5" for name in manifest_paths()}


def test_a_packed_manifest_is_valid(good, packed):
    assert read_manifest(packed / "tiny_digits.json") == good


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 2),
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
        ("metrics", {"AP50": 0.5}),
        ("metrics", {"AP": 53.0}),
        ("metrics", {"AP": 0.5, "mood": 0.9}),
        ("config", {}),
        ("config", None),
    ],
)
def test_a_wrong_field_is_named_with_its_file_and_value(good, field, value):
    with pytest.raises(ValueError, match=r"tiny_digits\.json") as error:
        validate(changed(good, field, value), "tiny_digits.json")
    assert repr(field) in str(error.value)
    assert value is None or repr(value) in str(error.value)


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
    with pytest.raises(ValueError, match="a manifest is a JSON object, not list"):
        read_manifest(path)
