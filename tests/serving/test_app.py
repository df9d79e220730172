"""The routes: what they answer, and whom."""

import argparse
import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import anyio
import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from mdp_jax import cli
from mdp_jax.commands import serve
from mdp_jax.errors import UserError
from mdp_jax.serving import app, uploads
from mdp_jax.serving import session as sessions

HOME = "http://127.0.0.1:8765"
STROKE = {"name": "boat", "points": [[14, 20], [26, 30]], "radius": 4}


@pytest.fixture
def client(session):
    with TestClient(app.app(session), base_url=HOME) as client:
        yield client


@pytest.fixture
def key(client, photo):
    return client.post("/api/photos", content=cv2.imencode(".png", photo[..., ::-1])[1].tobytes()).json()["key"]


def labels_of(client, key, name):
    answer = client.get(f"/api/photos/{key}/labels", params={"set": name})
    assert answer.status_code == 200 and answer.headers["content-encoding"] == "gzip"
    return np.frombuffer(answer.content, "<u2").reshape(48, 64)


def test_a_photo_and_a_stroke(client, key, session, photo):
    network = client.get("/api/network").json()
    assert [found["name"] for found in network["sets"]] == list(session.sets) and network["first"] == "all"
    assert all(len(found["classes"]) == len(found["colours"]) for found in network["sets"])
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for found in network["sets"] for colour in found["colours"])
    shown = cv2.imdecode(
        np.frombuffer(client.get(f"/api/photos/{key}/picture").content, np.uint8), cv2.IMREAD_COLOR_RGB
    )
    assert shown.shape == photo.shape
    np.testing.assert_array_equal(labels_of(client, key, "town"), session.labels(key, "town"))
    found = client.get(f"/api/photos/{key}/pixel", params={"set": "town", "x": 20, "y": 24}).json()
    assert found == json.loads(json.dumps(session.pixel(key, "town", 20, 24)._asdict()))
    assert len(found["classes"]) == len(found["prototypes"]) == 5
    assert client.post(f"/api/photos/{key}/strokes", json=STROKE).json()["new"] == ["boat"]
    assert labels_of(client, key, "town")[24, 20] == len(session.network_of("town").classes)
    assert client.delete(f"/api/photos/{key}/strokes/last").json()["new"] == []
    client.post(f"/api/photos/{key}/strokes", json=STROKE)
    assert client.delete("/api/strokes").json()["new"] == []


def test_nothing_is_written(client, key, folder):
    def written():
        return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}

    before = written()
    client.post(f"/api/photos/{key}/strokes", json=STROKE)
    labels_of(client, key, "all")
    assert written() == before


def test_the_page_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|https?://|@import|url\(""", answer.text)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and policy.count("'sha256-") == 2
    assert "prefers-color-scheme: dark" in answer.text and "/* style of the reports */" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "a b", "[::1"])
def test_a_name_that_somebody_else_leads_here_is_refused(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 403 and answer.json()["error"].startswith("Host ")


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1", "[::1]:8765", "192.168.1.7:80", "LOCALHOST"])
def test_addresses_and_localhost_are_not(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8765"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_page_is_refused(client, session, headers):
    answer = client.delete("/api/strokes", headers=headers)
    assert answer.status_code == 403 and "expected this one" in answer.json()["error"]
    link = client.get("/", headers={"sec-fetch-site": "cross-site"})
    assert link.status_code == 200  # somebody who follows a link; it shows no photo
    assert client.delete("/api/strokes", headers={"origin": HOME, "sec-fetch-site": "same-origin"}).status_code == 200


def test_an_upload_that_is_too_large_is_not_read(client, monkeypatch):
    def parts():
        for _ in range(20):
            yield bytes(1000)

    monkeypatch.setattr(uploads, "MOST_BYTES", 3000)
    for content in (bytes(3001), parts()):  # with its length, and without
        answer = client.post("/api/photos", content=content)
        assert answer.status_code == 413 and answer.json()["error"].startswith("the photo has more than")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"not json", "a stroke: expected {"),
        (b"[" * 100_000, "a stroke: expected {"),
        (b'{"name": 3, "points": [[1, 2]], "radius": 2}', "a stroke: expected {"),
        (b'{"name": "a", "points": [[1, 2]], "radius": NaN}', "a stroke: expected {"),
        (b'{"name": "a", "points": [[1, 2, 3]], "radius": 2}', "a stroke: expected {"),
        (b'{"name": "a", "points": [[1, 99]], "radius": 2}', "a stroke that leaves the photo"),
        (b" " * 2**20 + b"1", "a stroke of more than 1,048,576 bytes"),
    ],
)
def test_bad_strokes(client, key, data, said):
    answer = client.post(f"/api/photos/{key}/strokes", content=data)
    assert answer.status_code in (400, 413) and answer.json()["error"].startswith(said)


