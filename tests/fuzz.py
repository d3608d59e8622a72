"""Mutated annotation files, images and models: what is read of them, and how they are refused.

    python -m tests.fuzz [--count 20000] [--seed 0] [--kinds coco,voc,yolo,csv,image,keras,caffe]

Every case is a small sound data set of which one file is changed in one to four places, and it is
read in a process of its own kind. It fails if it ends otherwise than with a data set or a
documented error that names a file of the set, takes longer than `SECONDS`, or brings the process
more than `MEGABYTES` above what it needed for the sound files. Kind, seed and number make a case
again: `--kinds coco --first 17 --count 18` runs number 17 alone.

Another kind of file is one entry of `KINDS`: a function that writes sound files into a folder and
returns those to change, and one that reads the folder, told which file was changed.
"""

import argparse
import dataclasses
import json
import multiprocessing
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

SECONDS = 5
MEGABYTES = 300
HEIGHT, WIDTH = 40, 60
# What numbers and names are replaced by: spelled as JSON, but every kind of file gets them all.
HOSTILE = (
    *("null", "NaN", "nan", "Infinity", "-Infinity", "inf", "true", '""', "[]", "{}", "[[]]"),
    *("0", "-1", "1", "2", "0.5", "-0.0", "1e7", "1e9", "1e308", "1e400", "-1e400", "1e-300"),
    *("1000000000", "4294967296", "9223372036854775808", "9" * 40, "9" * 5000, "0x10", "1_0"),
    *('"0"', '"160.0"', '"a"', '"\\ud800"', '"\\u0000"', "[1e9, 1e9]", "[0, 1e7, 5, 1e7, 5, 0]"),
    *("[" * 5000, '{"a":' * 5000, "&a [*a, *a]", "<!ENTITY x 'y'>", "&x;", "<a>" * 2000),
    *("\x00", "\r", "\n", "\t", " ", ",", ":", "- ", "..", "../../..", "/", "\\", "%2F", "%00"),
    *('"', "'", "#", "*", "\u2028", "é", "a" * 300, "a" * 140000, "true false", "~", "|", "!!x"),
    *('encoding="x-none"', 'encoding="utf-16"', 'encoding="cp037"', "]]>", "<![CDATA[", "-->"),
)

HOSTILE_VALUES = (
    *(None, True, False, 0, -1, 1, 2, 160.0, 0.5, float("nan"), float("inf"), float("-inf")),
    *(1e7, -1e7, 1e12, 1e300, 10**9, 2**63, 10**40, 10**4000, "", "0", "3", "160.0", "1e400"),
    *("\ud800", "\0", "a" * 100_000, "a.png", "..", "images\\a.png", "images%2Fa.png", "z" * 9),
    *([], {}, [[]], [None] * 6, [0, 0, 1e7, 0, 1e7, 1e7], [[0, 0, None, 5, 7, 7]], [10, 20]),
    *([[0, 0, float("nan"), 5, 7, 7]], [[0, 0, 40, 60] * 20_000], [float("inf")] * 4, [0.1] * 4),
    *({"size": [HEIGHT, WIDTH], "counts": "zzzz"}, {"size": [10**9, 10**9], "counts": [10**18]}),
    *({"size": [HEIGHT, WIDTH], "counts": [5, -3, 2398]}, {"counts": None}, [1, 2, 3], [0] * 7),
    *(json.loads("[" * 400 + "]" * 400), json.loads('{"a":' * 400 + "1" + "}" * 400)),
)


def coco_files(folder):
    """A COCO file of two images with masks in three spellings and keypoints."""
    images(folder / "images", "a.png", "b.jpg")
    square = np.zeros((HEIGHT, WIDTH), "uint8", order="F")
    square[10:20, 10:30] = 1
    from pycocotools import mask

    compressed = mask.encode(square)
    masks = [
        [[10, 10, 30, 10, 30, 20, 10, 20]],
        {
            "size": [HEIGHT, WIDTH],
            "counts": [410, *[10, 30] * 19, 10, HEIGHT * WIDTH - 410 - 40 * 19 - 10],
        },
        {"size": compressed["size"], "counts": compressed["counts"].decode()},
    ]
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 2, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH},
        ],
        "annotations": [
            {
                "id": 5 + number,
                "image_id": 1 + number % 2,
                "category_id": 3,
                "bbox": [10, 10, 20, 10],
                "area": 200,
                "iscrowd": 0,
                "segmentation": segmentation,
                "keypoints": [11, 12, 2, 0, 0, 0],
                "num_keypoints": 1,
            }
            for number, segmentation in enumerate(masks)
        ],
        "categories": [
            {"id": 3, "name": "cat", "supercategory": "animal", "keypoints": ["nose", "tail"]},
            {"id": 9, "name": "animal", "supercategory": "none"},
        ],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return [folder / "boxes.json"]


