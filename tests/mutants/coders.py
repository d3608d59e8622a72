"""Mutants of the R-CNN deltas."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/coders.py",
    "tests/ops/test_coders.py",
    {
        "t_x is in anchor heights": (
            "((x - x_a) / w_a)",
            "((x - x_a) / h_a)",
            "test_encode_deltas",
        ),
        "t_y is in anchor widths": (
            "((y - y_a) / h_a)",
            "((y - y_a) / w_a)",
            "test_encode_deltas",
        ),
        "t_w compares with the height": (
            "ops.log(w / w_a)",
            "ops.log(w / h_a)",
            "test_encode_deltas",
        ),
        "t_h has no logarithm": (
            "ops.log(h / h_a)",
            "(h / h_a)",
            "test_encode_deltas",
        ),
        "t_x has no weight": (
            "wx * ((x - x_a) / w_a)",
            "((x - x_a) / w_a)",
            "test_weights_multiply_and_divide",
        ),
        "t_h has the wrong weight": (
            "wh * ops.log(h / h_a)",
            "wy * ops.log(h / h_a)",
            "test_weights_multiply_and_divide",
        ),
        "x is decoded without its weight": (
            "dx / wx * w_a + x_a",
            "dx * w_a + x_a",
            "test_weights_multiply_and_divide",
        ),
        "y is decoded in anchor widths": (
            "dy / wy * h_a + y_a",
            "dy / wy * w_a + y_a",
            "test_decode_deltas",
        ),
        "w is decoded without its weight": (
            "ops.minimum(dw / ww, MAX_LOG_SCALE)",
            "ops.minimum(dw, MAX_LOG_SCALE)",
            "test_weights_multiply_and_divide",
        ),
        "w grows linearly": (
            "w_a * ops.exp(dw)",
            "w_a * (1.0 + dw)",
            "test_decode_deltas",
        ),
        "h stands on the anchor's width": (
            "h_a * ops.exp(dh)",
            "w_a * ops.exp(dh)",
            "test_decode_deltas",
        ),
        "the cut lies at another scale": (
            "math.log(1000.0 / 16.0)",
            "math.log(1000.0 / 32.0)",
            "test_scale_is_cut_at_62_5",
        ),
        "the height is not cut": (
            "ops.minimum(dh / wh, MAX_LOG_SCALE)",
            "dh / wh",
            "test_scale_is_cut_at_62_5",
        ),
        "sides of 0 stay 0": (
            "MIN_SIDE = 1e-6",
            "MIN_SIDE = 0.0",
            "test_padding_has_finite_deltas",
        ),
    },
)
