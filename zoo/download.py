"""Verified downloads: a published file, by its URL and SHA-256, from the cache or the network.

`keras.utils.get_file` is not enough: it does not resume, retry or time out, knows no mirrors, and
writes to the final path before anything is checked; two processes write into each other's file.

A file that is being downloaded is `.NAME.part` in the cache folder; `.NAME.part.json` stores the ETag
or Last-Modified of the server. The hash determines the content, so any source may continue what
another began: a mixture fails the check and is fetched again.
"""

import contextlib
import email.utils
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from urllib.parse import unquote, urlsplit

from kerasdet import __version__
from kerasdet.files import save_json
from kerasdet.zoo import cache
from kerasdet.zoo.verify import digest as digest_of

MIRRORS = "KERASDET_MIRROR"
TIMEOUT = 30  # seconds without a byte
WAITS = (1, 2, 4, 8)  # seconds before the second, third, ... try of a source
LONGEST_WAIT = 60  # seconds, even if a server's Retry-After asks for more
PASSING = (408, 429, 500, 502, 503, 504)  # statuses that may change at another try


class DownloadError(OSError):
    """No source provided the published file; the message names every source, its fault and the fix."""


class _SourceError(Exception):
    """A fault of a source; `pause`: least seconds before another try, None: do not try again."""

    def __init__(self, message, pause=None):
        super().__init__(message)
        self.pause = pause


def fetch(url, sha256, size=None, name=None):
    """Return a published file: from the cache, without the network, or downloaded and verified.

    The mirrors in the environment variable KERASDET_MIRROR, separated by spaces or commas, are tried
    before the URL itself, each as `MIRROR/` plus the last part of the URL. A file that is put into the
    cache folder by hand is used if it has the hash.

    Args:
        url: where the file is published; http or https.
        sha256: its 64 hexadecimal digits, or the published first ones: at least 8, which protect
            against damage, not against malice; so do "sha1:" or "md5:" and all of its digits.
        size: size in bytes; None if unknown.
        name: name of the file in the cache folder; default the last part of the URL. Two files of the
            same name replace each other.

    Returns:
        Path of the file in the cache folder.

    Raises:
        ValueError: an argument or a mirror has a wrong form.
        DownloadError: no source provided the file.
        OSError: the cache folder cannot be written to; the message names it and the fix.
    """
    sha256 = str(sha256).lower()
    if not re.fullmatch("[0-9a-f]{8,64}|sha1:[0-9a-f]{40}|md5:[0-9a-f]{32}", sha256):
        raise ValueError(f"sha256 of {url} is {sha256!r}: give 8 to 64 hexadecimal digits.")
    path = cache.cache_folder() / _file_name(url, name)
    if not cache.verified(path, sha256, size):
        with cache.locked(path):
            if not cache.verified(
                path, sha256, size
            ):  # otherwise another process has made it meanwhile
                _download(url, path, sha256, size)
    return path


def _file_name(url, name):
    name = name or unquote(urlsplit(url).path.rpartition("/")[2])
    # A leading dot is reserved for the cache's own files; the separators are those of all systems.
    if not name or re.search(r"^\.|[/\\:]", name):
        raise ValueError(f"{name!r}, for {url}, is not a valid file name: give another by name=.")
    return name


def _download(url, path, sha256, size):
    """Try the sources in order until one has provided the file."""
    failures = [f"{path} exists but is not the published file"] if path.exists() else []
    part = cache.beside(path, "part")
    for source in _sources(url):
        action = "resuming" if part.exists() else "downloading"
        cache.tell(f"{action} {source}" + (f" ({size / 1e6:.1f} MB)" if size else ""))
        try:
            with _progress(path.name, part) as show:
                digest = _complete(source, part, sha256, size, show)
        except _SourceError as error:
            failures.append(f"{source} {error}")
            continue
        cache.publish(part, path, digest)
        cache.tell(f"{path} is downloaded and verified")
        return
    kept = " The partial file is kept: running again resumes the download." if part.exists() else ""
    raise DownloadError(
        f"{path.name} could not be downloaded: {'; '.join(failures)}.{kept} Get it from elsewhere "
        f"and save it as {path}, or set a mirror that has it: {MIRRORS}=https://HOST/FOLDER."
    )


def _sources(url):
    """Return the mirrors' URLs of a file, then its own."""
    mirrors = os.environ.get(MIRRORS, "").replace(",", " ").split()
    for mirror in mirrors:
        if not re.match("(https?|file)://", mirror):
            raise ValueError(f"{MIRRORS} names {mirror!r}: give http://, https:// or file:// URLs.")
    if not re.match("https?://", url):
        raise ValueError(f"{url!r} cannot be downloaded: give an http:// or https:// URL.")
    file = urlsplit(url).path.rpartition("/")[2]
    return [*(f"{mirror.rstrip('/')}/{file}" for mirror in mirrors), url]


