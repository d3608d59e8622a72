"""What the benchmarks share: workers that compute on command, alternation, FLOPs, and the report.

A worker is a process of its own, so that two frameworks' threads never compute at the same time and each
may live in its own environment. It answers JSON lines: a request on stdin, an answer on stdout. This file
needs the standard library only; what names a framework imports it inside the function.
"""

import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import traceback
from pathlib import Path


class Worker:
    """A process that computes when asked.

    Args:
        name: what the tables call it.
        command: the process's arguments; it must call `serve`.
    """

    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def ask(self, do, **arguments):
        """One request and its answer.

        Raises:
            RuntimeError: the worker answers with an error, or has ended.
        """
        line = ""
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            raise RuntimeError(f"{self.name}: the worker ended with code {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def close(self):
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait()


def serve(prepare):
    """The worker's side: answer requests with the functions of `prepare()`, a dict by name.

    The frameworks print; only answers may reach the pipe, so stdout is moved to stderr for everyone else.
    """
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    functions = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            functions = functions or prepare()
            answer = functions[request.pop("do")](**request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        pipe.write(json.dumps(answer) + "\n")
        pipe.flush()


def start(commands):
    """Start workers and prepare them one after the other; those that cannot are named and left out.

    Args:
        commands: {name: command}.

    Returns:
        List of `Worker`, and {name: answer to "prepare"}.
    """
    workers, facts = [], {}
    for name, command in commands.items():
        print(f"preparing {name} ...", file=sys.stderr, flush=True)
        try:
            worker = Worker(name, command)
            facts[name] = worker.ask("prepare")
            workers.append(worker)
        except (RuntimeError, OSError) as error:
            print(f"left out: {error}", file=sys.stderr, flush=True)
            facts[name] = {"left_out": str(error)}
    return workers, facts


def alternate(workers, repetitions, pause=0.3, **arguments):
    """Ask each worker in turn to "run" once, round after round, in alternating order.

    Args:
        workers: list of `Worker`.
        repetitions: rounds.
        pause: seconds between two runs, in which the last one's threads come to rest.
        **arguments: of the request.

    Returns:
        {name: list of answers}.
    """
    answers = {worker.name: [] for worker in workers}
    for number in range(repetitions):
        for worker in workers if number % 2 == 0 else workers[::-1]:
            time.sleep(pause)
            answers[worker.name].append(worker.ask("run", **arguments))
        print(f"round {number + 1} of {repetitions}", file=sys.stderr, flush=True)
    return answers


def seconds(function):
    """Wall-clock seconds of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def median(values):
    """The median."""
    return statistics.median(values)


def forget_peak():
    """Give free memory back to the system; the peak starts again from what is resident (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory():
    """Bytes: the highest resident memory of this process since `forget_peak` (Linux)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def machine():
    """What the figures depend on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next(
        (line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "unknown"
    )


def tensorflow_matmul_rate(size=2048, repetitions=5):
    """Float32 matrix-product rate of this machine in FLOP/s: the best of several products of size^3."""
    import tensorflow as tf

    left, right = tf.random.normal((size, size)), tf.random.normal((size, size))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(left, right)))
    product()
    return 2 * size**3 / min(seconds(lambda: product().numpy()) for _ in range(repetitions))


def tensorflow_flops(function):
    """2 x multiply-adds of every convolution and matrix product of a concrete `tf.function`.

    Counted on the inlined graph, at the true output sizes: static shapes are needed.

    Args:
        function: `tf.types.experimental.ConcreteFunction` with static input shapes.

    Returns:
        Integer.
    """
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    graph = convert_variables_to_constants_v2(function).graph
    return sum(2 * _multiply_adds(operation) for operation in graph.get_operations())


def _multiply_adds(operation):
    if operation.type == "Conv2D":
        height, width, channels, _ = operation.inputs[1].shape
        return operation.outputs[0].shape.num_elements() * height * width * channels
    if operation.type == "DepthwiseConv2dNative":
        height, width = operation.inputs[1].shape[:2]
        return operation.outputs[0].shape.num_elements() * height * width
    if operation.type == "Conv2DBackpropInput":  # a transposed convolution
        height, width, channels, _ = operation.inputs[1].shape
        return operation.inputs[2].shape.num_elements() * height * width * channels
    if operation.type in ("MatMul", "BatchMatMulV2"):
        transposed = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
        return (
            operation.outputs[0].shape.num_elements()
            * (operation.inputs[0].shape[-2 if transposed else -1])
        )
    return 0


def torch_flops(model, run):
    """2 x multiply-adds of every convolution and dense layer of a torch model, at the true output sizes.

    Args:
        model: `torch.nn.Module`.
        run: function that calls the model once.

    Returns:
        Integer.
    """
    import torch

    total = 0

    def count(layer, inputs, output):
        nonlocal total
        places = inputs[0] if isinstance(layer, torch.nn.ConvTranspose2d) else output
        total += 2 * places.numel() * layer.weight[0].numel()

    hooks = [
        layer.register_forward_hook(count)
        for layer in model.modules()
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear)
    ]
    run()
    for hook in hooks:
        hook.remove()
    return total


def markdown(rows):
    """A table of dicts that share their keys."""
    keys = list(rows[0])
    lines = [keys, ["---"] * len(keys), *([str(row[key]) for key in keys] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_report(path, report, table):
    """Write `path` (JSON) and its neighbour `.md`, and print the table."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    path.with_suffix(".md").write_text(table, "utf-8")
    print(table)
