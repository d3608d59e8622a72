"""The wheel: what lies in it, and that it works where the checkout cannot be seen."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from pathlib import Path

import pytest

import kerasdet

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("kerasdet", "zoo", "export", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: a build leaves files beside its sources."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    _run(
        *("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", str(out), str(copy)),
    )
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    _run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel))
    return target


def _run(*arguments, **options):
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_only_kerasdet_lands_at_the_top(wheel):
    with zipfile.ZipFile(wheel) as file:
        top = {name.split("/")[0] for name in file.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"kerasdet"}


def test_every_module_and_every_weight_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as file:
        inside = set(file.namelist())
    expected = set()
    for folder, prefix in (
        ("kerasdet", "kerasdet"),
        ("zoo", "kerasdet/zoo"),
        ("export", "kerasdet/export"),
    ):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        wanted = {".py", ".json", ".md", ".h5", ".keras"}
        expected |= {
            f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}"
            for path in files
            if path.suffix in wanted and "__pycache__" not in path.parts
        }
    assert expected <= inside, sorted(expected - inside)


def test_the_wheel_works_without_the_checkout(installed, tmp_path):
    # The editable installation's finder stands in sys.meta_path: off with it, and off with the checkout.
    program = f"""
    import sys
    from pathlib import Path

    root, installed = Path({str(ROOT)!r}), Path({str(installed)!r})
    sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
    sys.path[:] = [p for p in sys.path if p and Path(p).resolve() != root and "__editable__" not in p]
    sys.path.insert(0, str(installed))

    import kerasdet, kerasdet.export, kerasdet.models, kerasdet.zoo

    for module in (kerasdet, kerasdet.zoo, kerasdet.export, kerasdet.models):
        assert Path(module.__file__).is_relative_to(installed), module.__file__
    names = kerasdet.list_models()
    folder = Path(kerasdet.zoo.__file__).parent
    assert {{path.stem for path in folder.glob("*.json")}} <= set(names), names
    print(len(names))
    """
    found = _run("-c", textwrap.dedent(program), cwd=tmp_path)
    assert int(found.split()[-1]) == len(list((ROOT / "zoo").glob("*.json")))


def test_the_version_stands_in_one_place(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert wheel.name.split("-")[:2] == ["kerasdet", kerasdet.__version__]
    literal = re.compile(rf"""version\W+{re.escape(kerasdet.__version__)}["']""")
    for name in ("setup.py", "pyproject.toml"):
        assert not literal.search((ROOT / name).read_text("utf-8")), f"{name} repeats the version"


def test_the_licence_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith("licenses/LICENSE")]
        assert "Apache License" in file.read(name).decode("utf-8")


def test_the_package_itself_imports_nothing_heavy(tmp_path):
    heavy = ("keras", "tensorflow", "numpy", "matplotlib", "pycocotools", "PIL", "typer", "rich")
    program = f"import sys, kerasdet; print([name for name in {heavy!r} if name in sys.modules])"
    before = f"import sys; print([name for name in {heavy!r} if name in sys.modules])"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    loaded, already = (
        _run("-c", text, cwd=tmp_path, env=environment) for text in (program, before)
    )
    assert loaded == already