def test_what_is_not_there(client, key):
    for path, status, said in [
        ("/api/photos/gone/labels?set=all", 400, "this photo is not kept any more"),
        (f"/api/photos/{key}/labels?set=../../etc", 400, "set '../../etc': expected one of"),
        (
            f"/api/photos/{key}/pixel?set=all&x=64&y=0",
            400,
            "pixel (64, 0): expected one of the photo, which is 64 x 48",
        ),
        (f"/api/photos/{key}/pixel?set=all&x=-1&y=0", 400, "x='-1': expected a whole number"),
        ("/etc/passwd", 404, "GET /etc/passwd: Not Found"),
        ("/api/photos", 405, "GET /api/photos: Method Not Allowed"),
    ]:
        answer = client.get(path)
        assert answer.status_code == status and answer.json()["error"].startswith(said)
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_one_computation_at_a_time_and_few_that_wait():
    running, most, refused = [], [], []

    def work():
        running.append(1)
        most.append(len(running))
        gate.wait()
        running.pop()

    async def ask(one):
        try:
            await one(work)
        except app._Busy:
            refused.append(1)

    async def all_of_them():
        one = app._OneAtATime()
        async with anyio.create_task_group() as group:
            for _ in range(app.WAITING + 5):
                group.start_soon(ask, one)
            while len(refused) < 4:
                await anyio.sleep(0.01)
            gate.set()

    gate = threading.Event()
    anyio.run(all_of_them)
    assert max(most) == 1 and len(most) == app.WAITING + 1 and len(refused) == 4


def test_a_port_in_use_is_one_line_before_weights_are_read(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as ended:
            cli.main(["serve", "--checkpoint", str(tmp_path / "none"), "--port", port])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said == f"mdp: --host 127.0.0.1 --port {port}: in use; expected a free port, or --port 0 for any\n"


def test_the_document_says_what_holds(pytestconfig):
    text = (pytestconfig.rootpath / "docs" / "serve.md").read_text()
    commands = re.findall(r"^mdp serve (.*)$", text, flags=re.MULTILINE)
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert commands and all(parser.parse_args(shlex.split(words)) for words in commands)
    assert set(re.findall(r"`(--[a-z]+)", text)) <= set(parser._option_string_actions)
    assert f"{uploads.MOST_BYTES >> 20} MB" in text and f"{uploads.MOST_PIXELS // 10**6} million" in text
    assert f"more than {app.WAITING} wait" in text and f":{parser.get_default('port')}/" in text
    assert f"{sessions.MOST_SEEN / 2**20:.0f} million" in text and sessions.PHOTOS == 3 and "three newest" in text


def test_it_ends_at_ctrl_c(folder):
    command = [sys.executable, "-m", "mdp_jax", "serve", "--checkpoint", str(folder / "finetuned"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline()
            (address,) = re.findall(r"^http://127\.0\.0\.1:[0-9]+/", said)
            for _ in range(300):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}api/network") as answer:
                    assert json.load(answer)["first"] == "valley"
                    break
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "stopped\n") and "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "--port 70000: expected a number from 0 to 65535"),
        (["--port", "0", "--host", "192.0.2.1"], "--host 192.0.2.1 --port 0: "),
        (["--tile", "100"], "--tile 100: expected a multiple of 32"),
        (["--layer", "top"], "--layer top: expected some of backbone"),
        (["--port", "0"], "config.json"),
    ],
)
def test_bad_arguments(tmp_path, words, said):
    with pytest.raises(UserError) as caught:
        cli.run(["serve", "--checkpoint", str(tmp_path), *words])
    assert said in str(caught.value)


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(
        UserError, match=r"^mdp serve: uvicorn is not installed; expected: pip install 'mdp_jax\[serve\]'$"
    ):
        serve._web()
