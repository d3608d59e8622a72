"""Where the packages lie: top-level zoo/ and export/ install as kerasdet.zoo and kerasdet.export.

Every other fact of the distribution stands in pyproject.toml.
"""

from setuptools import find_packages, setup

MAPPED = {
    "kerasdet.zoo": "zoo",
    "kerasdet.zoo.checkpoints": "zoo/checkpoints",
    "kerasdet.zoo.origins": "zoo/origins",
    "kerasdet.export": "export",
}

setup(
    packages=[*find_packages(include=["kerasdet", "kerasdet.*"]), *MAPPED],
    package_dir=MAPPED,
    package_data={"kerasdet.zoo": ["*.json", "*.md", "*.txt", "classes/*", "weights/*"]},
)
