"""`mdp data import`: masks and annotations as tools and people make them become photos and masks of class ids."""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Sequence

import cv2
import numpy as np

from mdp_jax.commands.arguments import named_here, path, whole_number
from mdp_jax.data.doctor.scan import cores
from mdp_jax.data.imported import naming, splitting, writing
from mdp_jax.data.imported.form import BACKGROUND, IGNORED, MASKS, OVERLAPS, SHAPES, Key, Options
from mdp_jax.data.imported.place import Place
from mdp_jax.data.imported.registry import FORMS
from mdp_jax.errors import UserError
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.storage.json_files import write_text
from mdp_jax.storage.paths import make_folder
from mdp_jax.words import counted

_PHOTOS = ("copy", "link")
# Of the options that not every form reads.
_DEFAULTS = {"background": BACKGROUND, "overlap": OVERLAPS[0], "masks": "", "palette": "", "others": "", "yes": False}
_SHOWN = 40  # keys of masks that a table shows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp data import` to a parser."""
    parser.add_argument("source", type=named_here, metavar="SOURCE", help="folder, or file of annotations")
    parser.add_argument("--out", required=True, type=named_here, metavar="DIR", help="new folder of the dataset")
    parser.add_argument("--form", choices=tuple(FORMS), help="of the annotations (default: recognised by the files)")
    parser.add_argument(
        "--images",
        type=path,
        default="",
        metavar="WHERE",
        help="folder of the photos; or, beside masks, a pattern such as 'images/{name}_image.png' (also * and {split})",
    )
    parser.add_argument(
        "--masks",
        type=path,
        default="",
        metavar="PATTERN",
        help="folder of the masks, or a pattern such as 'masks/{name}_mask.png'",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="KEY=NAME",
        help="class of a colour ('#ff0000=car'), a value (255=road) or a label (truck=car), in the order of the ids; "
        f"NAME {IGNORED} ignores; or a file with a line for each",
    )
    parser.add_argument(
        "--palette", default="", metavar="SET", help="in place of --classes: the colours of a published set"
    )
    parser.add_argument("--others", default="", metavar="NAME", help=f"class of other colours or values, or {IGNORED}")
    parser.add_argument(
        "--background",
        default=_DEFAULTS["background"],
        metavar="NAME",
        help=f"class of pixels that no shape covers, or {IGNORED} (default %(default)s)",
    )
    parser.add_argument(
        "--overlap",
        choices=OVERLAPS,
        default=_DEFAULTS["overlap"],
        help="which of two shapes of different classes has the pixels of both (default %(default)s)",
    )
    parser.add_argument(
        "--photos", choices=_PHOTOS, default=_PHOTOS[0], help="copies, or links to the source (default %(default)s)"
    )
    parser.add_argument(
        "--split",
        nargs="+",
        type=path,
        default=[],
        metavar="FILE",
        help="lists of names: YAML, JSON, or train.txt val.txt",
    )
    parser.add_argument(
        "--val",
        type=_share,
        metavar="SHARE",
        help=f"make a split with this share of val photos (default: the source's own, or else {writing.DEFAULT_SHARE})",
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the split that is made (default 0)")
    parser.add_argument(
        "--group",
        default="",
        metavar="PATTERN",
        help="photos of one group stay together, such as '{group}_*' of the names",
    )
    parser.add_argument(
        "--skip_missing", action="store_true", help="pass over annotations without a photo, and photos without a mask"
    )
    parser.add_argument("--yes", action="store_true", help="take the colours or values of masks as they are found")
    parser.add_argument(
        "--workers", type=whole_number, default=cores(), metavar="N", help="threads (default: one a core)"
    )
    forms = "; ".join(f"{name}: {form.summary} ({form.signs})" for name, form in FORMS.items())
    parser.epilog = f"Forms: {forms}."


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text:.80}: expected a share between 0 and 1, such as 0.2")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text:.80}: expected a whole number from 0")
    return int(text)


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Writes the dataset and prints what was done.

    Args:
      args: what `add_arguments` declares.
      overrides: none.

    Raises:
      UserError: the annotations or the options are wrong; nothing is written then, but a draft of the classes of masks
        whose names nobody gave.
    """
    if overrides:
        raise UserError(f"--config.{overrides[0][0]}: mdp data import has no config; expected its own options")
    if args.split and args.val is not None:
        raise UserError(f"--val {args.val:g}: makes a split, and --split gives one; expected one of them")
    out = pathlib.Path(args.out)
    writing.require_usable(out)
    place = Place(args.source, args.out)
    named = naming.read(args.classes)
    if args.group:
        splitting.group_expression(args.group)
    lists = splitting.read_lists(args.split)
    words = {key: value for key, value in vars(args).items() if key not in ("out", "workers", "yes", "part", "command")}
    words["classes"] = named.as_text()
    name = args.form or _recognised(place)
    if not FORMS[name].recognise(place):
        raise UserError(f"--form {name}: no such annotations in {place.given}; expected {FORMS[name].signs}")
    _require_options(args, name)
    words |= {"source": str(pathlib.Path(args.source).absolute()), "form": name}
    cv2.setNumThreads(0)  # photos are read in several threads
    print(f"{place.given}: {FORMS[name].summary} (--form {name})", flush=True)
    options = Options(
        named,
        args.images,
        args.masks,
        args.palette,
        args.background,
        args.others,
        args.overlap,
        args.skip_missing,
        args.workers,
    )
    opened = FORMS[name].open(place, options)
    made_of = writing.identity(opened, words, args.split)
    done = writing.earlier(out, made_of)
    if done is not None:
        counts = ", ".join(f"{count} {split}" for split, count in done["splits"].items())
        print(f"{out}: is this import already ({counts}); nothing to do")
        return
    if opened.unconfirmed:
        _confirm(opened.unconfirmed, out, args.yes)
    plan = writing.Plan(args.photos == "link", args.val, args.seed, args.group, lists, args.skip_missing, args.workers)
    header = {"options": words}
    result = writing.write(opened, out, made_of, header, plan)
    _print(result, out)


def _require_options(args: argparse.Namespace, name: str) -> None:
    """UserError where an option was given that the form does not read."""
    for option in sorted({*SHAPES, *MASKS} - {*FORMS[name].takes}):
        value, default = getattr(args, option), _DEFAULTS[option]
        if value != default:
            others = " or ".join(other for other, form in FORMS.items() if option in form.takes)
            given = "" if value is True else f" {value}"
            raise UserError(f"--{option}{given}: belongs to --form {others}, and this is {name}; leave it out")


def _recognised(place: Place) -> str:
    """The form of the files."""
    for last in (False, True):
        found = [name for name, form in FORMS.items() if form.last == last and form.recognise(place)]
        if len(found) > 1:
            raise UserError(
                f"{place.given}: files of the forms {' and '.join(found)}; expected one: choose it with --form"
            )
        if found and not (last and place.given.is_file()):
            return found[0]
    others = place.annotations(".json") + place.annotations(".xml")
    what = "no annotations and no masks were recognised in it"
    if others:
        other = place.path(others[0])
        what = "a file of another form" if other == place.given else f"{other} is of another form"
    known = "; ".join(f"{name}: {form.signs}" for name, form in FORMS.items())
    raise UserError(f"{place.given}: {what}; expected one of these: {known}")


def _confirm(keys: Sequence[Key], out: pathlib.Path, yes: bool) -> None:
    """Shows the keys of masks without names; goes on with --yes, and otherwise writes a draft to be named."""
    total = sum(key.pixels for key in keys)
    rows: list[list[str | int | float | None]] = [
        [key.key, key.name, 100 * key.pixels / total, key.photos, key.example] for key in keys
    ]
    columns = ["in the masks", "class", "% of pixels", "masks", "most in"]
    caption = f"What the masks hold ({len(keys)} in all)"
    console().print(for_terminal(Table(columns, rows[:_SHOWN], caption)))
    sys.stdout.flush()
    if yes:
        return
    draft = out.with_name(f"{out.name}_classes.txt")
    file = shlex.quote(str(draft))
    given = " ".join(f"'{key.key}={key.name}'" for key in keys[:4]) + (" ..." if len(keys) > 4 else "")
    if draft.exists():
        kept = f"{draft} is there already and is kept"
    else:
        make_folder(draft.parent, "--out")
        write_text(draft, "".join(f"{key.key} {key.name}\n" for key in keys))
        kept = f"{draft} is a draft of them"
    raise UserError(
        f"the classes of these {len(keys)} have no names yet, and {kept}: change the names in it and give --classes "
        f"{file} (or --classes {given}), or take them as they are with --yes; nothing was imported"
    )


def _print(result: writing.Result, out: pathlib.Path) -> None:
    rows = []
    for index, name in enumerate(result.classes):
        row: list[str | int | float | None] = [index, name]
        for split in result.counts:
            labelled = int(result.pixels[split][1:].sum())
            row += [100 * int(result.pixels[split][index + 1]) / labelled if labelled else None]
            row += [int(result.photos[split][index])]
        rows.append(row)
    columns = ["id", "class", *(f"{split} {what}" for split in result.counts for what in ("%", "photos"))]
    console().print(for_terminal(Table(columns, rows, f"Classes of {out} (of its labelled pixels, in %)")))
    sys.stdout.flush()
    for split, count in result.counts.items():
        pixels = result.pixels[split]
        ignored = 100 * int(pixels[0]) / max(1, int(np.sum(pixels)))
        print(f"{split}: {counted(count, 'photo')}, {ignored:.1f} % of the pixels ignored")
    for note in result.notes:
        print(f"note: {note}")
    parent = out.parent if str(out.parent) else pathlib.Path()
    look = f"mdp data check {shlex.quote(out.name)} --data_dir {shlex.quote(str(parent))}"
    print(f"{out} is a dataset now; look at it: {look}")
