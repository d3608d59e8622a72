"""Options of the command line about how data are read, and the splits that it finds."""

import numpy as np
import pytest
from PIL import Image

from kerasdet.cli import main
from kerasdet.cli.detect import find_images
from tests.data.folders import HEIGHT, WIDTH, image, voc_folder, voc_object


def checked(tmp_path, capsys, *arguments):
    """What `kerasdet check` prints."""
    with pytest.raises(SystemExit) as ended:
        main(["check", "--out", str(tmp_path / "sheet.png"), *map(str, arguments)])
    assert ended.value.code == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_voc_data_that_count_from_zero(tmp_path, capsys):
    root = voc_folder(tmp_path, train={"a": [voc_object(box=(0, 0, 20, 10))]})
    assert "--voc-zero-based" in checked(tmp_path, capsys, "--data", f"voc:{root}")
    printed = checked(tmp_path, capsys, "--data", f"voc:{root}", "--voc-zero-based")
    assert "faults: none" in printed


def test_gray_levels(tmp_path, capsys):
    levels = np.linspace(0, 4095, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype("uint16")
    Image.fromarray(levels).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("image,xmin,ymin,xmax,ymax,label\na.png,1,1,9,9,cat\n")
    data = f"csv:{tmp_path / 'a.csv'}"
    assert "dark_image" in checked(tmp_path, capsys, "--data", data)
    assert "faults: none" in checked(tmp_path, capsys, "--data", data, "--gray-max", 4095)


def test_a_warning_is_a_line_without_code(tmp_path, capsys):
    Image.fromarray(np.full((HEIGHT, WIDTH), 9, "uint16")).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("image,xmin,ymin,xmax,ymax,label\na.png,1,1,9,9,cat\n")
    sheet = tmp_path / "sheet.png"
    with pytest.raises(SystemExit):
        main(["check", "--data", f"csv:{tmp_path / 'a.csv'}", "--out", str(sheet)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kerasdet: warning: {tmp_path / 'a.png'}: its levels reach 9 where")


@pytest.mark.parametrize("images", [{"a": [voc_object()]}, {}])
def test_faults_are_reported_without_a_contact_sheet(tmp_path, capsys, images):
    root = voc_folder(tmp_path, train=images, val={"b": [voc_object()]})
    if images:
        image(root / "JPEGImages" / "a.jpg", (20, 30))
    printed = checked(tmp_path, capsys, "--data", f"voc:{root}")
    assert ("unreadable_image" in printed) == bool(images)
    assert "no contact sheet: no image can be drawn" in printed
    assert not (tmp_path / "sheet.png").exists()


def test_splits_that_data_yaml_names(tmp_path, capsys):
    for split, count in (("training", 3), ("validation", 2)):
        (tmp_path / "labels" / split).mkdir(parents=True)
        for number in range(count):
            image(tmp_path / "images" / split / f"{number}.png")
    (tmp_path / "data.yaml").write_text(
        "train: images/training\nval: images/validation\nnames: [cat]\n"
    )
    assert "3 images, 1 classes" in checked(tmp_path, capsys, "--data", f"yolo:{tmp_path}")
    printed = checked(tmp_path, capsys, "--data", f"yolo:{tmp_path}", "--split", "val")
    assert "2 images, 1 classes" in printed


def test_a_voc_folder_without_lists(tmp_path, capsys):
    image(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(f"<a>{voc_object()}</a>")
    assert "1 images, 1 classes (cat)" in checked(tmp_path, capsys, "--data", f"voc:{tmp_path}")


def test_what_a_mac_leaves_is_not_detected_on(tmp_path):
    for name in ("a.png", "._a.png"):
        (tmp_path / name).touch()
    assert find_images([str(tmp_path)]) == [tmp_path / "a.png"]
