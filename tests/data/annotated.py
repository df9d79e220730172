"""Small annotated sets in the structure in which tools write them, and masks drawn by plain loops."""

import base64
import io
import json
import pathlib
import zlib

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_masks

from tests.data.fixtures import write_jpeg, write_png

SIZE = (24, 32)  # height and width of the photos


def photo(seed: int, size=SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def write_photos(folder: pathlib.Path, names, size=SIZE) -> None:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jpeg(path, photo(seed, size))


def write_json(path: pathlib.Path, value) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def naive_polygon(corners, size=SIZE) -> np.ndarray:
    """bool [H, W]: the pixels whose middle is inside, by the even-odd rule, one after the other."""
    corners = np.asarray(corners, float).reshape(-1, 2).tolist()
    found = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y = column + 0.5, row + 0.5
            for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                    found[row, column] ^= True
    return found


def naive_rle(region: np.ndarray) -> list[int]:
    """COCO's run lengths, column after column, beginning with pixels outside."""
    counts, value, run = [], False, 0
    for pixel in region.T.ravel().tolist():
        if pixel != value:
            counts.append(run)
            value, run = pixel, 0
        run += 1
    return [*counts, run]


def rectangle(left, top, right, bottom) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def region(left, top, right, bottom, size=SIZE) -> np.ndarray:
    """bool [H, W], drawn by a slice."""
    found = np.zeros(size, bool)
    found[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return found


RING = region(4, 4, 20, 20) & ~region(8, 8, 12, 12)  # a region with a hole
CROWD = region(0, 0, 32, 10)


def coco(root: pathlib.Path, split: str = "") -> tuple[pathlib.Path, dict[str, np.ndarray]]:
    """COCO instances with a hole, a crowd, overlapping polygons, an empty photo and Unicode; and the masks.

    Ids in the masks: 0 background, 1 cat, 2 Hund, 3 crowd's class person.
    """
    names = ["übung 1.jpg", "b.jpg", "empty.jpg"]
    write_photos(root / "images", names)
    packed = coco_masks.encode(np.asfortranarray(RING.astype(np.uint8)))
    slanted = [3.2, 2.1, 28.7, 6.3, 17.5, 21.9]
    rows = [
        # The polygon comes first and the crowd after it, and yet the polygon lies over the crowd.
        {"image_id": 7, "category_id": 18, "segmentation": [rectangle(2, 2, 10, 12), rectangle(20, 2, 30, 6)]},
        {
            "image_id": 7,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"size": list(SIZE), "counts": naive_rle(CROWD)},
        },
        {"image_id": 9, "category_id": 17, "segmentation": [slanted]},
        {
            "image_id": 9,
            "category_id": 18,
            "segmentation": {"size": list(SIZE), "counts": packed["counts"].decode()},
        },
        {"image_id": 9, "category_id": 1, "segmentation": [], "bbox": [1, 2, 3, 4]},
    ]
    value = {
        "info": {},
        "images": [
            {"id": key, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            for key, name in zip((7, 9, 11), names, strict=True)
        ],
        "annotations": [{"id": number, "iscrowd": 0, **row} for number, row in enumerate(rows, start=1)],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "Hund"}, {"id": 1, "name": "person"}],
    }
    first = np.zeros(SIZE, np.uint8)
    first[CROWD] = 3
    first[region(2, 2, 10, 12) | region(20, 2, 30, 6)] = 2
    second = coco_masks.decode(coco_masks.frPyObjects([slanted], *SIZE))[..., 0]
    second[RING] = 2
    file = write_json(root / f"annotations/instances{split}.json", value)
    return file, {"übung 1": first, "b": second, "empty": np.zeros(SIZE, np.uint8)}


