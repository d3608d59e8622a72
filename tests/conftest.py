import gc
import os
from pathlib import Path

import pytest

from tests import sampling
from tests.memory import GROWTH, LIMIT, give_back, held, release

# Before anything imports TensorFlow: its log would bury the tests' own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a process for each core: threads of one would take the others' time.
    for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
# XLA compiles for longer than the tests' small models run.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

PEAKS = pytest.StashKey()  # {process: most memory it has held, in MB}
_kept = 0  # MB that stayed when memory was last given back
LEFT_OUT = pytest.StashKey()  # how many cases of the sampled tables were not run

# Files whose tests are divided among the processes by their first parameter, a model that they share.
DIVIDED = ("tests/contract/test_contract.py",)
DETECTORS_OF_A_TEST = 5  # of the contract


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the sampled tables whole")


def pytest_configure(config):
    """Split the CPU into two logical devices, for tests of training on several."""
    config.addinivalue_line("markers", f"{sampling.LEFT_OUT}: run with --all only")
    config.stash[PEAKS], config.stash[LEFT_OUT] = {}, 0
    if config.getoption("numprocesses", None):
        return  # only its workers run tests
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def pytest_collection_modifyitems(config, items):
    """Leave out what the samples have not drawn."""
    if config.option.all:
        return
    left_out = [item for item in items if _is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
        config.stash[LEFT_OUT] = len(left_out)


def _is_left_out(item):
    if item.get_closest_marker(sampling.LEFT_OUT):
        return True
    if item.nodeid.partition("::")[0] not in DIVIDED:
        return False
    from tests.contract.detectors import DETECTORS

    test, detector = item.originalname, item.callspec.params["make"]
    return detector not in sampling.share(DETECTORS, test, DETECTORS_OF_A_TEST)


def pytest_collection_finish():
    """What is imported stays: it is left out of every search for garbage, which there is one of a module."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process whole files, whose fixtures are then built once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            parameter = test.partition("[")[2].rstrip("]").partition("-")[0]
            return f"{file}[{parameter}]" if file in DIVIDED else file

    return ByFile(config, log)


@pytest.fixture(scope="module", autouse=True)
def _release():
    """Give back a module's models and graphs; those of wider fixtures live on."""
    yield
    release()


def pytest_runtest_logfinish():
    global _kept
    if held() > max(LIMIT, _kept + GROWTH):
        give_back()
        _kept = held()


@pytest.fixture(scope="session")
def shared_data():
    """Folder with bccd/ and coco_mini/, real images that are no part of the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are not at {folder}")
    return folder


# --- The summary: memory, and what was left out ---------------------------------------------------------


def pytest_sessionfinish(session):
    config = session.config
    name = getattr(config, "workerinput", {}).get("workerid", "main")
    config.stash[PEAKS][name] = _peak()
    if hasattr(config, "workeroutput"):
        config.workeroutput["peak"] = name, config.stash[PEAKS][name], config.stash[LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    name, peak, left_out = getattr(node, "workeroutput", {}).get("peak", (None, 0, 0))
    if name:
        node.config.stash[PEAKS][name] = peak
        node.config.stash[LEFT_OUT] = left_out  # each process has collected all


def pytest_terminal_summary(terminalreporter, config):
    peaks = ", ".join(f"{name} {peak} MB" for name, peak in sorted(config.stash[PEAKS].items()))
    terminalreporter.write_line(f"most memory held: {peaks}")
    if count := config.stash[LEFT_OUT]:
        terminalreporter.write_line(
            f"{count} cases of sampled tables left out; --all runs them too"
        )


def _peak():
    """Most memory that this process has held, in MB."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024**2 if sys.platform == "darwin" else 1024)
