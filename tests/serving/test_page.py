"""The page in a headless Chromium: a photo, its overlay, the pointer, another set, a stroke."""

import base64
import shutil
import socket
import threading

import cv2
import numpy as np
import pytest
import uvicorn

from mdp_jax.serving import app
from mdp_jax.serving.session import Stroke

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright (pip install 'mdp_jax[dev]')")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def address(session):
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app.app(session), log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=30)
    assert not thread.is_alive()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_the_page(address, session, photo, tmp_path):
    file, wrong = tmp_path / "photo.png", []
    cv2.imwrite(str(file), photo[..., ::-1])
    (tmp_path / "notes.txt").write_text("no photo")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if not _own(request.url, address) else None)
        page.goto(address)
        _idle(page)
        assert page.title() == "mdp serve: pretrained" and page.input_value("#sets") == "all"

        page.set_input_files("#file", tmp_path / "notes.txt")
        _idle(page)
        assert page.inner_text("#said").startswith("the photo (8 bytes) is no picture")

        page.set_input_files("#file", file)
        _idle(page)
        key = next(iter(session._photos))
        seen = _overlay(page)
        page.locator("#opacity").fill("0")
        plain = _overlay(page)
        jpeg = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        assert np.abs(plain.astype(int) - cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)).mean() < 1
        expected = _tinted(plain, session.labels(key, "all"), session.colours_of("all"), 0.45)
        np.testing.assert_allclose(seen, expected, atol=1)

        page.select_option("#sets", "town")
        _idle(page)
        page.locator("#opacity").fill("100")
        labels, colours = session.labels(key, "town"), session.colours_of("town")
        np.testing.assert_allclose(_overlay(page), colours[labels], atol=1)

        box = page.locator("#marks").bounding_box()
        at = [(box["x"] + (x + 0.5) / 64 * box["width"], box["y"] + (y + 0.5) / 48 * box["height"]) for x, y in WAY]
        page.mouse.move(*at[0])
        page.wait_for_selector("#near li")
        x, y = WAY[0]
        found = session.pixel(key, "town", x, y)
        assert page.locator("#pixel .list").first.locator("li").first.inner_text().split("\n")[0] == found.classes[0][0]
        assert page.locator("#near li span").first.inner_text() == found.prototypes[0][0]

        page.check("#paint")
        page.fill("#name", "boat")
        page.locator("#brush").fill("90")
        page.mouse.move(*at[0])
        page.mouse.down()
        page.mouse.move(*at[1], steps=3)
        page.mouse.up()
        _idle(page)
        share = page.locator("#legend li", has_text="boat").locator("span").last.inner_text()
        assert page.inner_text("#said") == f"boat was adopted: {share} of the photo. It is kept in memory only."
        new = len(session.network_of("town").classes)
        after = session.labels(key, "town")
        assert (after == new).any() and "boat" in page.inner_text("#legend")
        np.testing.assert_allclose(_overlay(page), session.colours_of("town")[after], atol=1)

        page.click("#undo")
        _idle(page)
        np.testing.assert_allclose(_overlay(page), colours[labels], atol=1)
        assert "boat" not in page.inner_text("#legend")

        # A class that somebody paints on another page has its name and its colour here too.
        session.adopt(key, Stroke("barge", list(WAY), 4.0))
        page.select_option("#sets", "all")
        _idle(page)
        assert "barge" in page.inner_text("#legend")
        labels, colours = session.labels(key, "all"), session.colours_of("all")
        np.testing.assert_allclose(_overlay(page), colours[labels], atol=1)
        browser.close()
    assert not wrong


WAY = ((14, 20), (26, 30))


def _own(url, address):
    return url.startswith((address, "data:", "blob:"))


def _idle(page):
    page.wait_for_selector("body:not([data-running])", state="attached")


def _overlay(page):
    """What the page has drawn over the photo, uint8 [H, W, 3]."""
    url = page.locator("#photo").evaluate("canvas => canvas.toDataURL('image/png')")
    data = base64.b64decode(url.split(",", 1)[1])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def _tinted(plain, labels, colours, opacity):
    """The photo with the colour of each class over it, more of it at the borders to the right and below."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    part = np.where(edge, max(opacity, 0.9), opacity)[..., None]
    return plain + part * (colours[labels] - plain.astype(float))
