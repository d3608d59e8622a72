"""The decision between TensorFlow's kernels and the portable form, and the order of a graph's branches."""

import contextlib

import pytest
import tensorflow as tf

from kerasdet.ops import native


def test_portable_belongs_to_its_context():
    with native.portable():
        with native.portable():
            assert not native.available()
        assert not native.available()
    assert native.available()


@pytest.mark.parametrize("form", [contextlib.nullcontext, native.portable])
def test_after_orders_a_graphs_branches(form):
    @tf.function
    def branches(x):
        first = tf.exp(x, name="first")
        with form():
            waiting = native.after(x, [first])
        return first, tf.sin(waiting, name="second")

    graph = branches.get_concrete_function(tf.TensorSpec((2,), "float32")).graph
    waiting = graph.get_operation_by_name("second").inputs[0].op
    names = [op.name for op in waiting.control_inputs]
    assert names == ([] if form is native.portable else ["first"])


def test_after_is_nothing_in_eager_code():
    x = tf.ones(2)
    assert native.after(x, [tf.exp(x)]) is x