def _complete(url, part, sha256, size, show):
    """Complete the partial file from one source, in several tries; return its hash."""
    for wait in WAITS:
        try:
            return _try(url, part, sha256, size, show)
        except _SourceError as error:
            if error.pause is None:
                raise
            pause = max(wait, error.pause)
            cache.tell(f"{url} {error}; next try in {pause:.3g} s")
            time.sleep(pause)
    return _try(url, part, sha256, size, show)


def _try(url, part, sha256, size, show):
    """Read the missing bytes over one connection, and check the hash of the whole file."""
    have = part.stat().st_size if part.exists() else 0
    # A process may have been killed after the last byte: then there is nothing to request.
    if not (have >= size if size else have and digest_of(part, sha256).startswith(sha256)):
        _transfer(url, part, have, size, show)
    digest = digest_of(part, sha256)
    if digest.startswith(sha256):
        return digest
    kind = "hash" if ":" in digest else "SHA-256"
    wrong = f"has the {kind} {digest} ({part.stat().st_size} bytes) instead of {sha256}"
    part.unlink()
    # If the download was resumed, the earlier part may have been wrong.
    raise _SourceError(f"{wrong}; the partial file was deleted", pause=0 if have else None)


def _transfer(url, part, have, size, show):
    """Append everything that the source sends to the partial file of `have` bytes."""
    with _open(url, part, have) as response:
        done, announced = _extent(response, part, have)
        if size and announced is not None and announced != size:
            raise _SourceError(f"announces {announced} bytes instead of {size}")
        total = size or announced
        if not done:
            _begin(url, part, response)
        with cache.writing(part.parent), open(part, "ab") as file:
            while (total is None or done <= total) and (chunk := _read(response)):
                done += len(chunk)
                file.write(chunk)
                file.flush()  # a process killed now loses nothing
                show(done, total)
    if total is not None and done > total:
        part.unlink()
        raise _SourceError(f"sends more than {total} bytes; the partial file was deleted")
    if total is not None and done < total:
        raise _SourceError(f"broke off after {done} of {total} bytes", pause=0)


def _open(url, part, have):
    """Return the response to a request for everything after the first `have` bytes."""
    headers = {"User-Agent": f"kerasdet/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
        known = cache.recall(part)
        if known.get("validator") and known.get("url") == url:
            headers["If-Range"] = known["validator"]
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        pause = _retry_after(error.headers) if error.code in PASSING else None
        if error.code == 416 and have:  # the partial file is wrong, as its hash has shown
            part.unlink()
            pause = 0
        raise _SourceError(f"answers {error.code} {error.reason}", pause) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        lasting = (str, ssl.SSLCertVerificationError, http.client.InvalidURL)
        lasts = url.startswith("file:") or isinstance(reason, lasting)
        raise _SourceError(f"cannot be opened ({reason})", None if lasts else 0) from error


def _extent(response, part, have):
    """Return (first byte of the response, size of the whole file or None if unknown)."""
    if response.status == 206:
        given = response.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", given)
        if not found or int(found[1]) != have:
            part.unlink()
            raise _SourceError(f"sends the range {given!r} for a request from {have}", pause=0)
        return have, None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")  # the range was ignored, or not requested
    return 0, int(length) if length.isdigit() else None


def _begin(url, part, response):
    """Restart the partial file: the old one is removed before its description changes."""
    part.unlink(missing_ok=True)
    etag = response.headers.get("ETag", "W/")  # a weak one does not promise equal bytes
    validator = response.headers.get("Last-Modified") if etag.startswith("W/") else etag
    save_json(cache.beside(part, "json"), {"url": url, "validator": validator})


def _read(response):
    try:
        return response.read1(65536)
    except (OSError, http.client.HTTPException) as error:
        raise _SourceError(f"broke off ({error})", pause=0) from error


def _retry_after(headers):
    """Return the seconds that a server asks to wait, from a number or a date, within bounds; 0 without."""
    text = headers.get("Retry-After", "").strip()
    try:
        pause = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        pause = int(text) if text.isdigit() else 0
    return min(max(pause, 0), LONGEST_WAIT)


@contextlib.contextmanager
def _progress(name, part):
    """Show a bar on stderr if that is a terminal; yield a function of the bytes done and in total."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.file.isatty():
        yield lambda done, total: None
        return
    title = TextColumn("{task.description}", markup=False)
    columns = (title, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None, completed=part.stat().st_size if part.exists() else 0)
        yield lambda done, total: bar.update(task, completed=done, total=total)
