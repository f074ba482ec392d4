"""`avatar view`: an avatar's folder becomes a page in the browser."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

from avatar.errors import InputError
from avatar.media import Workspace
from avatar.models.avatar_model import AvatarModel
from avatar.viewer.client import Room
from avatar.viewer.engine import Engine
from avatar.viewer.gate import LOCAL, new_token
from avatar.viewer.painter import Painter
from avatar.viewer.posing import Seen


def view(folder: Path, *, host: str, port: int, share: bool, ready: Callable[[str], None]) -> None:
    """Serve the viewer until Ctrl-C.

    Args:
        folder: an avatar, or the folder of `avatar build` that holds one.
        ready: gets the address once the page can be opened.

    Raises:
        InputError: if the folder is no avatar, the address cannot be used or may not be without `share`, or aiohttp
            is missing.
    """
    from avatar.viewer.server import serve

    check_installed()
    if host not in LOCAL and not share:
        raise InputError(
            f"--host {host}: others could reach the viewer there; add --share, which lets in who has the link's token"
        )
    room = open_room(folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uploads are removed then too
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        asyncio.run(serve(room, host, port, new_token() if share else None, ready))


def open_room(folder: Path) -> Room:
    """Load the avatar, and the film that it was made of if that lies around it."""
    folder = Path(folder)
    inner = folder / "avatar"
    avatar = AvatarModel.load(inner if (inner / "avatar.json").exists() else folder)
    workspace = _workspace(folder if inner.exists() else folder.resolve().parent)
    seen = None
    if workspace is not None:
        from avatar.face.track_io import load_track

        track = load_track(workspace.path("track.safetensors"))
        seen = Seen.of(track.camera, track.motion.select(track.confidence > 0))
    return Room(avatar=avatar, engine=Engine(Painter(avatar, seen)), workspace=workspace)


def _workspace(folder: Path) -> Workspace | None:
    try:
        workspace = Workspace.open(folder)
    except InputError:
        return None
    needed = ("track.safetensors", "frames")
    return workspace if all(workspace.path(name).exists() for name in needed) and len(workspace) else None


def check_installed() -> None:
    """See that the web server's package is there.

    Raises:
        InputError: if it is not.
    """
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise InputError('the viewer needs the package aiohttp; run: pip install "avatar[viewer]"') from None
