"""The routes of the page. They know HTTP; session.py knows the network."""

import base64
import contextlib
import gzip
import hashlib
import importlib.resources
import ipaddress
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import cv2
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mdp_jax.errors import UserError
from mdp_jax.reporting.report import STYLE
from mdp_jax.serving import uploads
from mdp_jax.serving.session import Session, Stroke

WAITING = 16  # requests that may wait for the one that is computed
_MOST_JSON = 1 << 20  # bytes of a stroke
_STRIPPED = re.compile(r"[\x00-\x1f\x7f]")
_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|out of memory", re.I)
T = TypeVar("T")


class _Busy(Exception):
    pass


class _OneAtATime:
    """Runs functions in a thread, one after the other; refuses more than WAITING."""

    def __init__(self) -> None:
        self._limiter: anyio.CapacityLimiter | None = None
        self._waiting = 0

    async def __call__(self, function: Callable[[], T]) -> T:
        if self._waiting > WAITING:
            raise _Busy
        self._limiter = self._limiter or anyio.CapacityLimiter(1)  # which belongs to the loop that runs
        self._waiting += 1
        try:
            return await anyio.to_thread.run_sync(function, limiter=self._limiter)
        finally:
            self._waiting -= 1


def page() -> str:
    """The page: one file, which loads nothing from elsewhere."""
    found = importlib.resources.files("mdp_jax.serving").joinpath("page.html").read_text(encoding="utf-8")
    return found.replace("/* style of the reports */", STYLE)