def panoptic(root: pathlib.Path) -> dict[str, np.ndarray]:
    """COCO panoptic: a JSON, and a PNG for each photo whose colours are numbers of segments; ids 0 sky, 1 cat."""
    write_photos(root / "photos", ["a.jpg", "b.jpg"])
    masks, rows = {}, []
    for number, name in enumerate(("a", "b"), start=1):
        sky, first, second = 3_000_000 + number, 70_000 * number, 300 + number
        numbers = np.zeros(SIZE, np.int64)
        numbers[:10] = sky
        numbers[12:20, 3:9] = first
        numbers[15:24, 20 : 20 + 4 * number] = second
        colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype(np.uint8)
        path = root / "annotations" / "panoptic_train2017" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, colours[..., ::-1])
        segments = [
            {"id": sky, "category_id": 187},
            {"id": first, "category_id": 17},
            {"id": second, "category_id": 17},
        ]
        rows.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
        masks[name] = np.where(numbers == sky, 0, np.where(numbers > 0, 1, 255)).astype(np.uint8)
    value = {
        "images": [
            {"id": number, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]}
            for number, name in enumerate(("a", "b"), start=1)
        ],
        "annotations": rows,
        "categories": [
            {"id": 187, "name": "sky", "isthing": 0, "color": [70, 130, 180]},
            {"id": 17, "name": "cat", "isthing": 1, "color": [255, 0, 0]},
        ],
    }
    write_json(root / "annotations" / "panoptic_train2017.json", value)
    return masks


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def labelme(root: pathlib.Path) -> dict[str, np.ndarray]:
    """LabelMe: a JSON beside each photo, with a rectangle, a mask, a line; ids 0 background, 1 Küche, 2 tür."""
    write_photos(root, ["a.jpg", "straße/b.jpg", "empty.jpg", "not annotated.jpg"])
    patch = np.array([[1, 0, 1], [1, 1, 1]], np.uint8)

    def shape(label, points, kind="polygon", **more):
        return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}

    drawn = {
        "a": [
            shape("tür", [[2, 3], [20, 3], [20, 15], [2, 15]]),
            shape("Küche", [[30, 20], [10, 5]], "rectangle"),
            shape("Küche", [[0, 0], [9, 9]], "line"),
        ],
        "straße/b": [
            shape("tür", [[1, 1], [4, 3]], "mask", mask=base64.b64encode(_png(patch * 255)).decode()),
            shape("Küche", [[-3, 20], [8, 20], [8, 40], [-3, 40]]),
        ],
        "empty": [],
    }
    for name, found in drawn.items():
        value = {
            "version": "5.5.0",
            "flags": {},
            "shapes": found,
            "imagePath": f"..\\photos\\{name}.jpg" if name == "a" else f"{name.split('/')[-1]}.jpg",
            "imageData": "AAAA",
            "imageHeight": SIZE[0],
            "imageWidth": SIZE[1],
        }
        write_json(root / f"{name}.json", value)
    first = np.zeros(SIZE, np.uint8)
    first[region(2, 3, 20, 15)] = 2
    first[region(10, 5, 30, 20)] = 1
    second = np.zeros(SIZE, np.uint8)
    second[1:3, 1:4][patch > 0] = 2
    second[region(0, 20, 8, 24)] = 1
    return {"a": first, "straße/b": second, "empty": np.zeros(SIZE, np.uint8)}


def cvat(root: pathlib.Path) -> dict[str, np.ndarray]:
    """CVAT for images 1.1: z_order, a mask by runs, a box, a line; ids 0 background, 1 crop, 2 Unkraut & mehr."""
    write_photos(root / "images", ["feld/ä.jpg", "feld/b.jpg", "empty.jpg"])
    patch = np.array([[0, 1, 1], [1, 1, 0]], bool)
    text = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>1</id><labels>
    <label><name>crop</name><color>#00ff00</color><type>any</type><attributes></attributes></label>
    <label><name>Unkraut &amp; mehr</name><color>#ff0000</color><type>any</type><attributes></attributes></label>
  </labels></task><dumped>2024-01-01</dumped></meta>
  <image id="0" name="feld/ä.jpg" width="{SIZE[1]}" height="{SIZE[0]}">
    <polygon label="crop" source="manual" occluded="0" points="2.00,3.00;20.00,3.00;20.00,15.00;2.00,15.00" z_order="1">
      <attribute name="x">1</attribute>
    </polygon>
    <polygon label="Unkraut &amp; mehr" occluded="0" points="10.0,5.0;30.0,5.0;30.0,20.0;10.0,20.0" z_order="0"/>
    <polyline label="crop" points="0,0;5,5" z_order="0"/>
  </image>
  <image id="1" name="feld/b.jpg" width="{SIZE[1]}" height="{SIZE[0]}">
    <box label="crop" occluded="0" xtl="4.0" ytl="6.0" xbr="12.0" ybr="10.0" z_order="0"/>
    <box label="crop" xtl="20.0" ytl="4.0" xbr="30.0" ybr="8.0" rotation="90.0" z_order="0"/>
    <mask label="Unkraut &amp; mehr" occluded="0" rle="1, 4, 1" left="5" top="7" width="3" height="2" z_order="0"/>
  </image>
  <image id="2" name="empty.jpg" width="{SIZE[1]}" height="{SIZE[0]}"></image>
