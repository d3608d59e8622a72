"""YOLOv2 and tiny YOLOv2 compared with OpenCV's dnn module, in one run, on the CPU.

    python benchmarks/yolo.py --opencv-python ENV/bin/python

One 416x416 image, pixels to final boxes, two threads on each side. Both sides read the same files of
Darknet: the networks of its yolov2-voc.cfg and yolov2-tiny-voc.cfg, with random weights. OpenCV's region
layer drops scores below the threshold and suppresses by itself; the rest of both sides is the same: the
best 100 pairs of box and class. OpenCV 5 reads no such files: the environment needs
opencv-contrib-python-headless<5.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from _detectors import (
    HALF,
    OWN,
    detector_inference,
    has_bfloat16,
    head_line,
    judged,
    measure,
    middle,
    number,
    random_images,
    serve_side,
)
from _harness import machine, markdown, seconds, write_report

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"  # writes Darknet's files, too
RESULTS = Path(__file__).parent / "results" / "yolo.json"
PEER = "opencv"
SIDE = 416
THREADS = 2
SCORE_THRESHOLD = 0.08
IOU_THRESHOLD = (
    0.4  # the default of OpenCV's region layer, which its reader of Darknet's files keeps
)
DETECTIONS = 100
# Of the mean score; beyond it the sides compute different things. Boxes are clipped to the image before
# suppression here and after it in OpenCV; that decides a few pairs.
AGREEMENT = 0.05
LIMIT = 1.0  # times OpenCV's time
REGION = """[region]
anchors={}
classes=20
coords=4
num=5
softmax=1
absolute=1
thresh={}
"""


class Model(NamedTuple):
    """A network: title, the function that writes its configuration, its anchors in cells."""

    title: str
    layers: object
    anchors: str


def yolo_v2_layers():
    """Return the sections of yolov2-voc.cfg between [net] and [region]."""
    from make_darknet import LINEAR, POOL, conv

    def block(filters, depth):
        return "".join(conv(filters // (1 + i % 2), 1 if i % 2 else 3) for i in range(depth))

    darknet19 = POOL.join(
        block(filters, depth)
        for filters, depth in ((32, 1), (64, 1), (128, 3), (256, 3), (512, 5), (1024, 5))
    )
    passthrough = (
        "[route]\nlayers=-9\n" + conv(64, 1) + "[reorg]\nstride=2\n[route]\nlayers=-1,-4\n"
    )
    return darknet19 + conv(1024) * 2 + passthrough + conv(1024) + LINEAR.format(125)


def tiny_layers():
    """Return the sections of yolov2-tiny-voc.cfg between [net] and [region]."""
    from make_darknet import LINEAR, conv, trunk

    last_pool = "[maxpool]\nsize=2\nstride=1\n"
    return trunk(16, 32, 64, 128, 256) + conv(512) + last_pool + conv(1024) * 2 + LINEAR.format(125)


MODELS = {
    "yolo_v2_416": Model(
        "YOLOv2",
        yolo_v2_layers,
        "1.3221,1.73145, 3.19275,4.00944, 5.05587,8.09892, 9.47112,4.84053, 11.2364,10.0071",
    ),
    "yolo_v2_tiny": Model(
        "tiny YOLOv2", tiny_layers, "1.08,1.19, 3.42,4.41, 6.63,11.38, 9.42,5.11, 16.62,10.52"
    ),
}


def write_files(name, folder):
    """Write a network's configuration and random weights, `network.cfg` and `network.weights`."""
    sys.path.append(str(GOLDEN))
    from make_darknet import NET, random_weights

    region = REGION.format(MODELS[name].anchors, SCORE_THRESHOLD)
    text = NET.format(width=SIDE, height=SIDE) + MODELS[name].layers() + region
    (folder / "network.cfg").write_text(text, "utf-8")
    random_weights(text, folder / "network.weights", version=2)


# -- the sides ------------------------------------------------------------------------------------


def kerasdet_side(folder, precision="float32"):
    import keras
    import tensorflow as tf

    from kerasdet.zoo import load_darknet

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    keras.config.set_dtype_policy(precision)
    model = load_darknet(
        folder / "network.cfg",
        folder / "network.weights",
        score_threshold=SCORE_THRESHOLD,
        iou_threshold=IOU_THRESHOLD,
        max_detections=DETECTIONS,
    )
    return detector_inference(model, random_images(1, SIDE, SIDE))


