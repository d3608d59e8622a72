"""A training killed at any moment goes on as if nothing had happened."""

import io
import json
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kerasdet.training.checkpoints import load_checkpoint
from kerasdet.training.run_folder import RunFolder
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
    (tmp_path / "killed" / ".01234567-89-76543210.checkpoint.npz").write_bytes(b"half")
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


def test_a_finished_run_says_that_resuming_changes_nothing(finished, tmp_path, capsys):
    folder, _, history = finished
    out = tmp_path / "copy"
    shutil.copytree(folder, out)
    _, again = run(out, epochs=1, resume=True, verbose=2)
    assert f"{out} has finished its 1 epochs: resuming changes nothing" in capsys.readouterr().out
    assert again == history
    assert json.loads((out / "recipe.json").read_text())["epochs"] == 1


def test_more_epochs_continue_a_finished_run_and_fewer_change_nothing(finished, tmp_path, capsys):
    folder, _, history = finished
    out = tmp_path / "copy"
    shutil.copytree(folder, out)
    model, longer = run(out, epochs=3, resume=True, verbose=2)
    assert "changes nothing" not in capsys.readouterr().out
    assert longer["epoch"] == [1, 2, 3]
    assert longer["loss"][0] == history["loss"][0]
    assert int(model.optimizer.iterations) == 18
    # Six steps an epoch: the cosine from 0.003 over 18 steps, after 12 and after 18 of them.
    assert longer["lr"][1:] == pytest.approx([0.0007725, 0.00003], rel=1e-3)
    recipe = json.loads((out / "recipe.json").read_text())
    assert (recipe["epochs"], recipe["warmup_steps"]) == (3, 0)
    _, again = run(out, epochs=2, resume=True, verbose=2)
    assert again == longer
    assert "has finished its 3 epochs: resuming changes nothing" in capsys.readouterr().out
    assert json.loads((out / "recipe.json").read_text())["epochs"] == 3


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


def edited(name, value):
    """An edit of a checkpoint's arrays."""
    return lambda arrays: arrays.update({name: value(arrays[name])})


def holding(text):
    """An edit that puts another text in the place of a checkpoint's progress."""
    return edited("about", lambda _: np.frombuffer(text.encode(), np.uint8))


CHECKPOINTS = {
    "not finite": (
        edited("model_00000", lambda a: a * np.nan),
        "conv2d.*/kernel holds NaN or infinite values",
    ),
    "one infinity": (
        edited("optimizer_00003", lambda a: a + np.inf),
        "holds NaN or infinite values",
    ),
    "another type": (
        edited("model_00000", lambda a: a.astype("f8")),
        "holds float64, here float32",
    ),
    "a large shape": (
        edited("model_00001", lambda a: np.zeros((1000, 1000))),
        "it holds .1000, 1000.",
    ),
    "objects": (
        edited("model_00000", lambda a: np.array([{}], object)),
        "no numbers in model_00000",
    ),
    "one array missing": (lambda arrays: arrays.pop("model_00000"), "it holds nothing"),
    "one array too many": (
        lambda arrays: arrays.update(x=np.zeros(2)),
        "for x it holds .2,., here nothing",
    ),
    "no progress": (lambda arrays: arrays.pop("about"), "holds no progress of a training"),
    "no JSON": (holding("{"), "holds no progress of a training"),
    "deep JSON": (holding("[" * 100_000), "holds no progress of a training"),
    "a list": (holding("[]"), "holds no progress of a training"),
    "no format": (holding('{"rows": []}'), "another version of kerasdet"),
    "a later format": (holding('{"format": 2, "rows": []}'), "another version of kerasdet"),
}


@pytest.mark.parametrize("fault", CHECKPOINTS)
def test_a_checkpoint_that_is_refused_leaves_the_model_as_it_is(finished, tmp_path, fault):
    folder, model, _ = finished
    edit, message = CHECKPOINTS[fault]
    with np.load(folder / "checkpoint.npz") as file:
        arrays = dict(file)
    edit(arrays)
    path, before = tmp_path / "checkpoint.npz", weights_and_optimizer(model)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint(path, model)
    assert str(path) in str(caught.value)
    for ours, theirs in zip(weights_and_optimizer(model), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("rows", [None, 7, [1], [{"epoch": 1}], [{"epoch": 1, "minutes": "x"}]])
def test_rows_that_no_run_writes_are_named(tmp_path, rows):
    folder = RunFolder(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint\.npz holds no rows of a training run"):
        folder.restore({"rows": rows})
    folder.restore({"rows": [{"epoch": 1, "minutes": 0.5, "val_mAP": 0.25}]})
    assert folder.best("val_mAP") == 0.25


def test_a_header_that_lies_takes_no_memory(finished, tmp_path):
    _, model, _ = finished
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (8, 8, 3, 10**12)}
    )
    path = tmp_path / "checkpoint.npz"
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("model_00000.npy", head.getvalue())
        with pytest.raises(ValueError, match=r"checkpoint\.npz has (0 bytes of|.*compressed)"):
            load_checkpoint(path, model)


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