</annotations>
"""
    (root / "annotations.xml").write_text(text, encoding="utf-8")
    first = np.zeros(SIZE, np.uint8)
    first[region(10, 5, 30, 20)] = 2
    first[region(2, 3, 20, 15)] = 1
    second = np.zeros(SIZE, np.uint8)
    second[region(4, 6, 12, 10)] = 1
    second[region(23, 1, 27, 11)] = 1  # the box turned around its middle, (25, 6)
    second[7:9, 5:8][patch] = 2
    return {"feld/ä": first, "feld/b": second, "empty": np.zeros(SIZE, np.uint8)}


def supervisely(root: pathlib.Path) -> dict[str, np.ndarray]:
    """A project of Supervisely with polygons with holes and bitmaps; ids 0 background, 1 wall, 2 door."""
    write_photos(root / "ds1" / "img", ["a.jpg", "b.jpg"])
    classes = [
        {"title": "wall", "shape": "polygon", "color": "#0A0B0C"},
        {"title": "door", "shape": "bitmap", "color": "#FF0000"},
    ]
    write_json(root / "meta.json", {"classes": classes, "tags": [], "projectType": "images"})
    patch = np.zeros((4, 5, 4), np.uint8)
    patch[1:, 2:, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(patch).save(buffer, "PNG")
    size = {"height": SIZE[0], "width": SIZE[1]}
    ring = {
        "exterior": [[4, 4], [19, 4], [19, 19], [4, 19]],  # the pixels on its border belong to it
        "interior": [[[8, 8], [11, 8], [11, 11], [8, 11]]],
    }
    objects = {
        "a": [{"classTitle": "wall", "geometryType": "polygon", "points": ring}],
        "b": [
            {
                "classTitle": "wall",
                "geometryType": "rectangle",
                "points": {"exterior": [[9, 12], [2, 3]], "interior": []},
            },
            {
                "classTitle": "door",
                "geometryType": "bitmap",
                "bitmap": {
                    "origin": [7, 10],
                    "data": base64.b64encode(zlib.compress(buffer.getvalue())).decode(),
                },
            },
            {"classTitle": "door", "geometryType": "point", "points": {"exterior": [[1, 1]], "interior": []}},
        ],
    }
    for name, found in objects.items():
        write_json(root / "ds1" / "ann" / f"{name}.jpg.json", {"description": "", "size": size, "objects": found})
    second = np.zeros(SIZE, np.uint8)
    second[region(2, 3, 10, 13)] = 1
    second[region(9, 11, 12, 14)] = 2
    return {"ds1/a": RING.astype(np.uint8), "ds1/b": second}


def packed_runs(values: np.ndarray) -> list[int]:
    """thi.ng's rle-pack of bytes: repeated values, and blocks of different ones, bit after bit."""
    lengths = (3, 4, 8, 16)  # bits of each kind of length
    bits = f"{len(values):032b}{8 - 1:05b}" + "".join(f"{length - 1:04b}" for length in lengths)
    at = 0
    while at < len(values):
        run = 1
        while at + run < len(values) and values[at + run] == values[at] and run < 1 << 16:
            run += 1
        if run == 1:  # a block of up to 8 values, as they are
            block = values[at : at + 8]
            bits += f"0{0:02b}{len(block) - 1:03b}" + "".join(f"{int(value):08b}" for value in block)
            at += len(block)
            continue
        kind = next(k for k, length in enumerate(lengths) if run <= 1 << length)
        bits += f"1{kind:02b}{run - 1:0{lengths[kind]}b}{int(values[at]):08b}"
        at += run
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def label_studio(root: pathlib.Path) -> dict[str, np.ndarray]:
    """Label Studio's JSON with brushes and a polygon; ids 0 background, 1 leaf, 2 spot."""
    write_photos(root, ["a b.jpg", "c.jpg"])
    brush = np.zeros((*SIZE, 4), np.uint8)
    brush[RING] = 255
    brush[10:12, 22:25, 3] = (7, 90, 200)

    def result(kind, value):
        return {
            "type": kind,
            "value": value,
            "original_height": SIZE[0],
            "original_width": SIZE[1],
            "image_rotation": 0,
            "from_name": "tag",
            "to_name": "image",
        }

    corners = [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in ((2, 3), (20, 3), (20, 15), (2, 15))]
    tasks = [
        {
            "id": 1,
            "data": {"image": "/data/upload/1/0a1b2c3d-a%20b.jpg"},
            "annotations": [
                {
                    "result": [
                        result(
                            "brushlabels", {"format": "rle", "rle": packed_runs(brush.ravel()), "brushlabels": ["spot"]}
                        )
                    ]
                }
            ],
        },
        {
            "id": 2,
            "data": {"image": "/data/local-files/?d=photos%2Fc.jpg"},
            "annotations": [
                {
                    "result": [
                        result("polygonlabels", {"points": corners, "polygonlabels": ["leaf"]}),
                        {"type": "choices", "value": {"choices": ["good"]}},
                    ]
                }
            ],
        },
    ]
    write_json(root / "project-1.json", tasks)
    first = np.zeros(SIZE, np.uint8)
    first[RING] = 2
    first[10:12, 22:25] = 2
    second = np.zeros(SIZE, np.uint8)
    second[region(2, 3, 20, 15)] = 1
    return {"a b": first, "c": second}
