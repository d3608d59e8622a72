"""The rule of sampled tables: one case of each kind is run always, the others by `--all`."""

from tests.layers import test_everywhere as of_layers
from tests.ops import test_everywhere as of_ops
from tests.ops.operations import OPERATIONS
from tests.sampling import sampled, share

CASES = [(letter, number) for letter in "xyz" for number in range(4)]


def always(rows):
    return [row.values for row in rows if not row.marks]


def test_one_case_of_each_kind_is_run_always():
    rows = sampled(CASES, lambda letter, number: letter)
    assert [row.values for row in rows] == CASES
    assert [letter for letter, _ in always(rows)] == ["x", "y", "z"]
    assert {mark.name for row in rows for mark in row.marks} == {"left_out"}
    assert always(sampled(CASES, lambda letter, number: letter)) == always(rows)
    assert always(sampled(CASES, lambda *case: case)) == CASES
    assert len(always(sampled("abc", lambda letter: None))) == 1


def run_always(test):
    (mark,) = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    return always(mark.args[1])


def test_the_detectors_of_the_contract_are_shared_among_its_tests():
    names, tests = "abcdefgh", [f"test_{number}" for number in range(30)]
    shares = [share(names, test, 5) for test in tests]
    assert {len(chosen) for chosen in shares} == {5}
    assert shares == [share(reversed(names), test, 5) for test in tests]
    counts = [sum(name in chosen for chosen in shares) for name in names]
    assert min(counts) > 5
    assert share("abc", "test", 5) == set("abc")


def operations(rows):
    return {of_ops.operation_of(name) for name in rows}


def test_every_operation_is_run_in_a_graph_and_by_xla():
    rows = run_always(of_ops.test_values_and_gradients_equal_the_eager_ones)
    found = {(of_ops.operation_of(name), of_ops.ENVIRONMENT[way]) for name, way in rows}
    assert len(rows) == len(found)
    assert found == {(name, way) for name in operations(OPERATIONS) for way in ("graph", "xla")}


def test_every_operation_is_run_as_a_file_and_in_half_precision():
    of_onnx = run_always(of_ops.test_onnx_of_any_size_gives_the_same)
    assert operations(name for (name,) in of_onnx) == operations(OPERATIONS)
    of_litert = run_always(of_ops.test_litert_builtins_give_the_same)
    assert operations(name for (name,) in of_litert) == operations(OPERATIONS) - {"box_ciou"}
    of_halves = run_always(of_ops.test_half_precision)
    rounded = operations(name for name, operation in OPERATIONS.items() if operation.features)
    assert operations(name for name, _ in of_halves) == rounded


def test_every_layer_is_run_in_half_precision():
    rows = run_always(of_layers.test_half_precision_keeps_boxes_and_weights_in_float32)
    assert [name for name, _ in rows] == of_layers.DIFFERENTIABLE
