"""Caffe's files: networks of both formats, and files that are damaged, cut short or hostile."""

import random
import resource
import struct
import time

import numpy as np
import pytest

from kerasdet.zoo.checkpoints import CheckpointError, caffemodel
from kerasdet.zoo.checkpoints.caffemodel import read_caffemodel
from kerasdet.zoo.checkpoints.prototxt import read_prototxt
from tests.zoo import caffe_files
from tests.zoo.caffe_files import blob, field, layer, varint

RNG = np.random.default_rng(0)
LAYERS = {
    "conv1": (
        "Convolution",
        [RNG.normal(size=(4, 3, 2, 2)).astype("f4"), np.arange(4, dtype="f4")],
    ),
    "fc": ("InnerProduct", [RNG.normal(size=(5, 6)).astype("f4"), np.arange(5, dtype="f4")]),
}


def read(tmp_path, content):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    return read_caffemodel(path)


def equal(found, wanted):
    assert list(found) == list(wanted)
    for name, (kind, arrays) in wanted.items():
        assert found[name].kind == kind
        for array, given in zip(found[name].blobs, arrays, strict=True):
            assert array.dtype == given.dtype
            np.testing.assert_array_equal(array, given)


@pytest.mark.parametrize("packed", [True, False])
def test_layers_of_the_new_format(tmp_path, packed):
    equal(read(tmp_path, caffe_files.caffemodel(LAYERS, packed=packed)), LAYERS)


def test_layers_of_the_old_format_have_four_axes(tmp_path):
    found = read(tmp_path, caffe_files.caffemodel(LAYERS, old=True))
    old = {
        name: (kind, [a.reshape((1,) * (4 - a.ndim) + a.shape) for a in arrays])
        for name, (kind, arrays) in LAYERS.items()
    }
    assert old["fc"][1][1].shape == (1, 1, 1, 5)
    equal(found, old)


def test_float64_numbers(tmp_path):
    layers = {"a": ("Scale", [np.array([1.5, 2e300])])}
    for packed in (True, False):
        equal(read(tmp_path, caffe_files.caffemodel(layers, packed=packed)), layers)


def test_numbers_in_pieces_and_single_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(caffemodel, "PIECE", 4)
    numbers = np.arange(24, dtype="f4")
    single = [field(5, number.tobytes(), 5) for number in numbers]
    data = b"".join(single[:9]) + field(5, numbers[9:12].tobytes()) + b"".join(single[12:])
    shape = field(7, b"".join(field(1, varint(side), 0) for side in (2, 12)))  # not packed
    content = field(1, b"a") + field(2, b"Scale") + field(7, data + shape)
    equal(read(tmp_path, field(100, content)), {"a": ("Scale", [numbers.reshape(2, 12)])})


def test_a_number_alone_has_no_axes(tmp_path):
    content = field(1, b"a") + field(2, b"Scale") + field(7, field(5, struct.pack("<f", 2.5)))
    equal(read(tmp_path, field(100, content)), {"a": ("Scale", [np.array(2.5, "f4")])})


def test_what_is_not_asked_for_is_passed_over(tmp_path):
    # An unknown field of each kind, a layer without arrays, and a gradient in a blob.
    strange = field(900, varint(1 << 63), 0) + field(901, bytes(8), 1) + field(902, bytes(4), 5)
    content = field(1, b"a") + strange + field(2, b"Scale")
    content += field(7, blob(np.ones(3, "f4")) + field(6, np.ones(3, "f4").tobytes()) + strange)
    data = strange + layer("relu", "ReLU", []) + field(100, content)
    equal(read(tmp_path, data), {"a": ("Scale", [np.ones(3, "f4")])})


GOOD = caffe_files.caffemodel(LAYERS)
ONE = np.ones(3, "f4")


def one_blob(content):
    return field(100, field(1, b"a") + field(2, b"Scale") + field(7, content))


