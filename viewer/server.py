"""The web server: one page, one socket and a few files for each client. Loopback only, unless it is shared by token."""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from avatar.errors import InputError
from avatar.viewer.client import Client, Room
from avatar.viewer.desk import kind_of, too_large
from avatar.viewer.gate import gate
from avatar.viewer.protocol import LONGEST_MESSAGE, heard, said, understood

if TYPE_CHECKING:
    from aiohttp import web

MOST_CLIENTS = 32
_PAGE = Path(__file__).with_name("page")


@dataclass
class Server:
    """Handles requests; `room` holds what all clients share."""

    room: Room
    token: str | None
    """Whoever has no such token gets nothing; None on loopback."""
    folder: Path
    clients: dict[str, Client] = field(default_factory=dict)
    _sockets: "set[web.WebSocketResponse]" = field(default_factory=set)

    def application(self) -> "web.Application":
        from aiohttp import web

        app = web.Application(middlewares=[gate(self.token)])
        app.on_shutdown.append(self._part)
        app.router.add_get("/", self._index)
        app.router.add_get("/socket", self._socket)
        app.router.add_post("/{client}/upload/{name}", self._upload)
        app.router.add_get("/{client}/file/{name}", self._file)
        app.router.add_get("/{client}/source/{index:\\d+}", self._source)
        app.router.add_static("/page/", _PAGE)
        return app

    # what they get ------------------------------------------------------------------------------------------------

    async def _index(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        return web.FileResponse(_PAGE / "index.html")

    async def _socket(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import WSCloseCode, WSMsgType, web

        socket = web.WebSocketResponse(heartbeat=15.0, max_msg_size=LONGEST_MESSAGE, compress=False)
        await socket.prepare(request)
        if len(self.clients) >= MOST_CLIENTS:
            await socket.send_str(said("full", message=f"{MOST_CLIENTS} browsers are connected already; close one"))
            await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
            return socket
        client = Client.open(self.room, self.folder)
        self.clients[client.name] = client
        self._sockets.add(socket)
        sender = asyncio.create_task(client.send_all(socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    client.take_in(heard(message.data))
                else:
                    client.receive(understood(message.data))
        except InputError as error:
            with contextlib.suppress(ConnectionError):
                await socket.send_str(said("error", message=str(error)))
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"malformed")
        finally:
            sender.cancel()
            self._sockets.discard(socket)
            del self.clients[client.name]
            client.close()
            await asyncio.to_thread(shutil.rmtree, client.folder, True)
        return socket

    async def _part(self, app: "web.Application") -> None:
        from aiohttp import WSCloseCode

        closing = (socket.close(code=WSCloseCode.GOING_AWAY) for socket in set(self._sockets))
        with contextlib.suppress(asyncio.TimeoutError):  # a page that does not answer is not waited for
            await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), timeout=2.0)

    def _client(self, request: "web.Request") -> Client:
        from aiohttp import web

        client = self.clients.get(request.match_info["client"])
        if client is None:
            raise web.HTTPNotFound(text="That page is closed.\n")
        return client

    async def _upload(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        client, name = self._client(request), request.match_info["name"]
        kind = kind_of(name)
        if (request.content_length or 0) > kind.largest:
            raise too_large(name, kind)
        path = client.folder / f"{secrets.token_hex(8)}{Path(name).suffix.lower()}"
        size = 0
        try:
            with path.open("wb") as file:
                async for chunk in request.content.iter_chunked(2**16):
                    size += len(chunk)
                    if size > kind.largest:
                        raise too_large(name, kind)
                    file.write(chunk)
            await client.take(path, name)
        finally:
            path.unlink(missing_ok=True)
        return web.json_response({"taken": name})

    async def _file(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        path = self._client(request).files.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound(text="There is no such file.\n")
        return web.FileResponse(path)

    async def _source(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        self._client(request)
        workspace, index = self.room.workspace, int(request.match_info["index"])
        if workspace is None or not 0 <= index < len(workspace):
            raise web.HTTPNotFound(text="There is no such frame.\n")
        return web.FileResponse(workspace.picture_path("frames", index))


async def serve(room: Room, host: str, port: int, token: str | None, ready: Callable[[str], None]) -> None:
    """Serve until cancelled.

    Args:
        ready: gets the address once the page can be opened.

    Raises:
        InputError: if the address cannot be used.
    """
    from aiohttp import web

    with tempfile.TemporaryDirectory(prefix="avatar-viewer-") as folder:
        server = Server(room=room, token=token, folder=Path(folder))
        runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        try:
            try:
                await site.start()
            except OSError as error:
                raise InputError(
                    f"{host}:{port} cannot be used ({error.strerror or error}); choose another with --port or --host"
                ) from None
            ready(f"http://{host}:{runner.addresses[0][1]}/" + (f"?token={token}" if token else ""))
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
            room.close()
