"""Memory that small inputs take, measured as the peak of a process of its own."""

import io
import json
import struct
import subprocess
import sys

import cv2
import numpy as np
from PIL import Image

from tests.data.fixtures import write_png

# Reads files named in its arguments as (reader, path), and says by how many bytes the peak rose, and the error.
READER = """
import json, resource, sys
from mdp_jax.data import images
from mdp_jax.errors import UserError
from mdp_jax.evaluation.views import Views

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

def shrunk(path):
    photo = images.read_photo(path)
    return images.resize_photo(photo, *images.short_side_size(*photo.shape[:2], 480))

readers = {
    "photo": images.read_photo,
    "mask": lambda path: images.read_mask(path, palette=True),
    "facts": images.facts,
    "short side": shrunk,
    "scales": lambda path: Views(scales=(10.0,)).of([images.read_photo(path)]),
}
before, rows = peak(), []
for name, path in json.loads(sys.argv[1]):
    try:
        readers[name](path)
        said = ""
    except UserError as error:
        said = str(error)
    rows.append([name, path, peak() - before, said])
print(json.dumps(rows))
"""
LIMIT = 64 << 20


def measured(tries) -> list:
    words = [sys.executable, "-c", READER, json.dumps([[name, str(path)] for name, path in tries])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def palette_png() -> bytes:
    picture = Image.fromarray((np.arange(480).reshape(20, 24) % 6).astype(np.uint8))
    picture.putpalette(list(range(48)))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_a_wrong_byte_in_the_length_of_a_chunk(tmp_path):
    """OpenCV took 3.9 GiB for 670 bytes; where the first byte of a length of any chunk that it reads was wrong."""
    tries = []
    for name, data in (
        ("palette", palette_png()),
        ("rgb", cv2.imencode(".png", np.zeros((20, 24, 3), np.uint8))[1].tobytes()),
    ):
        for kind in (b"PLTE", b"IDAT"):
            at = data.find(kind)
            for place in range(4 * (at >= 0)):
                file = tmp_path / f"{name} {kind.decode()} {place}.png"
                file.write_bytes(data[: at - 4 + place] + b"\xf5" + data[at - 3 + place :])
                tries += [(reader, file) for reader in ("photo", "mask", "facts")]
    found = measured(tries)
    assert len(found) == 3 * 4 * 3
    for name, path, rose, said in found:
        assert rose < LIMIT, (name, path, rose)
        assert name == "facts" or "damaged" in said or "is a RGB PNG" in said, (name, path, said)


def test_photos_that_are_resized_to_more_than_the_memory(tmp_path):
    """A photo of 4 x 20,000 pixels took 3.4 GiB with short_side=480, and 15 GiB with 1024."""
    tries = []
    for shape in ((4, 20_000), (20_000, 4), (1, 9_000)):
        file = tmp_path / f"{shape}.png"
        write_png(file, np.zeros((*shape, 3)))
        tries += [("short side", file)]
    write_png(tmp_path / "large.png", np.zeros((700, 800, 3)))  # 7,000 x 8,000, 168 MB
    found = measured([*tries, ("scales", tmp_path / "large.png")])
    for name, path, rose, said in found:
        assert rose < LIMIT, (name, path, rose)
        assert "expected at most 33,554,432 pixels" in said


def test_headers_that_claim_more_than_there_is(tmp_path):
    claims = {
        "bmp": b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, *[0] * 6),
        "gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6) + b",\0\0\0\0" + b"\xff" * 4,
        "ppm": b"P6\n60000 60000\n255\n",
        "tiff": b"II*\0\x08\0\0\0\x02\0"
        + struct.pack("<HHII", 256, 4, 1, 60000)
        + struct.pack("<HHII", 257, 4, 1, 60000)
        + bytes(4),
    }
    for form, content in claims.items():
        (tmp_path / f"a.{form}").write_bytes(content)
    tries = [(name, tmp_path / f"a.{form}") for name in ("photo", "mask", "facts") for form in claims]
    for name, path, rose, said in measured(tries):
        assert rose < LIMIT, (name, path, rose)
        assert said
