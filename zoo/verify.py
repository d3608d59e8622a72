"""Files are checked before they are parsed: one that is cut short or altered is refused."""

import hashlib
from pathlib import Path

KINDS = ("sha256", "sha1", "md5")  # old files have been published with the last two


def sha256(path):
    """SHA-256 of a file.

    Args:
        path: the file.

    Returns:
        64 lower-case hexadecimal digits.
    """
    return digest(path)


def digest(path, like=""):
    """Hash of a file, of the kind that another hash is.

    Args:
        path: the file.
        like: hexadecimal digits of SHA-256, all or the first ones; or "sha1:" or "md5:" and digits, which
            protect against damage, not against malice.

    Returns:
        str of the same form.
    """
    kind, colon, _ = like.rpartition(":")
    with open(path, "rb") as file:
        return f"{kind}{colon}{hashlib.file_digest(file, kind or 'sha256').hexdigest()}"


def published_hash(facts):
    """Return the hash in a manifest's facts about a file, as `digest` gives it.

    Args:
        facts: dict with one of the keys `KINDS`.
    """
    kind = next(kind for kind in KINDS if kind in facts)
    return facts[kind] if kind == "sha256" else f"{kind}:{facts[kind]}"


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
