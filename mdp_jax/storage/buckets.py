"""Objects of buckets, gs:// and s3://: whole reads and writes, conditional creation, retries, errors in one line.

fsspec's file systems do the work: gcsfs and s3fs, the extras `gcs` and `s3`. A path of a bucket is a text such as
"s3://bucket/folder/file"; storage/bucket_path.py gives it the form of pathlib. Nothing is renamed and nothing is
appended: an object is written as a whole, and is then there or is what it was before.
"""

import contextlib
import errno
import functools
import importlib
import os
import pathlib
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from mdp_jax.errors import TransientError, UserError, is_transient

# Scheme -> module and class that read it, and the extra of this package that brings them. Not gcsfs's own choice of a
# class: that one asks Google's service about each bucket, which emulators and tight rights do not answer.
_EXTRAS = {"gs": ("gcsfs.core", "GCSFileSystem", "gcs"), "s3": ("s3fs", "S3FileSystem", "s3")}
_PREFIXES = tuple(f"{scheme}://" for scheme in _EXTRAS)
# Two letters at least: one is a drive of Windows. A single slash is what is left of two where pathlib was in between.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(/?)")
_CREDENTIALS = {
    "gs": "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS",
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of the machine",
}
PROBE = ".mdp-"  # begins the name of an object that is written to see whether one may
PATIENCE = "MDP_BUCKET_PATIENCE"  # seconds for which a request is tried again
_PATIENCE = 60.0
_SILENCE = 20.0  # seconds without a byte after which a request has failed
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 8.0  # seconds between two tries, about twice as long each time
_AT_ONCE = 16  # requests of one call that are under way at one time
_AT_ONE_TIME = 2**26  # bytes of an object that is read as a whole
_LIBRARIES_OF_NETWORKS = ("aiohttp", "requests", "urllib3")
# What the libraries call a connection that did not come about, broke off or fell silent.
_OF_A_MOMENT = re.compile(
    r"HTTPClientError|ConnectionError|ConnectionClosedError|ConnectTimeoutError|ReadTimeoutError|EndpointConnectionError"
    r"|IncompleteRead|IncompleteReadError|ResponseParserError|FSTimeoutError|ProxyError|ChecksumError|TransportError"
)
_NO_CREDENTIALS = re.compile(r"NoCredentialsError|PartialCredentialsError|DefaultCredentialsError|ProfileNotFound")
_REFUSED_CREDENTIALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
_NO_BUCKET = "NoSuchBucket"

T = TypeVar("T")


class Entry(NamedTuple):
    """What a listing says of an object or a folder.

    Attributes:
      folder: whether it is a folder: names with a slash behind it.
      size: in bytes; 0 of a folder.
      version: changes when the object is written again; "" of a folder.
    """

    folder: bool
    size: int
    version: str


def is_bucket(path: str | os.PathLike) -> bool:
    """Whether a path is one of a bucket.

    Args:
      path: as a user wrote it, or any other.
    """
    return os.fspath(path).startswith(_PREFIXES)


def require_known(path: str | os.PathLike) -> None:
    """Checks that a path is one of this machine or of a bucket.

    Args:
      path: as a user wrote it.

    Raises:
      UserError: it has another scheme than those of buckets, or none behind it.
    """
    text = os.fspath(path)
    found = _SCHEME.match(text) if isinstance(text, str) else None
    if found is None:
        return
    if not found[2]:  # a folder of this machine may have such a name
        if found[1] in _EXTRAS:
            raise UserError(f"{text:.200}: expected two slashes, as in {found[1]}://BUCKET/FOLDER")
        return
    if found[1] not in _EXTRAS:
        raise UserError(
            f"{text:.200}: paths of {found[1]}:// are not read; expected a path of this machine, or one of a bucket: "
            f"{' or '.join(_PREFIXES)}"
        )
    if not text[found.end() :].partition("/")[0]:
        raise UserError(f"{text:.200}: names no bucket; expected {found[1]}://BUCKET/FOLDER")


def split(url: str) -> tuple[str, str]:
    """The scheme of a path, and what is behind it.

    Args:
      url: of a bucket.
    """
    scheme, _, rest = url.partition("://")
    return scheme, rest.rstrip("/")


