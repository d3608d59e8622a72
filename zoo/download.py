"""Verified downloads: a published file, by its URL and SHA-256, from the cache or the network.

`keras.utils.get_file` is not enough: it does not resume, retry or time out, knows no mirrors, writes
to the final path before anything is checked, and two processes write into each other's file.

While a file arrives it is `.NAME.part` in the cache folder; `.NAME.part.json` keeps the ETag or
Last-Modified that the server gave it. As the content is fixed by its hash, any source may continue
what another began: a mixture does not pass the check, and is then fetched again.
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
from kerasdet.zoo.verify import sha256 as sha256_of

MIRRORS = "KERASDET_MIRROR"
TIMEOUT = 30  # seconds without a byte
WAITS = (1, 2, 4, 8)  # seconds before the second, third, ... try of one source
LONGEST_WAIT = 60  # seconds, whatever a server asks by Retry-After
PASSING = (408, 429, 500, 502, 503, 504)  # statuses that another try may change


class DownloadError(OSError):
    """No source gave the published file; names every source, what was wrong with it and the fix."""


class _SourceError(Exception):
    """What is wrong with a source; `pause`: least seconds before another try, None: no use."""

    def __init__(self, message, pause=None):
        super().__init__(message)
        self.pause = pause


def fetch(url, sha256, size=None, name=None):
    """Give a published file: from the cache, without the network, or else downloaded and verified.

    The mirrors that the environment variable KERASDET_MIRROR lists, separated by spaces or commas,
    are asked before the URL itself, each for `MIRROR/` and the last part of the URL. A file put
    into the cache folder by hand is used if it has the hash.

    Args:
        url: where it is published; http or https.
        sha256: its 64 hexadecimal digits, or as many of the first as are published: at least 8,
            which guard against damage, not against malice.
        size: in bytes; None if it is not known.
        name: of the file in the cache folder; default the last part of the URL. Two files of one
            name replace each other.

    Returns:
        Path of the file in the cache folder.

    Raises:
        ValueError: an argument or a mirror is not of its form.
        DownloadError: no source gave the file.
        OSError: the cache folder cannot be written to; names it and the fix.
    """
    sha256 = str(sha256).lower()
    if not re.fullmatch("[0-9a-f]{8,64}", sha256):
        raise ValueError(f"sha256 of {url} is {sha256!r}: give 8 to 64 hexadecimal digits.")
    path = cache.cache_folder() / _file_name(url, name)
    if not cache.verified(path, sha256, size):
        with cache.locked(path):
            if not cache.verified(path, sha256, size):  # else another process has made it meanwhile
                _download(url, path, sha256, size)
    return path


def _file_name(url, name):
    name = name or unquote(urlsplit(url).path.rpartition("/")[2])
    # A leading dot is for the cache's own files; the separators are those of all systems.
    if not name or re.search(r"^\.|[/\\:]", name):
        raise ValueError(f"{name!r}, for {url}, is no name of a file: give another by name=.")
    return name


def _download(url, path, sha256, size):
    """Try the sources in their order until one has given the file."""
    failures = [f"{path} is there but is not the published file"] if path.exists() else []
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
    kept = " What has arrived is kept: running again resumes it." if part.exists() else ""
    raise DownloadError(
        f"{path.name} could not be downloaded: {'; '.join(failures)}.{kept} Take it from elsewhere "
        f"and save it as {path}, or name a mirror that has it: {MIRRORS}=https://HOST/FOLDER."
    )


def _sources(url):
    """The mirrors' URLs of a file, then its own."""
    mirrors = os.environ.get(MIRRORS, "").replace(",", " ").split()
    for mirror in mirrors:
        if not re.match("(https?|file)://", mirror):
            raise ValueError(f"{MIRRORS} names {mirror!r}: give http://, https:// or file:// URLs.")
    if not re.match("https?://", url):
        raise ValueError(f"{url!r} is no source of a download: give an http:// or https:// URL.")
    file = urlsplit(url).path.rpartition("/")[2]
    return [*(f"{mirror.rstrip('/')}/{file}" for mirror in mirrors), url]


def _complete(url, part, sha256, size, show):
    """Complete the partial file from one source, in several tries; returns its hash."""
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
    """Read what is missing over one connection, and check the hash of the whole."""
    have = part.stat().st_size if part.exists() else 0
    # A process may have been killed after the last byte: then there is nothing to ask for.
    if not (have >= size if size else have and sha256_of(part).startswith(sha256)):
        _transfer(url, part, have, size, show)
    digest = sha256_of(part)
    if digest.startswith(sha256):
        return digest
    wrong = f"has the SHA-256 {digest} ({part.stat().st_size} bytes) instead of {sha256}"
    part.unlink()
    # If it was resumed, the earlier part may have been the wrong one.
    raise _SourceError(f"{wrong}; what arrived was deleted", pause=0 if have else None)


def _transfer(url, part, have, size, show):
    """Append to the partial file, of `have` bytes, all that the source gives."""
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
        raise _SourceError(f"gives more than {total} bytes; what arrived was deleted")
    if total is not None and done < total:
        raise _SourceError(f"broke off after {done} of {total} bytes", pause=0)


def _open(url, part, have):
    """The response to a request for all after the first `have` bytes."""
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
        if error.code == 416 and have:  # what is here is not the whole, as its hash has shown
            part.unlink()
            pause = 0
        raise _SourceError(f"answers {error.code} {error.reason}", pause) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        lasting = (str, ssl.SSLCertVerificationError, http.client.InvalidURL)
        lasts = url.startswith("file:") or isinstance(reason, lasting)
        raise _SourceError(f"cannot be opened ({reason})", None if lasts else 0) from error


def _extent(response, part, have):
    """(byte at which the response starts, size of the whole file or None if it is not said)."""
    if response.status == 206:
        given = response.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", given)
        if not found or int(found[1]) != have:
            part.unlink()
            raise _SourceError(f"gives the range {given!r} when asked from {have}", pause=0)
        return have, None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")  # the range was ignored, or not asked for
    return 0, int(length) if length.isdigit() else None


def _begin(url, part, response):
    """Start the partial file again: the old one is gone before its description changes."""
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
    """Seconds that a server asks to wait, by a number or a date, within bounds; 0 without."""
    text = headers.get("Retry-After", "").strip()
    try:
        pause = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        pause = int(text) if text.isdigit() else 0
    return min(max(pause, 0), LONGEST_WAIT)


@contextlib.contextmanager
def _progress(name, part):
    """A bar on stderr if that is a terminal; yields what is called with bytes done and in all."""
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
