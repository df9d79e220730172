"""`mdp serve`: a page to try a network."""

import argparse
import contextlib
import errno
import ipaddress
import socket
import sys
from types import ModuleType
from typing import NamedTuple

from mdp_jax import runtime
from mdp_jax.commands import arguments
from mdp_jax.errors import UserError
from mdp_jax.evaluation import loaded, workdirs
from mdp_jax.evaluation.tiles import GRID, LEAST, require_tile
from mdp_jax.models.network import LAYERS
from mdp_jax.serving.session import Session
from mdp_jax.training.adopting import layers_of

_PORT = 8765
_SECONDS = 3  # that a computation under way is waited for at the end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp serve` to a parser."""
    parser.add_argument(
        "--checkpoint", required=True, type=arguments.named, help="workdir of mdp pretrain, mdp finetune or mdp adopt"
    )
    arguments.add_step(parser)
    arguments.add_weights(parser)
    parser.add_argument(
        "--as",
        dest="answers",
        default="",
        metavar="SET",
        help="of a pretrained workdir: the set that the page shows first, or all (default)",
    )
    parser.add_argument(
        "--layer",
        metavar="LAYER",
        help=f"features that tell new classes apart: {', '.join(LAYERS)}, or several, as backbone+decoder (default: "
        "the last one that the network has)",
    )
    parser.add_argument(
        "--tile",
        type=int,
        default=1024,
        metavar="PIXELS",
        help=f"cut larger photos into tiles of this side, a multiple of {GRID} from {LEAST} on (default 1024); a "
        "smaller one takes less memory; 0: photos as a whole",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default 127.0.0.1: this machine alone); there is no password",
    )
    parser.add_argument("--port", type=int, default=_PORT, help=f"default {_PORT}; 0 = any that is free")
    arguments.add_platform(parser)
    parser.epilog = "Config values of the data can be set by --config.key=value, e.g. --config.data.short_side=480."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> int:
    """Serves the page until Ctrl-C. Nothing is written.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text; only keys that say how photos are read.

    Raises:
      UserError: starlette or uvicorn is missing, the port is in use, there is no such workdir, set, layer or tile, or
        the network has no classes.
    """
    web = _web()
    require_tile(args.tile, f"--tile {args.tile}")
    layers = layers_of(args.layer) if args.layer else ()
    with _listening(args.host, args.port) as listening:
        runtime.start_devices(args.platform)
        session = _session(args, overrides, layers)
        host, port = listening.getsockname()[:2]
        print(runtime.described(1), file=sys.stderr)
        if not ipaddress.ip_address(host.split("%")[0]).is_loopback:
            print("mdp: warning: without a password, everybody who reaches this machine can use it", file=sys.stderr)
        name = f"[{host}]" if ":" in host else host
        print(f"http://{name}:{port}/ shows {args.checkpoint}; Ctrl-C ends it", flush=True)
        config = web.server.Config(
            web.app.app(session, args.host),
            log_level="warning",
            limit_concurrency=32,
            timeout_graceful_shutdown=_SECONDS,
            server_header=False,
            ws="none",
        )
        # uvicorn raises it again when it has ended; a callback of JAX may swallow it.
        with contextlib.suppress(KeyboardInterrupt):
            web.server.Server(config).run(sockets=[listening])
        print("stopped")
    return 0


class _Web(NamedTuple):
    app: ModuleType
    server: ModuleType


def _web() -> _Web:
    try:
        import uvicorn

        from mdp_jax.serving import app
    except ModuleNotFoundError as error:
        raise UserError(f"mdp serve: {error.name} is not installed; expected: pip install 'mdp_jax[serve]'") from None
    return _Web(app, uvicorn)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, before weights are read.

    Raises:
      UserError: the port is in use or may not be used, or this machine has no such address.
    """
    given = f"--host {host} --port {port}"
    if not 0 <= port < 65536:
        raise UserError(f"--port {port}: expected a number from 0 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except UnicodeError:
        raise UserError(f"--host {host:.80}: expected an address of this machine, such as 127.0.0.1") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"{given}: in use; expected a free port, or --port 0 for any") from None
        raise UserError(
            f"{given}: {error.strerror}; expected an address of this machine and a port from 1024"
        ) from None


def _session(args: argparse.Namespace, overrides: list[tuple[str, str]], layers: tuple[str, ...]) -> Session:
    run = workdirs.load(args.checkpoint, overrides, step=args.step or "", weights=args.weights)
    palette = None if run.pretraining else run.palette()
    return Session(loaded.of_workdir(run), run.folder.name, args.answers, palette, args.tile, layers)