def _policy(html: str) -> str:
    """The Content-Security-Policy under which the page's own script and style run, and no others."""

    def hashes(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in found
        )

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _OwnPageAlone:
    """Refuses requests that another site's page makes, and adds headers by which a browser guards the page.

    With DNS rebinding another site's name leads to this machine, and its name is in the Host header. So the header must
    have an address, localhost or the name that the user gave.
    """

    def __init__(self, app: ASGIApp, host: str, policy: str):
        self._app, self._host = app, host.casefold()
        own = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}
        own |= {"cross-origin-resource-policy": "same-origin", "content-security-policy": policy}
        self._headers = [(name.encode(), value.encode()) for name, value in own.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        wrong = None
        if not self._is_own(host):
            wrong = f"Host {host!r:.100}: expected the address or name that mdp serve printed"
        elif origin is not None and origin.casefold() != f"http://{host.casefold()}":
            wrong = f"Origin {origin!r:.100}: another site's page; expected this one"
        elif scope["path"] != "/" and headers.get(b"sec-fetch-site", "none") not in ("same-origin", "none"):
            wrong = "a request of another site's page; expected this one"

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        app = self._app if wrong is None else _refusal(wrong, 403)
        return await app(scope, receive, with_headers)

    def _is_own(self, host: str) -> bool:
        found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", host)
        if found is None:
            return False
        name = found[1].strip("[]").casefold()
        if name in ("localhost", self._host):
            return True
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return False


def _refusal(line: str, status: int) -> JSONResponse:
    return JSONResponse({"error": _STRIPPED.sub(" ", line)}, status)


class _Page:
    """The page and what it asks for; the network works on one request at a time."""

    def __init__(self, session: Session, html: str) -> None:
        self._session, self._html, self._one_at_a_time = session, html, _OneAtATime()

    def routes(self) -> list[Route]:
        """Each address with its method."""
        return [
            Route("/", self.index),
            Route("/api/network", self.network),
            Route("/api/photos", self.add, methods=["POST"]),
            Route("/api/photos/{key}/picture", self.picture),
            Route("/api/photos/{key}/labels", self.labels),
            Route("/api/photos/{key}/pixel", self.pixel),
            Route("/api/photos/{key}/strokes", self.adopt, methods=["POST"]),
            Route("/api/photos/{key}/strokes/last", self.undo, methods=["DELETE"]),
            Route("/api/strokes", self.forget, methods=["DELETE"]),
        ]

    async def index(self, request: Request) -> Response:
        del request
        return Response(self._html, media_type="text/html")

    async def network(self, request: Request) -> Response:
        del request
        return JSONResponse(await self._one_at_a_time(lambda: _of_network(self._session)))

    async def add(self, request: Request) -> Response:
        data = await _body(request, uploads.require_bytes)
        return JSONResponse(await self._one_at_a_time(lambda: _added(self._session, data)), 201)

    async def picture(self, request: Request) -> Response:
        def computed() -> bytes:
            shown = cv2.cvtColor(self._session.shown(request.path_params["key"]), cv2.COLOR_RGB2BGR)
            return cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

        return Response(await self._one_at_a_time(computed), media_type="image/jpeg")

    async def labels(self, request: Request) -> Response:
        name = request.query_params.get("set", "")

        def computed() -> bytes:
            found = self._session.labels(request.path_params["key"], name)
            return gzip.compress(found.astype("<u2").tobytes(), 1, mtime=0)

        data = await self._one_at_a_time(computed)
        return Response(data, media_type="application/octet-stream", headers={"content-encoding": "gzip"})

    async def pixel(self, request: Request) -> Response:
        given, key = request.query_params, request.path_params["key"]
        x, y = (_whole(given.get(axis, ""), axis) for axis in "xy")
        found = await self._one_at_a_time(lambda: self._session.pixel(key, given.get("set", ""), x, y))
        return JSONResponse(found._asdict())

    async def adopt(self, request: Request) -> Response:
        key, stroke = request.path_params["key"], _stroke(_json(await _body(request, _require_few)))
        await self._one_at_a_time(lambda: self._session.adopt(key, stroke))
        return await self.network(request)

    async def undo(self, request: Request) -> Response:
        await self._one_at_a_time(lambda: self._session.undo(request.path_params["key"]))
        return await self.network(request)

    async def forget(self, request: Request) -> Response:
        await self._one_at_a_time(self._session.forget)
        return await self.network(request)


def _added(session: Session, data: bytes) -> dict[str, Any]:
    """Takes an uploaded photo in and gives what the page has to know of it."""
    found = uploads.read(data)
    key = session.add(found.image)
    height, width = session.shown(key).shape[:2]
    notes = list(found.notes)
    if found.image.shape[:2] != (height, width):
        was = f"{found.image.shape[1]} x {found.image.shape[0]}"
        notes.append(f"The photo has {was} pixels; the page shows it at {width} x {height}.")
    rows, columns = session.seen(key).shape[:2]
    if rows < height:
        notes.append(f"The network sees it at {columns} x {rows}, as its config says (data.short_side).")
    return {"key": key, "width": width, "height": height, "notes": notes}


async def _refused(request: Request, error: Exception) -> Response:
    del request
    return _refusal(str(error), 413 if isinstance(error, _TooLarge) else 400)


async def _too_busy(request: Request, error: Exception) -> Response:
    del request, error
    return _refusal("too many requests wait; try again in a moment", 503)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _refusal(f"{request.method} {request.url.path:.100}: {error.detail}", error.status_code)


async def _out_of_memory(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
        raise error
    return _refusal("out of memory; try a smaller photo, or mdp serve --tile 512", 507)


def app(session: Session, host: str = "127.0.0.1") -> Starlette:
    """The page and what it asks for.

    Args:
      session: the network.
      host: name or address that the server listens on.
    """
    html = page()
    handlers: dict[Any, Any] = {
        UserError: _refused,
        _Busy: _too_busy,
        HTTPException: _unknown,
        MemoryError: _out_of_memory,
        RuntimeError: _out_of_memory,  # JAX's own
    }
    made = Starlette(routes=_Page(session, html).routes(), exception_handlers=handlers)
    made.add_middleware(_OwnPageAlone, host=host, policy=_policy(html))
    return made


class _TooLarge(UserError):
    pass


async def _body(request: Request, require: Callable[[int], None]) -> bytes:
    """The body of a request; of one that is too large no more than the limit is ever held."""
    stated = request.headers.get("content-length", "")
    parts, count = [], 0
    try:
        require(int(stated) if stated.isdecimal() and len(stated) < 20 else 0)
        async for part in request.stream():
            count += len(part)
            require(count)
            parts.append(part)
    except ClientDisconnect:
        raise UserError("the request broke off; expected all of it") from None
    except UserError as error:
        raise _TooLarge(str(error)) from None
    return b"".join(parts)


def _require_few(count: int) -> None:
    if count > _MOST_JSON:
        raise UserError(f"a stroke of more than {_MOST_JSON:,} bytes; expected fewer points")


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _whole(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise UserError(f"{name}={text!r:.40}: expected a whole number")
    return int(text)


def _stroke(given: Any) -> Stroke:
    try:
        name, points, radius = given["name"], given["points"], float(given["radius"])
        pairs = [(float(x), float(y)) for x, y in points]
        if not isinstance(name, str) or not np.isfinite([radius, *(value for pair in pairs for value in pair)]).all():
            raise ValueError
    except (TypeError, KeyError, ValueError, OverflowError):
        raise UserError('a stroke: expected {"name": text, "points": [[x, y], ...], "radius": number}') from None
    return Stroke(name, pairs, radius)


def _of_network(session: Session) -> dict[str, Any]:
    """What the page shows of the network: its sets, their classes and colours."""
    return {
        "name": session.name,
        "first": session.first,
        "sets": [
            {
                "name": name,
                "classes": session.classes_of(name),
                "colours": [
                    f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in session.colours_of(name).tolist()
                ],
            }
            for name in session.sets
        ],
        "new": session.new_classes(),
        "megabytes": uploads.MOST_BYTES >> 20,
    }