def voc_files(folder):
    """A VOC folder of two images."""
    images(folder / "JPEGImages", "a.jpg", "b.png")
    for place in ("Annotations", "ImageSets/Main"):
        (folder / place).mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb 1\n")
    for name in ("a", "b"):
        (folder / "Annotations" / f"{name}.xml").write_text(
            f'<?xml version="1.0" encoding="utf-8"?>\n<annotation><filename>{name}.jpg</filename>'
            f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>\n"
            "<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin>"
            "<xmax>20</xmax><ymax>30</ymax></bndbox></object></annotation>\n"
        )
    return [*folder.glob("Annotations/*.xml"), folder / "ImageSets" / "Main" / "train.txt"]


def yolo_files(folder):
    """A YOLO folder of two splits, one with polygons and one, from a list, with keypoints."""
    images(folder / "images" / "train", "a.png", "b.jpg")
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "data.yaml").write_text(
        "path: .\ntrain: ../images/train\nval: val.txt\nnc: 2\nnames: {0: cat, 1: 'hot, dog'}\n"
    )
    (folder / "val.txt").write_text("./images/train/a.png\nimages/train/b.jpg\n")
    (folder / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.25 0.25\n1 .1 .1 .5 .1 .5 .6\n")
    (folder / "labels" / "train" / "b.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    return [folder / "data.yaml", folder / "val.txt", *folder.glob("labels/train/*.txt")]


def csv_files(folder):
    """A CSV file of two images."""
    images(folder, "a.png", "b.jpg")
    (folder / "boxes.csv").write_text(
        'image,xmin,ymin,xmax,ymax,label\na.png,1,2,30,20,cat\n"b.jpg",0,0,60,40.5,"hot, dog"\n'
    )
    return [folder / "boxes.csv"]


def image_files(folder):
    """One image in each format, and in the modes that have a branch of their own."""
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4)).astype("uint8")
    rgb, rgba = Image.fromarray(noise[..., :3]), Image.fromarray(noise)
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("a.bmp", "a.gif", "a.jpg", "a.png", "a.ppm", "a.tif", "a.webp"):
        rgb.save(folder / name, exif=turned if name[2:] in ("jpg", "png", "tif", "webp") else None)
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("P").save(folder / "palette.png", transparency=3)
    rgb.save(folder / "packed.tif", compression="tiff_lzw")
    rgb.save(folder / "progressive.jpg", progressive=True)
    rgba.save(folder / "alpha.png")
    rgba.save(folder / "alpha.webp", lossless=True)
    Image.fromarray(noise[..., 0].astype("uint16") * 16).save(folder / "deep.png")
    Image.fromarray(noise[..., 0].astype("float32")).save(folder / "float.tif")
    return sorted(folder.iterdir())


def keras_files(folder):
    """A detector as a `.keras` file, its members one by one, and the shapes of its weights."""
    import h5py

    from kerasdet.layers import AnchorGenerator, FeaturePyramid, Subnets
    from kerasdet.models import RetinaNet
    from tests.tiny import TinyBackbone

    model = RetinaNet(
        1,
        backbone=TinyBackbone(levels=("C3",)),
        neck=FeaturePyramid(8, ("C3",), None, name="neck"),
        head=Subnets(8, 1, name="head"),
        anchors=AnchorGenerator([[16.0]], [1.0], [8]),
    )
    folder.mkdir(exist_ok=True)
    model.save(folder / "model.keras")
    with zipfile.ZipFile(folder / "model.keras") as archive:
        archive.extractall(folder)
    shapes = {}

    def note(key, item):
        if isinstance(item, h5py.Dataset):
            shapes[key] = [item.shape, item.dtype.name]

    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(note)
    (folder / "shapes.json").write_text(json.dumps(shapes))
    return sorted(folder.iterdir())


def caffe_files(folder):
    """A network of Caffe in both formats of its weights, and as text."""
    from tests.zoo import caffe_files as writing

    folder.mkdir(exist_ok=True)
    numbers = np.linspace(-1, 1, 24, dtype="float32")
    layers = {
        "conv": ("Convolution", [numbers.reshape(2, 3, 2, 2), numbers[:2]]),
        "fc": ("InnerProduct", [numbers.reshape(4, 6), numbers[:4].astype("float64")]),
    }
    for old in (False, True):
        for packed in (False, True):
            path = folder / f"net{old:d}{packed:d}.caffemodel"
            path.write_bytes(writing.caffemodel(layers, old, packed))
    one = {"name": "conv", "type": "Convolution", "bottom": "data", "top": "conv"}
    one["convolution_param"] = {"num_output": 2, "kernel_size": 2, "bias_term": True}
    pool = {"name": "pool", "type": "Pooling", "pooling_param": {"pool": "MAX", "stride": 2}}
    (folder / "net.prototxt").write_text(writing.prototxt({"data": (1, 3, 9, 9)}, [one, pool]))
    return sorted(folder.iterdir())


def images(folder, *names):
    """Write plain images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (WIDTH, HEIGHT), (90, 160, 200)).save(folder / name)


def read_coco(folder, changed):
    """Read as `kerasdet check` and as training do."""
    from kerasdet.data import coco

    read_all(lambda **how: coco(folder / "boxes.json", folder / "images", **how))


def read_voc(folder, changed):
    """As `read_coco`."""
    from kerasdet.data import voc

    read_all(lambda **how: voc(folder, "train", **how))


def read_yolo(folder, changed):
    """As `read_coco`, both splits."""
    from kerasdet.data import yolo

    for split in ("train", "val"):
        read_all(lambda split=split, **how: yolo(folder, split, **how))


def read_csv(folder, changed):
    """As `read_coco`."""
    from kerasdet.data import csv

    read_all(lambda **how: csv(folder / "boxes.csv", **how))


def read_keras(folder, changed):
    """Load the changed file, or one that is packed again, checksums and all, with the changed part."""
    import keras

    import kerasdet
    from tests import tiny  # noqa: F401 registers the backbone

    path = folder / "model.keras"
    if changed != path:
        path = folder / "packed.keras"
        weights = folder / "model.weights.h5"
        if changed.name == "shapes.json":
            weights = folder / "packed.weights.h5"
            write_shapes(weights, changed)
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("metadata.json", "config.json"):
                archive.write(folder / name, name)
            archive.write(weights, "model.weights.h5")
    try:
        kerasdet.load(path)
    finally:
        keras.utils.clear_session(free_memory=False)


def read_caffe(folder, changed):
    """Read a network's weights, or its text and numbers of all kinds in it."""
    from kerasdet.zoo.checkpoints.caffe_network import READ
    from kerasdet.zoo.checkpoints.caffemodel import read_caffemodel
    from kerasdet.zoo.checkpoints.prototxt import read_prototxt

    if changed.suffix == ".caffemodel":
        read_caffemodel(changed)
        return
    for layer in read_prototxt(changed).messages("layer"):
        for read in READ.values():
            read(layer)


def write_shapes(path, shapes):
    """Write weights of the shapes and types in a JSON file, as far as HDF5 has them."""
    import h5py

    try:
        with h5py.File(path, "w") as file:
            for key, (shape, dtype) in json.loads(shapes.read_text()).items():
                # What is large is declared only: its numbers are not in the file.
                small = np.prod(shape, dtype="float64") <= 1e6
                data = np.zeros(shape, dtype) if small else None
                file.create_dataset(key, shape, dtype, data)
    except Exception as error:
        raise ValueError(f"{shapes} describes no HDF5 file: {error!r:.200}") from error


def read_all(read):
    """Everything that is done with annotations before a model sees them."""
    from pycocotools import mask

    from kerasdet.data import check

    data = read(strict=False)
    str(check(data)).encode("utf-8")
    for index in range(len(data)):
        for rle in data.record(index).masks or ():
            mask.decode(rle)
    read(strict=True)


def read_images(folder, changed):
    """Everything that is asked of an image file."""
    from kerasdet.images import darkness, image_size, load_classes, load_image

    ends = []
    for ask in (image_size, darkness, load_classes, load_image):
        try:
            ends.append(ask(changed))
        except ValueError as error:
            raise_unless_documented(error, folder)
            ends.append(error)
    if isinstance(ends[-1], Exception):
        raise ends[-1]
    if ends[0] != ends[-1].shape[:2]:
        raise AssertionError(f"image_size {ends[0]}, but the image is {ends[-1].shape}")


# Kind of file: (writes sound files and returns those to change, reads the folder and its changed
# file).
KINDS = {
    "coco": (coco_files, read_coco),
    "voc": (voc_files, read_voc),
    "yolo": (yolo_files, read_yolo),
    "csv": (csv_files, read_csv),
    "image": (image_files, read_images),
    "keras": (keras_files, read_keras),
    "caffe": (caffe_files, read_caffe),
}


def mutated(content, draw):
    """A file's bytes with one to four changes; the same for the same state of `draw`."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        is_json = content.startswith(b"{") and draw.random() < 0.8
        content = (_replace_node if is_json else draw.choice(MUTATIONS))(content, draw)
    return content


def _replace_byte(content, draw):
    place = draw.randrange(len(content) or 1)
    return (
        content[:place] + bytes([draw.choice((0, 255, draw.randrange(256)))]) + content[place + 1 :]
    )


def _flip_bit(content, draw):
    changed = bytearray(content or b"\0")
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(content, draw):
    return content[: draw.randrange(len(content) + 1)]


def _remove(content, draw):
    start, end = _span(content, draw)
    return content[:start] + content[end:]


def _repeat(content, draw):
    start, end = _span(content, draw)
    return content[:end] + content[start:end] * draw.choice((1, 1, 50)) + content[end:]


def _move(content, draw):
    start, end = _span(content, draw)
    place = draw.randrange(len(content) + 1)
    return content[:place] + content[start:end] + content[place:]


def _insert(content, draw):
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.randbytes(draw.randrange(1, 9)) + content[place:]


def _replace_word(content, draw):
    """A number, name or quoted text becomes something hostile."""
    words = list(re.finditer(rb'"[^"]*"|-?[0-9][0-9.]*|\w+|\[[^\[\]]*\]', content[:100_000]))
    start, end = draw.choice(words).span() if words else (0, 0)
    hostile = draw.choice(HOSTILE).encode("utf-8", "surrogatepass")
    return content[:start] + hostile + content[end:]


def _replace_node(content, draw):
    """A value of a JSON file becomes something hostile; the file stays JSON."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return _replace_word(content, draw)
    places = []
    nodes = [tree]
    for node in nodes:
        keys = range(len(node)) if isinstance(node, list) else list(node)
        places += [(node, key) for key in keys]
        nodes += [node[key] for key in keys if isinstance(node[key], (dict, list))]
    if not places:
        return content
    node, key = draw.choice(places)
    if draw.random() < 0.1:
        del node[key]
    else:
        node[key] = draw.choice(HOSTILE_VALUES)
    return json.dumps(tree).encode()


def _replace_integer(content, draw):
    """Two or four bytes become a size, as binary headers have them."""
    place, length = draw.randrange(len(content) or 1), draw.choice((2, 4))
    value = draw.choice((0, 1, 255, 4000, 30000, 65535, 2**31 - 1, 2**32 - 1)) % 256**length
    integer = value.to_bytes(length, draw.choice(("big", "little")))
    return content[:place] + integer + content[place + length :]


def _span(content, draw):
    start = draw.randrange(len(content) + 1)
    return start, min(len(content), start + draw.choice((1, 4, 16, 200)))


MUTATIONS = (
    *(_replace_byte, _flip_bit, _cut, _remove, _repeat, _move, _insert, _replace_integer),
    *(_replace_word,) * 4,
)


@dataclasses.dataclass
class Outcome:
    """What the cases of one kind came to."""

    ends: Counter = dataclasses.field(default_factory=Counter)
    slowest: float = 0.0
    megabytes: float = 0.0
    failures: list = dataclasses.field(default_factory=list)


def raise_unless_documented(error, folder):
    """Raise an AssertionError where an error is not of the documented types or names no file."""
    from kerasdet.data import DataError
    from kerasdet.zoo.checkpoints.errors import CheckpointError

    if type(error) not in (ValueError, FileNotFoundError, DataError, CheckpointError):
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    if str(folder) not in str(error):
        raise AssertionError(f"names no file: {error}") from error
    str(error).encode("utf-8")


def run_case(read, seed, folder, originals):
    """Change one file, read the folder and restore it.

    Returns:
        "read" or the name of the documented error.

    Raises:
        AssertionError: any other end.
    """
    draw = random.Random(seed)
    path = draw.choice(sorted(originals))
    path.write_bytes(mutated(originals[path], draw))
    try:
        read(folder, path)
    except Exception as error:
        raise_unless_documented(error, folder)
        return type(error).__name__
    finally:
        path.write_bytes(originals[path])
    return "read"


def work(kind, seed, numbers, functions, folder, pipe):
    """Run cases in this process and tell the parent of each: before it, and how it ended."""
    warnings.simplefilter("ignore")
    write, read = functions
    originals = {path: path.read_bytes() for path in write(folder)}
    for path in originals:
        read(folder, path)
    sound = _megabytes()
    for number in numbers:
        pipe.send(("starts", number, 0.0, 0.0))
        start = time.perf_counter()
        try:
            end = run_case(read, f"{seed}/{kind}/{number}", folder, originals)
        except AssertionError:
            end = "FAILED\n" + traceback.format_exc()
        pipe.send((end, number, time.perf_counter() - start, _megabytes() - sound))
    pipe.send(("done", None, 0.0, 0.0))


def _megabytes():
    """The most memory that this process has held so far.

    Not `ru_maxrss` where Linux tells better: a new process begins with its parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text()).group(1)) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2 ** (20 if sys.platform == "darwin" else 10)


def fuzz(kind, first, count, seed, functions=None):
    """Run the cases first..count-1 of a kind; a process that dies or hangs is begun again.

    Args:
        kind: key of `KINDS`.
        first: number of the first case.
        count: number of the case after the last.
        seed: any text or number.
        functions: those of the kind, `KINDS[kind]` if None.

    Returns:
        An `Outcome`.
    """
    outcome, number = Outcome(), first
    functions = functions or KINDS[kind]
    context = multiprocessing.get_context("spawn")
    while number < count:
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz_{kind}_"))
        mine, theirs = context.Pipe(duplex=False)
        arguments = (kind, seed, range(number, count), functions, folder, theirs)
        process = context.Process(target=work, args=arguments)
        process.start()
        theirs.close()
        number = _follow(process, mine, outcome, count)
        process.kill()
        process.join()
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _follow(process, pipe, outcome, count):
    """Take a process's messages until it is done, dies, hangs or grows; the next case's number."""
    running = None
    while True:
        if not pipe.poll(SECONDS if running is not None else 120):
            outcome.failures.append((running, f"longer than {SECONDS} s"))
            return count if running is None else running + 1
        try:
            end, number, seconds, megabytes = pipe.recv()
        except EOFError:
            process.join()
            outcome.failures.append((running, f"process ended with {process.exitcode}"))
            return count if running is None else running + 1
        if end == "done":
            return count
        running = number if end == "starts" else None
        outcome.slowest = max(outcome.slowest, seconds)
        outcome.megabytes = max(outcome.megabytes, megabytes)
        if end == "starts":
            continue
        outcome.ends[end.partition("\n")[0]] += 1
        if end.startswith("FAILED"):
            outcome.failures.append((number, end))
        if megabytes > MEGABYTES:
            outcome.failures.append((number, f"{megabytes:.0f} MB more than the sound files"))
            return number + 1


def main():
    """Run what the command line asks for, print a line for each kind; exit 1 for failures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20000, help="cases of all kinds together")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    failed = False
    for kind in kinds:
        outcome = fuzz(kind, options.first, -(-options.count // len(kinds)), options.seed)
        ends = ", ".join(f"{count} {end}" for end, count in outcome.ends.most_common())
        print(f"{kind}: {ends}; slowest {outcome.slowest:.2f} s, {outcome.megabytes:.0f} MB more")
        for number, message in outcome.failures:
            print(f"  case {number}: {message.strip()}")
        failed = failed or bool(outcome.failures)
    sys.exit(failed)


if __name__ == "__main__":
    main()