def opencv_side(folder):
    import cv2
    import numpy as np

    cv2.setNumThreads(THREADS)
    network = cv2.dnn.readNetFromDarknet(
        str(folder / "network.cfg"), str(folder / "network.weights")
    )
    network.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    pixels = random_images(1, SIDE, SIDE)[0]

    def detect():
        network.setInput(cv2.dnn.blobFromImage(pixels, 1 / 255))
        rows = network.forward()  # centre and size per image, objectness, scores of classes
        boxes, labels = np.nonzero(rows[:, 5:])
        scores = rows[boxes, 5 + labels]
        best = np.argsort(-scores)[:DETECTIONS]
        centre, half = rows[boxes[best], :2], rows[boxes[best], 2:4] / 2
        corners = np.concatenate([centre - half, centre + half], axis=1) * SIDE
        return np.clip(corners, 0, SIDE), labels[best], scores[best]

    def run():
        found = {}
        total = seconds(lambda: found.update(scores=detect()[2]))
        scores = found["scores"]
        return {"seconds": total, "detections": len(scores), "score": float(scores.mean())}

    return run, {"version": cv2.__version__}


# -- the run --------------------------------------------------------------------------------------


def worker(side, folder):
    """Serve one side of a network, whose files lie in the folder."""
    if side == PEER:
        serve_side(lambda: opencv_side(folder))
    else:
        precision = "mixed_bfloat16" if side == HALF else "float32"
        serve_side(lambda: kerasdet_side(folder, precision))


def measured(name, repetitions, opencv_python):
    """Return all figures of one network, a dict for the report."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(name, Path(folder))
        commands = {
            side: [
                (side == PEER and opencv_python) or sys.executable,
                *(str(Path(__file__).resolve()), "--worker", side, folder),
            ]
            for side in (OWN, PEER, *([HALF] if has_bfloat16() else []))
        }
        result = measure(commands, repetitions, with_memory=False, peer=PEER)
    own, peer = (result["answers"][side][-1] for side in (OWN, PEER))
    if abs(own["score"] - peer["score"]) > AGREEMENT * peer["score"]:
        raise SystemExit(
            f"{name}: the mean score is {own['score']}, but {peer['score']} in OpenCV."
        )
    if {own["detections"], peer["detections"]} != {DETECTIONS}:
        raise SystemExit(
            f"{name}: {own['detections']} and {peer['detections']} detections, not {DETECTIONS}."
        )
    return result


def row(name, result):
    """Return a row of the table."""
    own, half, peer = (middle(result, side) for side in (OWN, HALF, PEER))
    useful, rate = result["facts"][OWN]["flops"], max(result["matmul_flops_per_second"])
    return {
        "one image": MODELS[name].title,
        "kerasdet, s": f"{own:.3f}",
        "OpenCV, s": f"{peer:.3f}",
        "ratio": judged(own / peer, LIMIT),
        "limit": number(LIMIT),
        "kerasdet in bfloat16, s": "-" if half is None else f"{half:.3f}",
        "useful GFLOP": f"{useful / 1e9:.1f}",
        "useful FLOPs / matrix-product rate": number(useful / own / rate),
        "decode + NMS": f"{middle(result, OWN, 'decode') / own:.1%}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--opencv-python", help="interpreter that has OpenCV 4")
    parser.add_argument("--out", help="JSON file; the table is written beside it")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        side, folder = arguments.worker
        worker(side, Path(folder))
        return
    results = {
        name: measured(name, arguments.repetitions, arguments.opencv_python)
        for name in arguments.models
    }
    report = {"machine": machine(), "settings": {"size": SIDE, "threads": THREADS}}
    report["inference"] = results
    rate = max(max(result["matmul_flops_per_second"]) for result in results.values())
    table = head_line(report["machine"], rate) + "\n\n"
    table += markdown([row(name, result) for name, result in results.items()])
    out = arguments.out or (RESULTS if set(arguments.models) == set(MODELS) else None)
    if out:
        write_report(out, report, table)
    else:
        print(table)


if __name__ == "__main__":
    main()