@functools.cache
def _file_system(scheme: str) -> Any:
    module, kind, extra = _EXTRAS[scheme]
    try:
        file_system: Any = getattr(importlib.import_module(module), kind)
    except ImportError:
        raise UserError(f"{scheme}://: needs {module.split('.')[0]}; pip install 'mdp_jax[{extra}]'") from None
    # Another process may write there at any moment.
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "s3":
        retries = {"max_attempts": 2, "mode": "standard"}
        options["config_kwargs"] = {"read_timeout": _SILENCE, "connect_timeout": _SILENCE / 2, "retries": retries}
        options["config_kwargs"]["max_pool_connections"] = 2 * _AT_ONCE
    else:
        aiohttp = importlib.import_module("aiohttp")
        options["requests_timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE / 2, sock_read=_SILENCE)
    return file_system(**options)


def forget() -> None:
    """Forgets the connections to storages, so that the next request reads the environment anew."""
    _file_system.cache_clear()


def _patience() -> float:
    text = os.environ.get(PATIENCE, "")
    try:
        return float(text) if text else _PATIENCE
    except ValueError:
        raise UserError(f"{PATIENCE}={text:.80}: expected a number of seconds, such as 60") from None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def _code_of(error: BaseException) -> str:
    """The code that a storage gives its errors, such as NoSuchBucket; "" where there is none."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _status_of(error: BaseException) -> int:
    """The status of HTTP of an answer; 0 where there is none."""
    response = getattr(error, "response", None)
    found: Any = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    found = found or getattr(error, "code", None) or getattr(error, "status", None)
    return int(found) if str(found).isdecimal() else 0


def _is_of_a_moment(error: BaseException) -> bool:
    for each in _chain(error):
        status = _status_of(each)
        if status in (408, 429) or status >= 500 or _code_of(each) in ("SlowDown", "RequestTimeout", "InternalError"):
            return True
        if status:
            return False
        if isinstance(each, TimeoutError | ConnectionError | TransientError) or _OF_A_MOMENT.search(
            type(each).__name__
        ):
            return True
        if type(each).__module__.split(".")[0] in _LIBRARIES_OF_NETWORKS or is_transient(each):
            return True
    return False


def _reason(error: BaseException) -> str:
    """Why a request failed, in a few words of one line."""
    words = next((str(each) for each in _chain(error) if str(each)), type(error).__name__)
    status = next((found for found in map(_status_of, _chain(error)) if found), 0)
    code = next((found for found in map(_code_of, _chain(error)) if found), "")
    named = code if code and not code.isdecimal() else f"status {status}" if status else ""
    if not named and words.startswith("Forbidden"):
        named = "status 403"
    return named or f"{type(error).__name__}: {' '.join(words.split())[:200]}"


def _failed(error: BaseException, url: str, doing: str, seconds: float) -> UserError:
    """The error that a user gets for one of a library."""
    if isinstance(error, UserError):
        return error
    scheme, _, rest = url.partition("://")
    bucket = rest.partition("/")[0]
    chain = list(_chain(error))
    codes, statuses = {_code_of(each) for each in chain}, {_status_of(each) for each in chain}
    if any(_NO_CREDENTIALS.search(type(each).__name__) for each in chain) or 401 in statuses:
        return UserError(f"{url}: no credentials for {scheme}:// ({_reason(error)}); expected {_CREDENTIALS[scheme]}")
    if refused := codes & set(_REFUSED_CREDENTIALS):
        return UserError(
            f"{url}: the storage refuses the credentials ({min(refused)}); expected {_CREDENTIALS[scheme]}"
        )
    if _is_of_a_moment(error):
        tried = f"tried for {seconds:.0f} s; {PATIENCE} sets for how long"
        return TransientError(
            f"{url}: the storage does not answer ({_reason(error)}; {tried}); the same command goes on once it does"
        )
    if _NO_BUCKET in codes:
        return UserError(f"{url}: no such bucket {bucket!r}; expected one that exists, with its name spelt right")
    forbidden = any(isinstance(each, PermissionError) for each in chain) or "Forbidden" in str(error)
    if 403 in statuses or forbidden:
        return UserError(
            f"{url}: these credentials have no right to {doing} there ({_reason(error)}); expected others that have it"
        )
    return UserError(f"{url}: cannot {doing} ({_reason(error)}); expected a bucket that can be used")


def _trying(action: Callable[[], T], url: str, doing: str) -> T:
    """What a request gives, tried again while the storage fails for a moment.

    Raises:
      FileNotFoundError: there is no such object.
      FileExistsError: there is one, where a new one was to be made.
      TransientError: the storage fails for longer.
      UserError: no credentials, no such bucket, no right.
    """
    began, wait = time.monotonic(), _FIRST_WAIT
    while True:
        try:
            return action()
        except UserError:
            raise
        except Exception as error:  # the libraries raise a dozen types, and translate some of them
            chain = list(_chain(error))
            if isinstance(error, FileExistsError) or any(_status_of(each) in (409, 412) for each in chain):
                raise FileExistsError(url) from None
            bucket_missing = any(_code_of(each) == _NO_BUCKET for each in chain)
            if isinstance(error, FileNotFoundError) and not bucket_missing:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from None
            waited = time.monotonic() - began
            if not _is_of_a_moment(error) or waited + wait > _patience():
                raise _failed(error, url, doing, waited) from error
        # Many processes that were cut off at one moment must not come back at one moment.
        time.sleep(wait * random.uniform(0.75, 1.25))
        wait = min(2 * wait, _LONGEST_WAIT)


def read(url: str) -> bytes:
    """Reads an object.

    Args:
      url: of it.

    Returns:
      All its bytes.

    Raises:
      FileNotFoundError: there is no such object.
      UserError: it cannot be read; TransientError where the storage did not answer for a minute.
    """
    scheme, path = split(url)
    # s3fs would ask for the size first, to read parts at one time.
    options = {"max_concurrency": 1} if scheme == "s3" else {}
    return _trying(lambda: _file_system(scheme).cat_file(path, **options), url, "read")


def write(url: str, content: bytes) -> None:
    """Writes an object as a whole: a reader finds it as it was before, or as it is then.

    Args:
      url: of it.
      content: its bytes.

    Raises:
      UserError: it cannot be written; TransientError where the storage did not answer for a minute.
    """
    scheme, path = split(url)
    try:
        _trying(lambda: _file_system(scheme).pipe_file(path, content), url, "write")
    except FileNotFoundError as error:  # of a bucket, as one of the libraries has it
        raise _no_bucket(url) from error


def create(url: str, content: bytes) -> bool:
    """Writes an object that is not there (If-None-Match on S3, ifGenerationMatch=0 on Google's storage).

    Args:
      url: of it.
      content: its bytes, other than those of any other writer.

    Returns:
      Whether this call made it; of several callers one alone does.

    Raises:
      UserError: as for `write`.
    """
    scheme, path = split(url)
    try:
        _trying(lambda: _file_system(scheme).pipe_file(path, content, mode="create"), url, "write")
    except FileExistsError:
        # Made by a request whose answer was lost, and which was tried again.
        try:
            return read(url) == content
        except FileNotFoundError:
            return False
    except FileNotFoundError as error:
        raise _no_bucket(url) from error
    return True


def delete(urls: Iterable[str]) -> None:
    """Deletes objects, several at one time; those that are not there are passed over.

    Args:
      urls: of the objects.

    Raises:
      UserError: as for `write`.
    """

    def one(url: str) -> None:
        scheme, path = split(url)
        with contextlib.suppress(FileNotFoundError):
            _trying(lambda: _file_system(scheme).rm_file(path), url, "delete")

    together(one, urls)


def together(function: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """Calls a function of each item, several at one time: requests wait for the network.

    Args:
      function: of one item.
      items: of the function.

    Returns:
      What it gave, in order.
    """
    items = list(items)
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        return list(pool.map(function, items))


def _entry(found: dict) -> Entry:
    folder = found.get("type") == "directory"
    version = next((str(found[key]) for key in ("ETag", "generation", "etag", "mtime") if found.get(key)), "")
    return Entry(folder, 0 if folder else int(found.get("size") or 0), "" if folder else version)


def entries(url: str) -> dict[str, Entry]:
    """Lists a folder.

    Args:
      url: of the folder, or of a bucket.

    Returns:
      {name in the folder: entry}; {} where there is no such folder.

    Raises:
      UserError: it cannot be listed.
    """
    scheme, path = split(url)
    try:
        found = _trying(lambda: _file_system(scheme).ls(path, detail=True), url, "list")
    except FileNotFoundError:
        return {}
    names = {entry["name"].rstrip("/")[len(path) + 1 :]: _entry(entry) for entry in found}
    return {name: entry for name, entry in names.items() if name and "/" not in name}  # not the folder's own object


def nested(url: str) -> dict[str, Entry]:
    """Lists the objects of a folder and of all below it.

    Args:
      url: of the folder.

    Returns:
      {path from the folder on: entry}; {} where there are none.

    Raises:
      UserError: they cannot be listed.
    """
    scheme, path = split(url)
    try:
        found = _trying(lambda: _file_system(scheme).find(path, detail=True), url, "list")
    except FileNotFoundError:
        return {}
    inside = {name[len(path) + 1 :]: _entry(entry) for name, entry in found.items() if name.startswith(f"{path}/")}
    return {name: entry for name, entry in inside.items() if name and not name.endswith("/")}


def entry(url: str) -> Entry | None:
    """What there is under a path: an object, a folder, or None.

    Args:
      url: of it.

    Raises:
      UserError: it cannot be asked for.
    """
    scheme, path = split(url)
    if "/" not in path:  # a bucket, or what is above it
        return Entry(True, 0, "") if path else None
    try:
        return _entry(_trying(lambda: _file_system(scheme).info(path), url, "read"))
    except FileNotFoundError:
        return None


def download(url: str, file: pathlib.Path, size: int) -> None:
    """Copies an object into a file; a large one piece by piece.

    Args:
      url: of the object.
      file: in a folder that is there.
      size: of the object as a listing says, in bytes.

    Raises:
      FileNotFoundError: there is no such object.
      UserError: as for `read`.
    """
    scheme, path = split(url)
    if size <= _AT_ONE_TIME:  # by one request; gcsfs needs four to copy into a file
        file.write_bytes(read(url))
    else:
        _trying(lambda: _file_system(scheme).get_file(path, str(file)), url, "read")


def upload(file: pathlib.Path, url: str) -> None:
    """Copies a file into an object, piece by piece; the object is there when all of it is.

    Args:
      file: that exists.
      url: of the object.

    Raises:
      UserError: as for `write`.
    """
    scheme, path = split(url)
    try:
        _trying(lambda: _file_system(scheme).put_file(str(file), path), url, "write")
    except FileNotFoundError as error:
        raise _no_bucket(url) from error


def download_folder(url: str, folder: pathlib.Path) -> None:
    """Copies the objects of a folder, and of those below it, into a new folder.

    Args:
      url: of the folder.
      folder: to be made.

    Raises:
      FileNotFoundError: an object was deleted meanwhile.
      UserError: as for `read`.
    """
    names = nested(url)
    for place in {(folder / name).parent for name in names} | {folder}:
        place.mkdir(parents=True, exist_ok=True)
    together(lambda name: download(f"{url}/{name}", folder / name, names[name].size), names)


def upload_folder(folder: pathlib.Path, url: str, last: str = "") -> None:
    """Copies the files of a folder, and of those below it, into objects.

    Args:
      folder: that exists.
      url: of the folder that they become.
      last: name of a file that is written after all others: where it is there, they are there.

    Raises:
      UserError: as for `write`.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    together(lambda name: upload(folder / name, f"{url}/{name}"), [name for name in names if name != last])
    if last:
        upload(folder / last, f"{url}/{last}")


def delete_folder(url: str, first: str = "") -> None:
    """Deletes the objects of a folder and of those below it.

    Args:
      url: of the folder.
      first: name of an object that is deleted before all others.

    Raises:
      UserError: as for `delete`.
    """
    if first:
        delete([f"{url}/{first}"])
    delete(f"{url}/{name}" for name in nested(url))


def require_usable(url: str, option: str) -> None:
    """Checks, before anything is computed, that objects of a folder can be listed, written and deleted.

    Args:
      url: of the folder.
      option: what names it, for the error.

    Raises:
      UserError: no credentials, no such bucket, or no right; TransientError where the storage does not answer.
    """
    probe = f"{url.rstrip('/')}/{PROBE}{os.getpid()}-{random.getrandbits(48):012x}"
    try:
        found = entry(url)
        if found is not None and not found.folder:
            raise UserError(f"{url}: an object; expected a folder")
        write(probe, b"a trial of mdp, which deletes it\n")
        delete([probe])
    except UserError as error:
        raise type(error)(f"{option} {str(error).replace(probe, url)}") from None


def _no_bucket(url: str) -> UserError:
    bucket = split(url)[1].partition("/")[0]
    return UserError(f"{url}: no such bucket {bucket!r}; expected one that exists, with its name spelt right")
