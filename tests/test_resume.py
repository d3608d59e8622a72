"""A training killed at any moment goes on as if nothing had happened."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kerasdet.training.checkpoints import load_checkpoint
from tests.training_parts import run

ROOT = Path(__file__).parents[1]


def weights_and_optimizer(model):
    return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


def kill_in_second_epoch(out):
    """Start the run in another process and kill it at a random moment of its second epoch."""
    code = f"from tests.training_parts import Slow, run; run({str(out)!r}, callbacks=[Slow()])"
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    for line in child.stdout:
        if line.strip() == "epoch 2":
            break
    # Six steps of 0.05 s and more, then validation and the writing of files.
    delay = random.uniform(0, 0.8)
    time.sleep(delay)
    child.kill()
    child.stdout.close()
    assert child.wait() == -9, "the process ended before it was killed"
    return delay


def test_resumed_run_equals_uninterrupted_run(tmp_path):
    straight, history = run(tmp_path / "straight")
    delay = kill_in_second_epoch(tmp_path / "killed")
    # What it might have left of a file, had the kill come a little later or earlier.
    (tmp_path / "killed" / ".0123456789ab.checkpoint.npz").write_bytes(b"half")
    # Another seed for the first weights: all that counts must come from the checkpoint.
    resumed, resumed_history = run(tmp_path / "killed", resume=True, seed=5)

    assert resumed_history["epoch"] == history["epoch"] == [1, 2, 3], f"killed after {delay} s"
    assert int(resumed.optimizer.iterations) == int(straight.optimizer.iterations) == 18
    for a, b in zip(weights_and_optimizer(resumed), weights_and_optimizer(straight), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    for name in ("loss", "val_loss", "val_mAP", "lr"):
        np.testing.assert_allclose(resumed_history[name], history[name], atol=1e-5)
    assert resumed_history["minutes"] == sorted(resumed_history["minutes"])
    assert not list((tmp_path / "killed").glob(".*"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, *run(folder, epochs=1)


def test_resuming_a_finished_run_changes_nothing(finished):
    folder, model, history = finished
    again, history_again = run(folder, epochs=1, resume=True, seed=5)
    assert history_again == history
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_is_not_overwritten(finished):
    folder, _, _ = finished
    with pytest.raises(FileExistsError, match="resume"):
        run(folder, epochs=1)
    with pytest.raises(ValueError, match="weight_decay"):
        run(folder, epochs=1, resume=True, weight_decay=0.5)


def test_checkpoint_of_another_model_is_refused(finished, tmp_path):
    folder, model, _ = finished
    with np.load(folder / "checkpoint.npz") as file:
        arrays = dict(file)
    arrays["model_00000"] = arrays["model_00000"][:-1]
    np.savez(tmp_path / "checkpoint.npz", **arrays)
    with pytest.raises(ValueError, match="another model"):
        load_checkpoint(tmp_path / "checkpoint.npz", model)


def test_damaged_checkpoint_is_named(finished, tmp_path):
    folder, model, _ = finished
    whole = (folder / "checkpoint.npz").read_bytes()
    path = tmp_path / "checkpoint.npz"
    for content in (whole[: len(whole) // 2], b"", b"not a zip file"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.npz"):
            load_checkpoint(path, model)


def test_recipe_is_kept(finished):
    saved = json.loads((finished[0] / "recipe.json").read_text())
    assert saved["batch_size"] == 4
    assert saved["learning_rate"] == 3e-3
    assert saved["warmup_steps"] == 0  # a twentieth of six steps, filled in
