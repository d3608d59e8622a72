"""Who may import whom: the house's floors, the papers' family tree and the places of TensorFlow.

The tables are literal and are the documentation. A new file joins with one line.
"""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"kerasdet": "kerasdet", "zoo": "kerasdet.zoo", "export": "kerasdet.export"}

# Floor or module: what it may import. Imports run down only.
FLOORS = {
    "files": set(),
    "images": set(),
    "ops": set(),
    "layers": {"ops"},
    "backbones": {"layers", "ops"},
    "data": {"files", "images"},
    "distribute": set(),
    "visualize": {"files", "images", "ops"},
    "metrics": {"data", "files", "ops", "visualize"},
    "callbacks": {"data", "files", "metrics", "visualize"},
    "models": {"backbones", "images", "distribute", "files", "layers", "ops"},
    "zoo": {"files"},
    "export": {"files", "layers", "models", "ops"},
    "training": {"callbacks", "data", "files", "layers", "metrics", "visualize", "zoo"},
    "cli": {
        *("backbones", "callbacks", "data", "export", "files", "layers", "metrics", "models"),
        *("training", "visualize", "zoo"),
    },
}

# Upward, inside functions only: a method of the contract that calls a tool above it.
LAZY = {
    ("models", "zoo"): "Detector.from_preset",
    ("models", "export"): "Detector.export",
    ("backbones", "zoo"): "Backbone.from_preset",
    ("zoo", "models"): "kerasdet.load builds the model that a manifest names",
    ("zoo", "backbones"): "the same for classifiers",
    ("zoo", "layers"): "kerasdet.zoo.origins.darknet builds what a configuration file describes",
    ("data", "visualize"): "the contact sheet of kerasdet.data.check",
}

# Paper: the ancestors whose parts it may use. Never a sibling.
FAMILY = {
    "base": {"guards", "rates"},
    "cascade_rcnn": {"detector", "fast_rcnn", "faster_rcnn"},
    "cascade_rfcn": {"cascade_rcnn", "rfcn"},
    "deformable_faster_rcnn": {"faster_rcnn"},
    "deformable_rfcn": {"deformable_faster_rcnn", "rfcn"},
    "detector": {"base"},
    "fast_rcnn": {"base", "detector"},
    "faster_rcnn": {"base", "detector", "fast_rcnn", "region_proposals"},
    "fcos": {"base", "detector"},
    "guards": set(),
    "integral_rcnn": {"base", "cascade_rcnn", "fast_rcnn", "faster_rcnn"},
    "keypoint_rcnn": {"base", "faster_rcnn", "mask_rcnn"},
    "mask_rcnn": {"base", "fast_rcnn", "faster_rcnn"},
    "ohem": {"fast_rcnn"},
    "rates": set(),
    "region_proposals": set(),
    "retinanet": {"base", "detector"},
    "rfcn": {"base", "fast_rcnn", "faster_rcnn"},
    "ssd": {"base", "detector"},
    "ssdlite": {"detector", "ssd"},
    "truncated_svd": {"fast_rcnn"},
    "yolo": {"base", "detector"},
    "yolo_v2": {"base", "detector"},
}

# Files that may name TensorFlow. "lazy": inside functions only, so that the module imports without it.
TENSORFLOW = {
    "kerasdet/ops/native/": "lazy",
    "kerasdet/data/": "lazy",
    "kerasdet/distribute.py": "lazy",
    "kerasdet/callbacks.py": "lazy",
    "kerasdet/training/event_file.py": "lazy",
    "kerasdet/cli/": "lazy",
    "export/": "lazy",
    "zoo/checkpoints/tensorflow_v1.py": "lazy",
}

# What a machine with JAX alone must be able to import.
WITHOUT_TENSORFLOW = (
    *("kerasdet", "kerasdet.ops", "kerasdet.layers", "kerasdet.backbones", "kerasdet.models"),
    *("kerasdet.metrics", "kerasdet.visualize", "kerasdet.callbacks", "kerasdet.data"),
    *("kerasdet.zoo", "kerasdet.training", "kerasdet.distribute"),
)


def modules():
    """{dotted name: path} of the package, top-level zoo/ and export/ under their installed names."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(source):
    """(module name, line, whether inside a function) of every import in a source text."""
    found = []

    def visit(node, lazy):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, child.lineno, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                module = "." * child.level + (child.module or "")
                found.extend(
                    (f"{module}.{alias.name}", child.lineno, lazy) for alias in child.names
                )
            visit(child, lazy or isinstance(child, ast.FunctionDef | ast.Lambda))

    visit(ast.parse(source), False)
    return found


def floor(name):
    """The row of FLOORS that a dotted name belongs to; None for the package itself and strangers."""
    package, _, rest = name.partition(".")
    unit = rest.split(".")[0]
    return unit if package == "kerasdet" and unit and not unit.startswith("__") else None


def paper(name):
    """The row of FAMILY that a dotted name belongs to."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["kerasdet", "models"] and len(parts) > 2 else None


def floor_faults(name, source):
    """Messages for the imports of module `name` that leave the tables FLOORS and LAZY."""
    here, faults = floor(name), []
    if here is None:
        return faults
    if here not in FLOORS:
        return [f"{name}: no row {here!r} in FLOORS (tests/test_architecture.py)"]
    for line, there, lazy in dict.fromkeys(
        (n, floor(target), lazy) for target, n, lazy in imports(source)
    ):
        if there in (None, here) or there in FLOORS[here] or (lazy and (here, there) in LAZY):
            continue
        table = "LAZY outside functions" if (here, there) in LAZY else "FLOORS"
        faults.append(
            f"{name}, line {line}: {here} -> {there} is not allowed by {table} "
            "(tests/test_architecture.py)"
        )
    return faults


