"""Tables of speed and learning, from benchmarks/results/*.json."""

import statistics

from _tables.text import decimals, markdown, millions, significant

OWN, HALF, PEER = "kerasdet", "kerasdet-bfloat16", "torchvision"
COMPARED = (PEER, "opencv", "mmdetection")  # sides that compute the same network
KINDS = {"bbox": "", "segm": "mask ", "keypoints": "keypoint "}
LEARNT = ("AP", "AP50", "AP75", "AP90")  # of the report on learning


def inference(sources, folder):
    """Time of one image, a row for each model."""
    runs = [run for run in sources.runs if not run.is_training]
    return timed(sources, runs, inference_row) + machines(runs)


def training(sources, folder):
    """Time and memory of one training step, a row for each model."""
    runs = [run for run in sources.runs if run.is_training]
    return timed(sources, runs, training_row) + machines(runs)


def timed(sources, runs, row):
    """Medians of every side, and what `row` adds."""
    sides = dict.fromkeys(side for run in runs for side in run.result["answers"])
    peers = [side for side in sides if not side.startswith(OWN)]
    rows = []
    for run in runs:
        times = {side: middle(run, side) for side in sides}
        own = times[OWN]
        ratios = {side: times.get(side) and own / times[side] for side in COMPARED}
        rows.append(
            {
                "model": sources.title_of(run.key),
                **{f"{side}, s": decimals(times[side]) for side in (OWN, *peers)},
                **{f"{OWN} / {side}": decimals(ratio) for side, ratio in ratios.items()},
                "bfloat16, s": decimals(times.get(HALF)),
                **row(run, own),
                "GFLOP/s": gigaflops(max(run.result["matmul_flops_per_second"])),
            }
        )
    return markdown(rows)


def inference_row(run, own):
    """How near to the machine's rate a model computes, and what decoding takes."""
    facts = run.result["facts"].values()
    useful = min(fact["flops"] for fact in facts if "flops" in fact)
    share = useful / own / max(run.result["matmul_flops_per_second"])
    decode = middle(run, OWN, "decode")
    return {
        "share of the matrix-product rate": decimals(share),
        "decoding and NMS": "" if decode is None else f"{decode / own:.1%}",
    }


def training_row(run, own):
    """Memory beside the peer's, both without what the libraries take."""
    memory = run.result.get("memory_bytes") or {}
    step = {side: values["peak"] - values["libraries"] for side, values in memory.items()}
    peer = next((step[side] for side in COMPARED if side in step), None)
    return {"memory ratio": decimals(step[OWN] / peer if peer and OWN in step else None)}


def operations(sources, folder):
    """Time and memory of the operations."""
    report = sources.results["ops"]
    rows, text = [], ""
    for result in report["operations"].values():
        times = result["milliseconds"]
        rows.append(
            {
                "operation": result["title"],
                "sizes": result["sizes"],
                "kerasdet, ms": significant(times[OWN]["median"]),
                "torchvision, ms": significant(times.get(PEER, {}).get("median")),
                "ratio": decimals(result["ratio"]),
                "peak memory, ratio": decimals(result["memory_ratio"]),
            }
        )
        if result["over_plain"]:
            text = (
                f"\nThe {result['title']} takes {result['over_plain']:.2f} times as long as a plain "
                "convolution of the same size.\n"
            )
    machine = report["machine"]
    return f"{markdown(rows)}{text}\nMachine: {machine['processor']}, {machine['cores']} cores.\n"


def imports(sources, folder):
    """Seconds that importing takes."""
    seconds = {
        program: statistics.median(values)
        for program, values in sources.results["import_time"]["seconds"].items()
    }
    least = min(seconds.values())
    return markdown(
        [
            {"program": f"`{program}`", "seconds": f"{value:.2f}", "more": f"{value - least:.2f}"}
            for program, value in seconds.items()
        ]
    )


def learning(sources, folder):
    """What each model learns in equal minutes."""
    return markdown(learning_rows(sources, sources.results["learning"]["models"]))


def learning_rows(sources, entries):
    """A row for each entry of the learning report; a column for each figure that any of them has."""
    measured = [entry["figures"] for entry in entries.values()]
    columns = [
        (kind, figure)
        for kind in dict.fromkeys(kind for figures in measured for kind in figures)
        for figure in dict.fromkeys(
            figure for figures in measured for figure in figures.get(kind, ())
        )
        if figure in LEARNT or kind not in KINDS
        if any(figures.get(kind, {}).get(figure) is not None for figures in measured)
    ]
    rows = []
    for key, entry in entries.items():
        rate = entry.get("machine", {}).get("matmul_flops_per_second")
        row = {
            "model": sources.title_of(key),
            "parameters": millions(entry["parameters"]),
            "minutes": f"{entry['minutes']:.1f}",
            "GFLOP/s": gigaflops(rate),
        }
        for kind, figure in columns:
            value = entry["figures"].get(kind, {}).get(figure)
            row[KINDS.get(kind, f"{kind} ") + figure] = "" if value is None else f"{value:.3f}"
        rows.append(row)
    return rows


def middle(run, side, key="seconds"):
    """Median of a side's runs; None for a side or a part that was not measured."""
    answers = run.result["answers"].get(side, [])
    return statistics.median(a[key] for a in answers) if answers and key in answers[0] else None


def gigaflops(rate):
    """A machine's float32 matrix-product rate; "" where it was not measured."""
    return f"{rate / 1e9:.0f}" if rate else ""


def machines(runs):
    """A line below a table: what it was measured on."""
    names = dict.fromkeys(run.machine for run in runs)
    return f"\nMachine: {'; '.join(names)}.\n"
