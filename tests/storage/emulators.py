"""S3 and Google's storage on loopback, behind a server that makes faults: `with started("s3") as storage`."""

import contextlib
import http.client
import http.server
import importlib.util
import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from mdp_jax.storage import buckets
from tests.end_to_end.processes import free_port

BUCKET = "mdp-tests"
ROOT = pathlib.Path(__file__).resolve().parents[2]
NEEDED = {"s3": ("s3fs", "moto", "flask", "flask_cors"), "gs": ("gcsfs", "gcp_storage_emulator")}
SERVERS = {
    "s3": [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"],
    "gs": [
        sys.executable,
        "-m",
        "gcp_storage_emulator",
        "start",
        "--host=127.0.0.1",
        "--in-memory",
        "--quiet",
        "--port",
    ],
}
_HOP = ("connection", "transfer-encoding", "content-length", "keep-alive", "host")


class _Front(http.server.ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, *_):
        """Nothing: connections break off, since processes are killed and faults are made."""


class Storage:
    """A storage under test.

    Attributes:
      scheme: gs or s3.
      url: of its bucket.
      environment: variables with which a process uses it.
      latency: seconds that are added to each request.
      faults: of the next requests, one each: "503", "cut" (half of the answer), "slow" (pieces), "lost" (done and not
        answered), "silent", "ok".
      refuses: methods of HTTP that are answered with `refusal`.
      refusal: a status of HTTP, 403 or 401.
      requests: (method, path) of all that came.
    """

    def __init__(self, scheme: str, server: int):
        self.scheme, self.url = scheme, f"{scheme}://{BUCKET}"
        self.latency, self.faults, self.refuses = 0.0, list[str](), set[str]()
        self.refusal = 403
        self.requests: list[tuple[str, str]] = []
        self._server, self._lock = server, threading.Lock()
        self.front = _Front(("127.0.0.1", 0), self._handler())
        self.front.daemon_threads = True
        address = f"http://127.0.0.1:{self.front.server_address[1]}"
        self.environment = {buckets.PATIENCE: "6"}
        if scheme == "s3":
            keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
            self.environment |= keys | {"AWS_ENDPOINT_URL": address}
        else:
            self.environment |= {"STORAGE_EMULATOR_HOST": address}
        threading.Thread(target=self.front.serve_forever, daemon=True).start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        storage = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                size = int(self.headers.get("Content-Length") or 0)
                body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(size)
                with storage._lock:
                    storage.requests.append((self.command, self.path))
                    fault = storage.faults.pop(0) if storage.faults else "ok"
                time.sleep(storage.latency)
                if fault == "503":
                    return self._send(503, [], b"")
                if fault == "silent":
                    time.sleep(5)
                    self.close_connection = True
                    return None
                if self.command in storage.refuses:
                    return self._send(storage.refusal, [("Content-Type", "application/xml")], _DENIED)
                status, headers, content = storage.ask(self.command, self.path, body, self.headers)
                if fault == "lost":
                    self.close_connection = True
                    return None
                return self._send(status, headers, content, fault)

            def _chunks(self):
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def _send(self, status, headers, content, fault="ok"):
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                length = next((v for n, v in headers if n.lower() == "content-length"), str(len(content)))
                if not any(n.lower() == "content-length" for n, _ in headers):
                    self.send_header("Content-Length", length)
                self.end_headers()
                if self.command == "HEAD":
                    return
                if fault == "cut" and content:
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                elif fault == "slow":
                    for at in range(0, len(content), max(1, len(content) // 5)):
                        self.wfile.write(content[at : at + max(1, len(content) // 5)])
                        self.wfile.flush()
                        time.sleep(0.05)
                else:
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = answer

        return Handler

    def ask(self, method, path, body, headers):
        """The answer of the emulator itself."""
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        if self.scheme == "gs" and method == "POST" and query.get("ifGenerationMatch") == ["0"]:
            with self._lock:  # the emulator does not know the condition
                name = urllib.parse.quote(_name_of(query, body), safe="")
                found = self._forward("GET", f"/storage/v1/b/{BUCKET}/o/{name}", b"", {})
                if found[0] == 200:
                    return 412, [], b'{"error": {"code": 412, "message": "conditionNotMet"}}'
                return self._forward(*_as_media(method, path, body, headers))
        return self._forward(*_as_media(method, path, body, headers))

    def _forward(self, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self._server, timeout=60)
        try:
            kept = {name: value for name, value in headers.items() if name.lower() not in _HOP}
            connection.request(method, path, body=body, headers=kept | {"Host": f"127.0.0.1:{self._server}"})
            answer = connection.getresponse()
            content = answer.read()
            found = [(n, v) for n, v in answer.getheaders() if n.lower() not in (*_HOP, "date", "server")]
            if method == "HEAD":
                found += [("Content-Length", answer.getheader("Content-Length") or "0")]
            return answer.status, found, content
        finally:
            connection.close()


_DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def _name_of(query, body) -> str:
    """The name of the object that an upload is of: of its query, or of the JSON at the beginning of its body."""
    if "name" in query:
        return query["name"][0]
    return body.split(b'"name":', 1)[1].split(b'"')[1].decode()


def _as_media(method, path, body, headers):
    """A request of one object without its parts: the emulator reads them as mail, and loses a last carriage return."""
    boundary = re.search(r'multipart/related; boundary="([^"]+)"', headers.get("Content-Type", ""))
    if method != "POST" or boundary is None:
        return method, path, body, headers
    name = _name_of(urllib.parse.parse_qs(urllib.parse.urlsplit(path).query), body)
    between = f"--{boundary[1]}".encode()
    _, described, content = body.split(between, 2)
    assert json.loads(described.split(b"\n\n", 1)[1])["name"] == name
    content = content.removeprefix(b"\n").split(b"\n\n", 1)[1].removesuffix(b"\n" + between + b"--")
    if not content:
        return method, path, body, headers
    path = path.replace("uploadType=multipart", f"uploadType=media&name={urllib.parse.quote(name, safe='')}")
    kept = {each: value for each, value in headers.items() if each.lower() != "content-type"}
    return method, path, content, kept | {"Content-Type": "application/octet-stream"}


@contextlib.contextmanager
def started(scheme: str) -> Iterator[Storage]:
    """A storage with an empty bucket; the variables of this process name it while it lasts."""
    missing = [name for name in NEEDED[scheme] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no emulator of {scheme}://: {missing[0]} is not installed (pip install 'mdp_jax[dev]')")
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([*SERVERS[scheme], str(port)], **quiet)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    try:
        _make_bucket(scheme, port)
        storage = Storage(scheme, port)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in storage.environment.items():
                patch.setenv(name, value)
            buckets.forget()
            yield storage
            storage.front.shutdown()
            storage.front.server_close()
    finally:
        buckets.forget()
        server.kill()
        server.wait()


def _make_bucket(scheme: str, port: int) -> None:
    until = time.monotonic() + 60
    address = f"http://127.0.0.1:{port}"
    if scheme == "s3":
        asked = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")
    else:
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(
            f"{address}/storage/v1/b?project=p", b'{"name": "%b"}' % BUCKET.encode(), headers
        )
    while True:
        try:
            urllib.request.urlopen(asked, timeout=10).read()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def copied(folder: pathlib.Path, url: str) -> None:
    """Copies a folder into a bucket."""
    buckets.upload_folder(folder, url)


def environment_of(storage: Storage, cache: pathlib.Path) -> dict[str, str]:
    """Variables of a process that uses a storage, with a cache of its own."""
    return os.environ | storage.environment | {"XDG_CACHE_HOME": str(cache)}
