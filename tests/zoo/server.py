"""A web server on the loopback, whose answers a test scripts."""

import hashlib
import os
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 1000  # bytes that are sent at once


@dataclass
class Answer:
    """What differs from a correct answer."""

    status: int | None = None  # answered without a file
    headers: dict = field(default_factory=dict)  # added; None leaves one out
    content: bytes | None = None  # sent instead of the file
    ranges: bool = True  # False: a range is ignored
    cut: int | None = None  # the connection ends after this many bytes of the body
    chunked: bool = False  # Transfer-Encoding, without a length
    reset: bool = False  # it ends by a reset
    stall: int | None = None  # silent after this many bytes, until `Server.release` is set
    pause: float = 0  # seconds after each block


@dataclass
class Request:
    path: str
    range: str | None
    if_range: str | None
    sent: int = 0  # bytes of the body


class Server:
    """Serves `files`, {path: bytes}; each request of a path takes the next of its `answers`."""

    def __init__(self):
        self.files, self.answers, self.requests = {}, {}, []
        self.release = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.release.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def url(self, path):
        return f"http://127.0.0.1:{self._http.server_port}{path}"

    def serve(self, path, content, *answers):
        """Publish a file; `answers` are those to the first requests. Returns its URL."""
        self.files[path], self.answers[path] = content, list(answers)
        return self.url(path)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server.owner
        request = Request(self.path, self.headers["Range"], self.headers["If-Range"])
        server.requests.append(request)
        answers = server.answers.get(self.path)
        answer = answers.pop(0) if answers else Answer()
        try:
            self._answer(server, request, answer)
        except OSError:  # the client has gone
            self.close_connection = True

    def _answer(self, server, request, answer):
        content = server.files.get(self.path) if answer.content is None else answer.content
        status = answer.status or (200 if content is not None else 404)
        if status != 200:
            return self._head(status, {"Content-Length": 0} | answer.headers)
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = {"ETag": etag} | answer.headers
        start = self._start(request, answer, headers)
        if start >= len(content):
            return self._head(416, {"Content-Range": f"bytes */{len(content)}"})
        if start:
            status, last = 206, len(content) - 1
            headers = {"Content-Range": f"bytes {start}-{last}/{len(content)}"} | headers
        length = {"Content-Length": len(content) - start}
        headers = ({"Transfer-Encoding": "chunked"} if answer.chunked else length) | headers
        self._head(status, headers)
        self._body(server, request, answer, content[start:])

    def _start(self, request, answer, headers):
        known = (None, headers.get("ETag"), headers.get("Last-Modified"))
        if not (answer.ranges and request.range and request.if_range in known):
            return 0
        return int(re.fullmatch(r"bytes=(\d+)-", request.range)[1])

    def _head(self, status, headers):
        self.send_response(status)
        for key, value in headers.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()

    def _body(self, server, request, answer, body):
        end = len(body) if answer.cut is None else answer.cut
        for at in range(0, end, BLOCK):
            if answer.stall is not None and at >= answer.stall:
                server.release.wait(60)
            block = body[at : min(at + BLOCK, end)]
            request.sent += len(block)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if answer.chunked else block)
            if answer.pause:
                server.release.wait(answer.pause)
        if answer.chunked and end == len(body):
            self.wfile.write(b"0\r\n\r\n")
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def log_message(self, *_):
        """Silent."""
