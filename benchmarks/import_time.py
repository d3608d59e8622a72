"""The time that `import kerasdet` adds to `import keras`: median of fresh interpreters, alternating.

python benchmarks/import_time.py
"""

import argparse
import subprocess
import sys
from pathlib import Path

from _harness import machine, markdown, median, write_report

RESULTS = Path(__file__).parent / "results" / "import_time.json"
PROGRAMS = {
    "import keras": "import keras",
    "import keras, kerasdet": "import keras, kerasdet",
    "import keras, kerasdet.models": "import keras, kerasdet.models",
}


def time_imports(program):
    """Measure the seconds of a program's imports, without the interpreter's own start."""
    timed = f"import time; t = time.perf_counter(); {program}; print(time.perf_counter() - t)"
    done = subprocess.run(
        [sys.executable, "-c", timed], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return float(done.stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--out", default=RESULTS)
    arguments = parser.parse_args()

    times = {name: [] for name in PROGRAMS}
    for program in PROGRAMS.values():  # once before measuring, for bytecode and the disk's cache
        time_imports(program)
    for _ in range(arguments.repetitions):
        for name, program in PROGRAMS.items():
            times[name].append(time_imports(program))

    base = median(times["import keras"])
    rows = [
        {
            "program": f"`{name}`",
            "seconds, median": f"{median(values):.2f}",
            "above `import keras`": f"{median(values) - base:+.3f}",
        }
        for name, values in times.items()
    ]
    write_report(arguments.out, {"machine": machine(), "seconds": times}, markdown(rows))


if __name__ == "__main__":
    main()
