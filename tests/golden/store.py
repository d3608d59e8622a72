"""Golden files: cases of an operation with inputs, output and gradients, all in one .npz.

The scripts of this folder write with `save`, the tests read with `load`. Needs NumPy alone.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


@dataclass
class Case:
    """One call of an operation of `kerasdet.ops`, and what it gives.

    Args:
        op: name in `kerasdet.ops`.
        inputs: {argument: array}, in the layout of `kerasdet.ops`.
        options: {argument: plain value}, the other arguments.
        output: array.
        gradients: {argument: array}, of `sum(output * upstream(output.shape))`.
    """

    op: str
    inputs: dict
    options: dict
    output: np.ndarray
    gradients: dict = field(default_factory=dict)


def upstream(shape):
    """Weights of the outputs in the sum that is differentiated: no two alike, float64."""
    return np.cos(np.arange(np.prod(shape), dtype="float64")).reshape(shape)


def save(path, cases, versions):
    """Write the cases; floats become float32, integers int32.

    Args:
        path: .npz file.
        cases: {name: Case}.
        versions: {package: version} of what computed them, kept in the file's header.
    """
    header = {"versions": versions, "cases": {}}
    arrays = {}
    for name, case in cases.items():
        header["cases"][name] = {"op": case.op, "options": case.options}
        arrays[f"{name}/output"] = case.output
        for kind in ("inputs", "gradients"):
            arrays.update({f"{name}/{kind}.{k}": v for k, v in getattr(case, kind).items()})
    arrays = {
        key: np.asarray(value, "float32" if np.asarray(value).dtype.kind == "f" else "int32")
        for key, value in arrays.items()
    }
    temporary = Path(path).with_name(f".{Path(path).name}")
    np.savez_compressed(temporary, header=json.dumps(header), **arrays)
    os.replace(temporary, path)


def load(name):
    """Read the cases of a golden file of this folder: file name -> {case name: Case}."""
    with np.load(FOLDER / name) as file:
        header = json.loads(str(file["header"]))
        cases = {}
        for case, about in header["cases"].items():
            options = {
                k: tuple(v) if isinstance(v, list) else v for k, v in about["options"].items()
            }
            cases[case] = Case(about["op"], {}, options, file[f"{case}/output"])
        for key in file.files:
            case, _, kind = key.rpartition("/")
            kind, _, argument = kind.partition(".")
            if argument:
                getattr(cases[case], kind)[argument] = file[key]
    return cases
