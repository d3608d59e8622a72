"""What the benchmark beside mmdetection refuses, and what its tables say."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import mmdetection as benchmark

from kerasdet.zoo import list_models
from tests.parity.models import MODELS


def answers(seconds, **values):
    return [{"seconds": second, **values} for second in seconds]


def inference(own_score=0.2, detections=100):
    own = {"detections": detections, "score": own_score, "decode": 0.1}
    return {
        "matmul_flops_per_second": [1e11, 2e11],
        "facts": {
            "kerasdet": {"flops": 4e11, "warm_up": [own]},
            "mmdetection": {"flops": 3e11, "warm_up": [{"score": 0.2}]},
        },
        "answers": {
            "kerasdet": answers((3, 2, 4), **own),
            "mmdetection": answers((6, 6, 5), detections=100),
        },
    }


def training():
    steps = {"kerasdet": (9, 8, 10), "mmdetection": (10, 11, 10)}
    losses = ({"loss": 3.0}, {"loss": 2.0})
    return {
        "matmul_flops_per_second": [2e11, 1e11],
        "facts": {side: {"warm_up": list(losses)} for side in steps},
        "answers": {side: answers(seconds, loss=1.5) for side, seconds in steps.items()},
        "memory_bytes": {
            "kerasdet": {"peak": 5e9, "libraries": 1e9},
            "mmdetection": {"peak": 3e9, "libraries": 1e9},
        },
    }


def test_the_tables():
    report = {
        "machine": {"processor": "P", "cores": 2},
        "inference": {"cascadercnn": inference()},
        "training": {"cascadercnn": training()},
    }
    text = benchmark.tables(report)
    assert "P, 2 cores; float32 matrix product 200 GFLOP/s" in text
    # 3 and 6 seconds; 3e11 / 3 / 2e11.
    assert "| Cascade R-CNN | 3.00 | 6.00 | 0.50 | 0.60 | - | 300 | 0.50 | 100 |" in text
    assert (
        "| Cascade R-CNN | 9.00 | 10.00 | 0.90, MISSED | 0.85 | - | 4000 | 2000 | 2.00, MISSED |"
        in text
    )
    assert "3.000 to 1.500, falls" in text


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (inference(own_score=0.25), "the score is 0.25 here but 0.2 in mmdetection"),
        (inference(detections=99), "99 detections are fewer than 100"),
    ],
)
def test_sides_that_compute_different_things_are_refused(result, message):
    with pytest.raises(SystemExit, match=message):
        benchmark.compare("cascadercnn", "inference", result["facts"], result["answers"])


def test_every_row_is_a_published_model_of_the_parity_run():
    for model in benchmark.MODELS.values():
        assert model.preset in list_models()
        assert MODELS[model.preset].origin == "mmdetection"


def test_both_sides_see_whole_pixels():
    images = benchmark.pixels((2, 5, 7))
    assert images.shape == (2, 5, 7, 3)
    np.testing.assert_array_equal(images, np.rint(images))
    assert images.max() > 200