def family_faults(name, source):
    """Messages for the imports of paper `name` that leave the table FAMILY."""
    here = paper(name)
    if here is None:
        return []
    if here not in FAMILY:
        return [f"{name}: no row {here!r} in FAMILY (tests/test_architecture.py)"]
    return [
        f"{name}, line {line}: {here} -> {paper(target)}: no ancestor by FAMILY (tests/test_architecture.py)"
        for target, line, _ in imports(source)
        if paper(target) in FAMILY.keys() - FAMILY[here] - {here}
    ]


def tensorflow_faults(path, source):
    """Messages for imports of TensorFlow outside the table TENSORFLOW."""
    allowed = next((how for where, how in TENSORFLOW.items() if path.startswith(where)), None)
    return [
        f"{path}, line {line}: imports {target}; allowed by TENSORFLOW (tests/test_architecture.py): "
        f"{'inside functions' if allowed else 'nowhere in this file'}"
        for target, line, lazy in imports(source)
        if target.split(".")[0] == "tensorflow" and not (allowed and lazy)
    ]


def test_imports_run_down_only():
    faults = [
        fault
        for name, path in modules().items()
        for fault in floor_faults(name, path.read_text("utf-8"))
    ]
    assert not faults, "\n".join(faults)


def test_floors_are_a_ladder():
    done = set()
    while ready := {unit for unit, below in FLOORS.items() if unit not in done and below <= done}:
        done |= ready
    assert done == set(FLOORS), f"FLOORS has a circle among {sorted(set(FLOORS) - done)}"


def test_papers_import_ancestors_only():
    faults = [
        fault
        for name, path in modules().items()
        for fault in family_faults(name, path.read_text("utf-8"))
    ]
    assert not faults, "\n".join(faults)


def test_family_is_a_tree_of_files():
    files = {paper(name) for name in modules()} - {None}
    assert files == set(FAMILY), "each file of kerasdet/models has one row in FAMILY"
    assert all(parents <= set(FAMILY) for parents in FAMILY.values())


def test_tensorflow_is_where_the_table_says():
    faults = [
        fault
        for path in modules().values()
        for fault in tensorflow_faults(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
    ]
    assert not faults, "\n".join(faults)


def test_imports_are_absolute():
    faults = [
        f"{name}, line {line}: {target}"
        for name, path in modules().items()
        for target, line, _ in imports(path.read_text("utf-8"))
        if target.startswith(".")
    ]
    assert not faults, "relative imports (write kerasdet. ...): " + "; ".join(faults)


def test_modules_do_not_import_each_other_in_circles():
    known = modules()
    graph = {
        name: {
            found
            for target, _, lazy in imports(path.read_text("utf-8"))
            for found in (target, target.rpartition(".")[0])
            if not lazy and found in known and not known[found].name.startswith("__")
        }
        for name, path in known.items()
    }
    done = set()
    while ready := {name for name, below in graph.items() if name not in done and below <= done}:
        done |= ready
    assert done == set(graph), f"a circle among {sorted(set(graph) - done)}"


def test_every_module_says_what_it_owns():
    silent = [
        str(path.relative_to(ROOT))
        for path in modules().values()
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not silent, f"no module docstring: {silent}"


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("kerasdet.ops.boxes", "from kerasdet.layers.conv import ConvNorm", "ops -> layers"),
        ("kerasdet.layers.conv", "from kerasdet import models", "layers -> models"),
        ("kerasdet.models.detector", "from kerasdet import zoo", "models -> zoo"),
        ("kerasdet.models.detector", "import kerasdet.cli", "models -> cli"),
        ("kerasdet.newcomer", "", "no row 'newcomer'"),
    ],
)
def test_a_broken_edge_is_named(name, source, fault):
    (message,) = floor_faults(name, source)
    assert fault in message
    assert "tests/test_architecture.py" in message


def test_allowed_edges_pass():
    assert not floor_faults("kerasdet.layers.conv", "from kerasdet.ops import native\nimport keras")
    assert not floor_faults("kerasdet.models.detector", "def f():\n    from kerasdet import zoo")
    assert not family_faults(
        "kerasdet.models.retinanet", "from kerasdet.models.detector import Detector"
    )


def test_a_sibling_is_named():
    (message,) = family_faults(
        "kerasdet.models.detector", "from kerasdet.models.retinanet import RetinaNet"
    )
    assert "detector -> retinanet" in message


@pytest.mark.parametrize(
    ("path", "source", "faults"),
    [
        ("kerasdet/layers/conv.py", "def f():\n    import tensorflow as tf", 1),
        ("kerasdet/distribute.py", "import tensorflow as tf", 1),
        ("kerasdet/distribute.py", "def f():\n    from tensorflow import io", 0),
        ("export/onnx.py", "def f():\n    import tensorflow as tf", 0),
    ],
)
def test_a_misplaced_tensorflow_is_named(path, source, faults):
    assert len(tensorflow_faults(path, source)) == faults


def test_the_package_imports_where_tensorflow_is_absent(tmp_path):
    program = f"""
    import importlib, sys

    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "tensorflow":
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

    sys.meta_path.insert(0, Refuse())
    for name in {WITHOUT_TENSORFLOW!r}:
        importlib.import_module(name)
    model = importlib.import_module("kerasdet.models").RetinaNet
    assert "tensorflow" not in sys.modules
    print("imported", model.__name__)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "imported RetinaNet"
