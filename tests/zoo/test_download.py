"""Downloads against a server that is slow, breaks off, lies, or is not there."""

import email.utils
import errno
import fcntl
import hashlib
import io
import json
import os
import random
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kerasdet import files
from kerasdet.zoo import cache, download
from kerasdet.zoo.cache import cache_folder, cached, locked, verified
from kerasdet.zoo.download import DownloadError, fetch
from tests.zoo.server import Answer, Server

CONTENT = random.Random(0).randbytes(50_000)
OTHER = random.Random(1).randbytes(50_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
NAME = "model.pth"
NOTHING = "http://127.0.0.1:9"  # the discard port, where nobody listens

CHILD = """
import sys
from kerasdet.zoo import cache, download
download.WAITS, cache.POLL = (0.05,) * 3, 0.01
print(download.fetch(*sys.argv[1:]))
"""


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The cache folder; and no waiting."""
    monkeypatch.setenv("KERASDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("KERASDET_MIRROR", raising=False)
    monkeypatch.setattr(download, "WAITS", (0, 0, 0))
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(cache, "POLL", 0.01)
    return tmp_path / "cache"


@pytest.fixture
def start():
    """Start `fetch` in another process."""
    children = []

    def run(*arguments):
        children.append(
            subprocess.Popen(
                [sys.executable, "-c", CHILD, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
        )
        return children[-1]

    yield run
    for child in children:
        child.kill()
        child.communicate()


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def leave_part(folder, content, url=None, validator=None):
    """What a process that was killed has left."""
    folder.mkdir()
    (folder / f".{NAME}.part").write_bytes(content)
    (folder / f".{NAME}.part.json").write_text(json.dumps({"url": url, "validator": validator}))


def change(path, content):
    """Write a file again, certainly later than before: clocks of file systems tick every few ms."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def ranges(server):
    return [request.range for request in server.requests]


def fails(url, match, **options):
    """The message of the DownloadError, after which no file may be there."""
    with pytest.raises(DownloadError, match=match) as error:
        fetch(url, HASH, **options)
    path = cache_folder() / NAME
    assert not path.exists()
    assert f"save it as {path}, or set a mirror" in str(error.value)
    assert url in str(error.value)
    return str(error.value)


def test_a_file_is_fetched_once_and_then_taken_from_the_cache(server, folder, monkeypatch):
    url = server.serve(f"/weights/{NAME}", CONTENT)
    path = fetch(url, HASH)
    assert path == folder / NAME
    assert path.read_bytes() == CONTENT
    monkeypatch.setattr(cache, "digest_of", None)  # and not hashed again
    assert fetch(url, HASH, len(CONTENT)) == path
    assert len(server.requests) == 1
    assert not list(folder.glob(".*part*"))


def test_offline_from_the_cache():
    with Server() as server:
        url = server.serve(f"/{NAME}", CONTENT)
        path = fetch(url, HASH)
    assert fetch(url, HASH) == path
    change(path, OTHER)
    with pytest.raises(DownloadError, match=r"exists but is not the published file; http"):
        fetch(url, HASH)
    change(path, CONTENT)
    assert fetch(url, HASH) == path


def test_a_file_put_there_by_hand_is_used_and_hashed_once(folder, monkeypatch):
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    assert fetch(f"{NOTHING}/{NAME}", HASH) == folder / NAME
    monkeypatch.setattr(cache, "digest_of", None)
    assert fetch(f"{NOTHING}/{NAME}", HASH, len(CONTENT)) == folder / NAME
    assert not verified(folder / NAME, HASH, len(CONTENT) + 1)
    assert not verified(folder / NAME, HASH[:-1] + ("0" if HASH[-1] != "0" else "1"))


def test_a_changed_file_in_the_cache_is_noticed_and_replaced(server):
    url = server.serve(f"/{NAME}", CONTENT)
    path = fetch(url, HASH)
    change(path, OTHER)
    assert fetch(url, HASH).read_bytes() == CONTENT
    path.write_bytes(CONTENT[:-1])
    assert fetch(url, HASH).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_cache_that_is_only_read_is_enough(folder, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    monkeypatch.setattr(cache, "save_json", refuse)
    monkeypatch.setattr(cache, "locked", refuse)
    assert fetch(f"{NOTHING}/{NAME}", HASH) == folder / NAME


def test_what_is_known_of_a_file_may_be_lost_or_damaged(folder):
    folder.mkdir()
    path = folder / NAME
    path.write_bytes(CONTENT)
    for note in ('{"size": 1', "[]", "{}", '{"sha256": "00"}'):
        (folder / f".{NAME}.json").write_text(note)
        assert verified(path, HASH)
        assert json.loads((folder / f".{NAME}.json").read_text())["sha256"] == HASH


@pytest.mark.parametrize("digits", [8, 20, 64])
def test_a_published_prefix_of_the_hash_is_enough(server, digits):
    url = server.serve(f"/{NAME}", CONTENT)
    fetch(url, HASH[:digits].upper())
    wrong = ("0" if HASH[7] != "0" else "1").join((HASH[:7], HASH[8:digits]))
    with pytest.raises(DownloadError, match=f"SHA-256 {HASH} .* instead of {wrong}"):
        fetch(server.serve("/other.pth", CONTENT), wrong)


def test_arguments_are_checked():
    for digest in (HASH[:7], HASH + "0", "sha256:" + HASH, "sha1:" + HASH[:39], "md5:", "", None):
        with pytest.raises(ValueError, match=r"sha256 of http.*give 8 to 64"):
            fetch(f"{NOTHING}/{NAME}", digest)
    for name in ("../model.pth", "a/b", "a\\b", "c:model", ".model.pth"):
        with pytest.raises(ValueError, match="is not a valid file name"):
            fetch(f"{NOTHING}/{NAME}", HASH, name=name)
    for url in (f"{NOTHING}/", f"{NOTHING}/a%2Fb"):
        with pytest.raises(ValueError, match="is not a valid file name"):
            fetch(url, HASH)
    for url in ("ftp://127.0.0.1/model.pth", "file:///tmp/model.pth", "model.pth"):
        with pytest.raises(ValueError, match="cannot be downloaded: give"):
            fetch(url, HASH)


def test_the_name_in_the_cache_can_be_chosen(server, folder):
    url = server.serve("/download", CONTENT)
    assert fetch(url, HASH, name="chosen.pth") == folder / "chosen.pth"


def test_a_part_is_resumed_and_its_bytes_are_not_sent_again(server, folder):
    leave_part(folder, CONTENT[:20_000])
    assert fetch(server.serve(f"/{NAME}", CONTENT), HASH).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=20000-"]
    assert server.requests[0].sent == 30_000


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_broken_connections_are_resumed(server, size):
    url = server.serve(f"/{NAME}", CONTENT, Answer(cut=20_000), Answer(cut=5_500))
    assert fetch(url, HASH, size).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=20000-", "bytes=25500-"]
    etag = f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert [request.if_range for request in server.requests] == [None, etag, etag]
    assert sum(request.sent for request in server.requests) == len(CONTENT)


def test_a_reset_connection_is_tried_again(server, capsys):
    url = server.serve(f"/{NAME}", CONTENT, *[Answer(cut=20_000, reset=True)] * 2)
    assert fetch(url, HASH).read_bytes() == CONTENT  # a reset may lose bytes that were under way
    assert capsys.readouterr().err.count("next try") == 2
    assert len(server.requests) == 3


def test_a_silent_server_is_left_after_a_while(server, capsys):
    url = server.serve(f"/{NAME}", CONTENT, Answer(stall=10_000))
    assert fetch(url, HASH).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=10000-"]
    assert f"{url} broke off (timed out); next try in 0 s" in capsys.readouterr().err


def test_tries_are_bounded_and_what_has_arrived_is_kept(server, folder):
    url = server.serve(f"/{NAME}", CONTENT, *[Answer(cut=1000)] * 4)
    message = fails(url, "broke off after 4000 of 50000 bytes")
    assert "The partial file is kept: running again resumes the download." in message
    assert len(server.requests) == 4
    assert fetch(url, HASH).read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=4000-"


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_broken_chunked_answer_is_resumed(server, size):
    url = server.serve(f"/{NAME}", CONTENT, Answer(chunked=True, cut=9_000), Answer(chunked=True))
    assert fetch(url, HASH, size).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=9000-"]


def test_without_a_length_the_size_tells_that_it_broke_off(server):
    unsaid = {"Content-Length": None}
    answers = Answer(headers=unsaid, cut=9_000), Answer(headers=unsaid)
    url = server.serve(f"/{NAME}", CONTENT, *answers)
    assert fetch(url, HASH, len(CONTENT)).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=9000-"]


def test_a_server_that_ignores_ranges_sends_all_again(server, folder):
    leave_part(folder, CONTENT[:20_000])
    url = server.serve(f"/{NAME}", CONTENT, Answer(ranges=False))
    assert fetch(url, HASH).read_bytes() == CONTENT
    assert [(r.range, r.sent) for r in server.requests] == [("bytes=20000-", 50_000)]


def test_a_file_that_changed_between_two_parts_is_fetched_again(server):
    """By its ETag, or by its date where there is none or a weak one."""
    for headers in ({}, {"ETag": None}, {"ETag": 'W/"1"'}):
        name = f"{len(server.requests)}.pth"
        dates = [{"Last-Modified": email.utils.formatdate(day * 86400)} for day in (1, 2)]
        old = Answer(content=OTHER, cut=20_000, headers=dates[0] | headers)
        url = server.serve(f"/{name}", CONTENT, old, Answer(headers=dates[1] | headers))
        assert fetch(url, HASH).read_bytes() == CONTENT
        assert server.requests[-1].range == "bytes=20000-"
        assert server.requests[-1].sent == 50_000
        assert (server.requests[-1].if_range == dates[0]["Last-Modified"]) == bool(headers)


def test_a_mixture_of_two_files_is_found_by_the_hash_and_fetched_again(server, folder):
    leave_part(folder, OTHER[:20_000])
    assert fetch(server.serve(f"/{NAME}", CONTENT), HASH).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=20000-", None]


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_complete_part_needs_no_network(folder, size):
    leave_part(folder, CONTENT)
    assert fetch(f"{NOTHING}/{NAME}", HASH, size).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_that_is_too_long_is_fetched_again(server, folder, size):
    leave_part(folder, CONTENT + b"x")
    assert fetch(server.serve(f"/{NAME}", CONTENT), HASH, size).read_bytes() == CONTENT
    # Without the size it takes the server's 416 to know.
    assert ranges(server) == ([None] if size else ["bytes=50001-", None])


def test_another_range_than_the_asked_one_is_not_appended(server, folder):
    leave_part(folder, CONTENT[:20_000])
    wrong = Answer(headers={"Content-Range": "bytes 10000-49999/50000"})
    assert fetch(server.serve(f"/{NAME}", CONTENT, wrong), HASH).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=20000-", None]


def test_wrong_bytes_are_refused_at_once_and_deleted(server, folder):
    url = server.serve(f"/{NAME}", OTHER)
    found = hashlib.sha256(OTHER).hexdigest()
    message = fails(url, rf"has the SHA-256 {found} \(50000 bytes\) instead of {HASH}; the partial")
    assert "kept" not in message
    assert len(server.requests) == 1
    assert not list(folder.glob(".*.part"))


@pytest.mark.parametrize(
    ("length", "size", "match"),
    [
        # 50000 bytes are sent in every case.
        (40_000, None, r"SHA-256 .* \(40000 bytes\) instead of"),
        (40_000, 50_000, "announces 40000 bytes instead of 50000"),
        (60_000, 50_000, "announces 60000 bytes instead of 50000"),
        (50_000, 40_000, "announces 50000 bytes instead of 40000"),
        (None, 40_000, "sends more than 40000 bytes; the partial file was deleted"),
        ("many", 40_000, "sends more than 40000 bytes; the partial file was deleted"),
    ],
)
def test_a_wrong_length_is_refused_at_once(server, folder, length, size, match):
    url = server.serve(f"/{NAME}", CONTENT, Answer(headers={"Content-Length": length}))
    fails(url, match, size=size)
    assert len(server.requests) == 1
    assert not list(folder.glob(".*.part"))


def test_a_file_shorter_than_announced_is_an_error_after_all_tries(server):
    short = Answer(content=CONTENT[:40_000], headers={"Content-Length": 60_000}, ranges=False)
    fails(server.serve(f"/{NAME}", CONTENT, *[short] * 4), "broke off after 40000 of 60000 bytes")
    assert len(server.requests) == 4


def test_a_whole_file_is_taken_even_if_more_was_announced(server):
    url = server.serve(f"/{NAME}", CONTENT, Answer(headers={"Content-Length": 60_000}))
    assert fetch(url, HASH).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_no_more_is_read_than_the_size_and_a_bit(server, monkeypatch):
    read, amounts = download._read, []

    def counted(response):
        chunk = read(response)
        amounts.append(len(chunk))
        return chunk

    monkeypatch.setattr(download, "_read", counted)
    endless = Answer(content=bytes(10_000_000), headers={"Content-Length": None})
    fails(server.serve(f"/{NAME}", CONTENT, endless), "sends more than 50000 bytes", size=50_000)
    assert 50_000 < sum(amounts) <= 50_000 + 65_536


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusals_are_final(server, status):
    url = server.serve(f"/{NAME}", CONTENT, Answer(status=status))
    fails(url, rf"{NAME} could not be downloaded: {url} answers {status} \w+")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, status, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(download, "WAITS", (1, 2, 4))
    busy = [Answer(status=status, headers={"Retry-After": text}) for text in (None, "3", "999")]
    fetch(server.serve(f"/{NAME}", CONTENT, *busy), HASH)
    assert slept == [1, 3, 60]


def test_retry_after_can_be_a_date(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    for at, pause in ((1_000_007, 7), (999_990, 0), (2_000_000, 60)):
        headers = {"Retry-After": email.utils.formatdate(at, usegmt=True)}
        assert download._retry_after(headers) == pause
    assert download._retry_after({"Retry-After": "soon"}) == 0


def test_nobody_listens(capsys):
    fails(f"{NOTHING}/{NAME}", r"model\.pth cannot be opened \(\[Errno \d+\] Connection refused\)")
    assert capsys.readouterr().err.count("next try") == 3


def test_redirects_are_followed_and_resumed(server, folder):
    leave_part(folder, CONTENT[:20_000])
    server.serve("/elsewhere", CONTENT)
    url = server.serve(f"/{NAME}", b"", Answer(status=302, headers={"Location": "/elsewhere"}))
    assert fetch(url, HASH).read_bytes() == CONTENT
    assert [(r.path, r.range) for r in server.requests] == [
        (f"/{NAME}", "bytes=20000-"),
        ("/elsewhere", "bytes=20000-"),
    ]
    url = server.serve("/b.pth", b"", Answer(status=302, headers={"Location": "file:///etc/hosts"}))
    with pytest.raises(DownloadError, match="302"):
        fetch(url, HASH)


def test_mirrors_are_asked_in_order_before_the_origin(server, monkeypatch, tmp_path, capsys):
    url = server.serve(f"/origin/{NAME}", CONTENT)
    bad = server.serve(f"/bad/{NAME}", OTHER).removesuffix(NAME)
    missing = server.url("/missing")
    monkeypatch.setenv("KERASDET_MIRROR", f" {missing},{bad}\t{tmp_path.as_uri()}/files ")
    assert fetch(url, HASH).read_bytes() == CONTENT
    asked = [f"/missing/{NAME}", f"/bad/{NAME}", f"/origin/{NAME}"]
    assert [request.path for request in server.requests] == asked

    del server.files[f"/origin/{NAME}"]
    (cache_folder() / NAME).unlink()
    message = fails(url, f"{missing}/{NAME} answers 404 Not Found; {bad}{NAME} has the SHA-256")
    assert f"; file://{tmp_path}/files/{NAME} cannot be opened ([Errno 2] No such file" in message
    assert f"; {url} answers 404 Not Found. Get it from elsewhere" in message
    assert "next try" not in capsys.readouterr().err


def test_a_mirror_can_be_a_folder(server, monkeypatch, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / NAME).write_bytes(CONTENT)
    monkeypatch.setenv("KERASDET_MIRROR", (tmp_path / "files").as_uri())
    assert fetch(server.url(f"/{NAME}"), HASH, len(CONTENT)).read_bytes() == CONTENT
    assert not server.requests


def test_a_mirror_continues_what_another_has_begun(server, monkeypatch):
    first = server.serve(f"/first/{NAME}", CONTENT, Answer(cut=20_000), *[Answer(status=503)] * 3)
    monkeypatch.setenv("KERASDET_MIRROR", first.removesuffix(NAME))
    assert fetch(server.serve(f"/{NAME}", CONTENT), HASH).read_bytes() == CONTENT
    last = server.requests[-1]
    assert (last.path, last.range, last.if_range) == (f"/{NAME}", "bytes=20000-", None)


def test_a_wrong_mirror_is_named_with_its_variable(monkeypatch):
    for mirror in ("/mnt/files", "ftp://127.0.0.1"):
        monkeypatch.setenv("KERASDET_MIRROR", mirror)
        with pytest.raises(ValueError, match=f"KERASDET_MIRROR names '{mirror}': give http"):
            fetch(f"{NOTHING}/{NAME}", HASH)


def test_two_processes_at_once_fetch_once(server, start, folder):
    url = server.serve(f"/{NAME}", CONTENT, Answer(stall=10_000))
    first = start(url, HASH)
    wait_until(lambda: size_of(folder / f".{NAME}.part") == 10_000)
    second = start(url, HASH)
    assert "waiting for another process, which is making" in second.stderr.readline()
    server.release.set()
    for child in (first, second):
        assert child.communicate(timeout=20)[0].strip() == str(folder / NAME)
    assert (folder / NAME).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_killed_process_leaves_a_part_that_the_waiting_one_resumes(server, start, folder):
    url = server.serve(f"/{NAME}", CONTENT, Answer(stall=20_000))
    first = start(url, HASH)
    wait_until(lambda: size_of(folder / f".{NAME}.part") == 20_000)
    second = start(url, HASH)
    assert "waiting" in second.stderr.readline()
    first.kill()
    assert first.wait() == -9
    output, lines = second.communicate(timeout=20)
    assert output.strip() == str(folder / NAME)
    assert f"resuming {url}" in lines
    assert (folder / NAME).read_bytes() == CONTENT
    assert [(r.range, r.sent) for r in server.requests[1:]] == [("bytes=20000-", 30_000)]


class WindowsLocks:
    """msvcrt's locking, by that of POSIX."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def locking(self, descriptor, mode, length):
        kinds = {self.LK_NBLCK: fcntl.LOCK_EX | fcntl.LOCK_NB, self.LK_UNLCK: fcntl.LOCK_UN}
        try:
            fcntl.flock(descriptor, kinds[mode])
        except BlockingIOError as error:
            raise PermissionError(13, "Permission denied") from error


@pytest.mark.parametrize("windows", [False, True])
def test_a_lock_excludes_others_until_it_ends(folder, windows, monkeypatch):
    if windows:
        monkeypatch.setattr(files, "fcntl", None)
        monkeypatch.setattr(files, "msvcrt", WindowsLocks(), raising=False)
    cache_folder()
    with open(folder / ".a.lock", "a") as other:
        with locked(folder / "a"), locked(folder / "b"):
            assert not cache._take(other)
        assert cache._take(other)


def test_a_lock_ends_even_if_a_process_forked_meanwhile_lives_on(folder, monkeypatch):
    take, copies = cache._take, []

    def forked(file):
        copies.append(os.dup(file.fileno()))  # a child shares the open file in this way
        return take(file)

    cache_folder()
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_take", forked)
        with locked(folder / "a"):
            pass
    with open(folder / ".a.lock", "a") as other:
        assert take(other)
    os.close(copies[0])


def test_a_file_system_without_locks_is_named(folder, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        OSError, match=rf"\(No locks available\).*KERASDET_CACHE=FOLDER: '{folder}'"
    ):
        fetch(f"{NOTHING}/{NAME}", HASH)


def test_where_the_cache_folder_lies(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERASDET_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "home" / "mine"
    monkeypatch.delenv("KERASDET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "kerasdet"
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / "home" / ".cache" / "kerasdet"
    assert cache_folder().is_dir()


def test_a_folder_that_cannot_be_made_is_named_with_its_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERASDET_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(NotADirectoryError, match=r"KERASDET_CACHE=FOLDER: '.*/file/cache'"):
        fetch(f"{NOTHING}/{NAME}", HASH)


def test_a_full_disk_is_an_error_at_once_and_no_broken_connection(server):
    url = server.serve(f"/{NAME}", CONTENT)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*\(File too large\); free space"):
            fetch(url, HASH)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(server.requests) == 1
    assert fetch(url, HASH).read_bytes() == CONTENT


def test_lines_where_stderr_is_no_terminal(server, folder, capsys):
    url = server.serve(f"/{NAME}", CONTENT)
    fetch(url, HASH, len(CONTENT))
    fetch(url, HASH)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"kerasdet: downloading {url} (0.1 MB)",
        f"kerasdet: {folder / NAME} is downloaded and verified",
    ]


def test_a_bar_on_a_terminal(server, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    url = server.serve("/model[a].pth", CONTENT, Answer(pause=0.005))
    fetch(url, HASH)
    assert re.search(r"model\[a\]\.pth [^\n]*50\.0/50\.0 kB", terminal.getvalue())
    assert "model[a].pth is downloaded and verified\n" in terminal.getvalue()


def test_a_converted_file_is_made_once_per_source_and_version(folder):
    made = []

    def make(path):
        assert path.name.endswith(".weights.h5")
        path.write_bytes(b"%d" % len(made))
        made.append(path)

    path = cached("model.weights.h5", HASH, 2, make)
    assert path == folder / f"model-{HASH[:8]}-v2.weights.h5"
    assert cached("model.weights.h5", HASH, 2, make) == path
    assert len(made) == 1
    assert cached("model.weights.h5", HASH, 3, make).read_bytes() == b"1"
    assert cached("model.weights.h5", "0" * 64, 2, make).read_bytes() == b"2"
    path.write_bytes(b"cut sh")
    assert cached("model.weights.h5", HASH, 2, make).read_bytes() == b"3"


def test_two_threads_at_once_convert_once(capsys):
    made, release = [], threading.Event()

    def make(path):
        release.wait(20)
        path.write_bytes(b"whole")
        made.append(path)

    threads = [threading.Thread(target=cached, args=("a.h5", HASH, 1, make)) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: "waiting" in capsys.readouterr().err)
    release.set()
    for thread in threads:
        thread.join(20)
    assert len(made) == 1


def test_a_failed_conversion_leaves_nothing(folder):
    def make(path):
        path.write_bytes(b"half")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        cached("model.h5", HASH, 1, make)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


def test_what_a_killed_conversion_left_is_removed(folder):
    code = (
        "import os\nfrom kerasdet.zoo.cache import cached\n"
        "def make(path):\n    path.write_bytes(b'half')\n    os.kill(os.getpid(), 9)\n"
        f"cached('model.h5', {HASH!r}, 1, make)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    (left_over,) = folder.glob(".*.h5")
    assert left_over.read_bytes() == b"half"
    path = cached("model.h5", HASH, 1, lambda path: path.write_bytes(b"whole"))
    assert path.read_bytes() == b"whole"
    assert not left_over.exists()


@pytest.mark.parametrize("kind", ["sha1", "md5"])
def test_old_hashes_are_compared_as_the_new_one(server, folder, kind, monkeypatch):
    right, wrong = (f"{kind}:{hashlib.new(kind, data).hexdigest()}" for data in (CONTENT, OTHER))
    server.files["/" + NAME] = CONTENT
    with pytest.raises(DownloadError, match=f"has the hash {right} .* instead of {wrong}"):
        fetch(server.url("/" + NAME), wrong)
    assert not (folder / NAME).exists()
    path = fetch(server.url("/" + NAME), right)
    assert path.read_bytes() == CONTENT
    count = len(server.requests)
    for digest in (right, HASH, right):  # whatever kind is remembered
        assert fetch(server.url("/" + NAME), digest) == path
    assert len(server.requests) == count
    assert not verified(path, wrong)
    monkeypatch.setattr(cache, "digest_of", None)
    assert verified(path, right)