WRONG = {
    "empty": (b"", "has no layer with weights"),
    "no layer": (field(1, b"x"), "has no layer with weights"),
    "cut short": (GOOD[:-3], "beyond the .* of its message"),
    "cut in a key": (GOOD + b"\x80", "has a number at byte .* that does not end"),
    "text": (b"name: 'net' layer { }", "has a field|unlike any"),
    "a group": (GOOD + varint(8 * 3 + 3), "has a field of the kind 3"),
    "number zero": (GOOD + varint(0) + varint(0), "has a field at byte"),
    "a number of eleven bytes": (GOOD + varint(8) + b"\xff" * 11, "does not end"),
    "a length beyond the file": (field(100, b"")[:-1] + varint(1 << 40), "beyond the"),
    "the largest length": (field(100, b"")[:-1] + varint((1 << 64) - 1), "beyond the"),
    "a layer longer than its net": (
        field(100, field(1, b"a") + varint(8 * 7 + 2) + varint(100)) + bytes(200),
        "beyond the",
    ),
    "fewer numbers": (
        one_blob(field(7, field(1, varint(4))) + field(5, ONE.tobytes())),
        r"has 3 numbers in a, blob 0, whose shape is \(4\)",
    ),
    "no numbers": (one_blob(field(7, field(1, varint(4)))), "has 0 numbers in a, blob 0"),
    "an immense shape": (
        one_blob(field(7, field(1, varint(1 << 62) * 2)) + field(5, ONE.tobytes())),
        "has 3 numbers in a, blob 0",
    ),
    "many axes": (
        one_blob(field(7, field(1, varint(1) * 200)) + field(5, ONE.tobytes())),
        "has 3 numbers in a, blob 0",
    ),
    "a negative side": (
        one_blob(field(1, varint(-3), 0) + field(5, ONE.tobytes())),
        "has 3 numbers in a, blob 0",
    ),
    "odd bytes": (one_blob(field(5, bytes(7))), "has 7 bytes of float32 in a, blob 0"),
    "numbers as varints": (one_blob(field(5, varint(1), 0)), "has numbers of the kind 0"),
    "two types": (
        one_blob(field(7, field(1, varint(4))) + field(5, ONE.tobytes()) + field(8, bytes(8))),
        "has float32 and float64 numbers",
    ),
    "half precision": (
        one_blob(field(7, field(1, varint(3))) + field(10, varint(2), 0) + field(12, bytes(6))),
        "has raw numbers, perhaps float16, in a, blob 0",
    ),
    "not finite": (
        one_blob(blob(np.array([1, np.nan], "f4"))),
        "has numbers in a, blob 0 that are not finite",
    ),
    "a name twice": (GOOD + layer("fc", "Scale", [ONE]), "has two layers fc with weights"),
    "a long name": (layer("a" * 2000, "Scale", [ONE]), "has a name of 2000 bytes"),
    "a name in no UTF-8": (
        field(100, field(1, b"\xff\xfe") + field(7, blob(ONE))),
        "that is not UTF-8",
    ),
    "Caffe's first format": (
        field(2, field(1, field(1, b"a") + field(50, blob(ONE)))),
        "has layers of Caffe's first format",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_one_clear_error(tmp_path, case):
    content, message = WRONG[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'net.caffemodel'} ")
    assert "Fix: " in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["net.caffemodel"]


def test_every_cut_is_noticed(tmp_path):
    ends = {len(GOOD)}
    start = 0
    while start < len(GOOD):  # where a field of the network ends, a shorter file is whole
        ends.add(start)
        length, i = 0, start + 1 + (GOOD[start] > 127)
        while True:
            length |= (GOOD[i] & 127) << 7 * (i - start - 1 - (GOOD[start] > 127))
            i += 1
            if GOOD[i - 1] < 128:
                break
        start = i + length
    for cut in range(len(GOOD)):
        if cut in ends:
            continue
        with pytest.raises(CheckpointError):
            read(tmp_path, GOOD[:cut])


def test_a_missing_file_and_a_folder(tmp_path):
    for reader, kind in ((read_caffemodel, "weights"), (read_prototxt, "network")):
        with pytest.raises(FileNotFoundError, match=f"There is no {kind} file"):
            reader(tmp_path)


def test_many_tiny_fields_end_soon(tmp_path):
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match="more than 300000 fields"):
        read(tmp_path, field(3, b"") * 1_000_000)
    assert time.perf_counter() - start < 20


def test_memory_is_the_files(tmp_path):
    arrays = [np.ones(25_000_000, "f4")]
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffe_files.caffemodel({"a": ("InnerProduct", arrays)}))
    del arrays
    # What the writing took is free again, but stays in the process's peak: a second reading shows growth.
    read_caffemodel(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_caffemodel(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 << 10


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_read_or_refused(tmp_path, seed):
    draw = random.Random(seed)
    files = [caffe_files.caffemodel(LAYERS, old, packed) for old in (0, 1) for packed in (0, 1)]
    ends = {"read": 0, "refused": 0}
    for number in range(500):
        data = bytearray(files[number % 4])
        for _ in range(draw.choice((1, 1, 2, 4))):
            place = draw.randrange(len(data))
            if draw.random() < 0.7:
                data[place] = draw.choice((0, 127, 128, 255, draw.randrange(256)))
            elif draw.random() < 0.5:
                data[place:place] = varint(draw.choice((1 << 20, 1 << 31, (1 << 64) - 1)))
            else:
                del data[place : place + draw.randrange(1, 9)]
        try:
            read(tmp_path, bytes(data))
            ends["read"] += 1
        except CheckpointError:
            ends["refused"] += 1
    assert min(ends.values()) >= 5


# -- text --------------------------------------------------------------------------------------------


def parsed(tmp_path, content):
    path = tmp_path / "net.prototxt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_prototxt(path)


def test_fields_of_all_kinds(tmp_path):
    net = parsed(
        tmp_path,
        """
        # a comment
        name: "a net # no comment"   input: 'data' input_dim: 1, input_dim: 3;
        input_dim: [600, 1000]
        layer {
          name: "conv" "1"  # two texts are one
          pooling_param: < pool: MAX stride: 2 >
          param { lr_mult: 1.5e0 } param { lr_mult: -.5 }
          scale: 0.0625 bias_term: false
          text: "it's \\"so\\""
        }
        layer { }
        """,
    )
    assert net.text("name") == "a net # no comment"
    assert net.integers("input_dim") == [1, 3, 600, 1000]
    first, second = net.messages("layer")
    assert first.text("name") == "conv1"
    assert first.text("text") == 'it\'s "so"'
    pooling = first.message("pooling_param")
    assert (pooling.text("pool"), pooling.integer("stride", 1), pooling.integer("pad", 7)) == (
        *("MAX", 2),
        7,
    )
    assert [param.number("lr_mult", 1) for param in first.messages("param")] == [1.5, -0.5]
    assert first.number("scale", 1) == 0.0625
    assert first.flag("bias_term", True) is False
    assert second.flag("bias_term", True) is True
    assert (first.line, second.line) == (5, 12)
    assert second.message("pooling_param").integer("stride", 1) == 1


TEXTS = {
    "no end": ("layer { name: 'a'", r"line 1: a field or '}' is due, not the end of the file"),
    "another end": ("layer { name: 'a' >", r"line 1: a field or '}' is due, not '>'"),
    "an end too many": ("a: 1\n}", r"line 2: a field is due, not '}'"),
    "no colon": ("name 'a'", r"line 1: ':' or '{' is due behind name, not"),
    "no value": ("\nname: }", r"line 2: a value is due behind name, not '}'"),
    "an open text": ("name: 'a\n'", r"line 1: \"'a.* is no prototxt"),
    "an open list": ("a: [1, 2", r"a value is due behind a, not the end of the file"),
    "a strange sign": ("a: 1 $", r"'\$' is no prototxt"),
    "bytes": (b"\xff\xfe\x00", "is no text"),
    "depth": ("a {" * 40, "messages lie deeper than 16 levels"),
    "great depth": ("a {" * 100_000, "messages lie deeper than 16 levels"),
    "many fields": ("a: 1 " * 200_001, "more than 200000 fields"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_wrong_texts_are_one_clear_error(tmp_path, case):
    content, message = TEXTS[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        parsed(tmp_path, content)
    assert "Fix: " in str(caught.value)
    assert str(tmp_path / "net.prototxt") in str(caught.value)


def test_a_large_text_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(CheckpointError, match="4194305 bytes, more than a network of Caffe"):
        parsed(tmp_path, b"\xff" * (4 << 20 | 1))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: m.integer("a", 1), r"line 2, layer: a is '-1'. Fix: give a whole number"),
        (lambda m: m.integers("b"), "b is '1.5'. Fix: give a whole number"),
        (lambda m: m.integer("long", 1), "long is '99999.*'. Fix: give a whole number"),
        (lambda m: m.number("c", 1), "c is 'nan'. Fix: give a number"),
        (lambda m: m.number("long", 1), "long is '9999"),
        (lambda m: m.number("b", 1), r"line 3, layer: b stands 2 times. Fix: give it once"),
        (lambda m: m.flag("c", True), "c is 'nan'. Fix: give true or false"),
        (lambda m: m.text("d"), "d is a message. Fix: give a plain value"),
        (lambda m: m.message("a"), "a is '-1'. Fix: give a message"),
        (lambda m: m.messages("c"), "c is 'nan'. Fix: give a message"),
    ],
)
def test_wrong_values_are_named_where_they_are_asked_for(tmp_path, ask, message):
    text = f"layer {{\na: -1 b: 2\nb: 1.5 c: nan d {{ }} long: {'9' * 500}\n}}"
    (found,) = parsed(tmp_path, text).messages("layer")
    with pytest.raises(CheckpointError, match=message):
        ask(found)
