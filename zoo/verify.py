"""Files are checked before they are parsed: one that is cut short or altered is refused."""

import hashlib
from pathlib import Path


def sha256(path):
    """SHA-256 of a file.

    Args:
        path: the file.

    Returns:
        64 lower-case hexadecimal digits.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path, sha256_expected, size=None, fix="Take a fresh copy."):
    """Refuse a file that is not, byte by byte, the one that was published.

    Args:
        path: the file.
        sha256_expected: 64 hexadecimal digits.
        size: its size in bytes, which tells a file cut short from an altered one.
        fix: what the reader of the error should do; a full sentence.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another size or another hash; names the file and both values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The weights file {path} is missing. {fix}")
    found = path.stat().st_size
    if size is not None and found != size:
        state = "cut short" if found < size else "too long"
        raise ValueError(f"{path} is {state}: {found} bytes instead of {size}. {fix}")
    digest = sha256(path)
    if digest != sha256_expected:
        raise ValueError(
            f"{path} is damaged or altered: its SHA-256 is {digest} instead of "
            f"{sha256_expected}. {fix}"
        )
