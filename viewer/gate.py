"""Who may ask a server of ours: this machine by its own name, or whoever has the token; never another site's page."""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from avatar.errors import InputError

if TYPE_CHECKING:
    from aiohttp import web

LOCAL = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_COOKIE = "avatar_viewer"


def new_token() -> str:
    """A token for sharing."""
    return secrets.token_urlsafe(24)


def gate(token: str | None) -> Any:
    """A middleware that turns away who is not welcome, and tells what a request did wrong in a sentence.

    Args:
        token: None on loopback, where the machine's own name is asked for instead.
    """
    from aiohttp import web

    @web.middleware
    async def guarded(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        if not is_welcome(request, token):
            said = "This viewer needs the link with its token, as the terminal shows it.\n"
            return web.Response(status=403, text=said)
        try:
            response = await handler(request)
        except InputError as error:
            response = web.json_response({"error": str(error)}, status=400)
        if not response.prepared:
            response.headers.update(_HEADERS)
            if token and request.query.get("token"):
                response.set_cookie(_COOKIE, token, httponly=True, samesite="Strict")
        return response

    return guarded


def is_welcome(request: "web.Request", token: str | None) -> bool:
    """Whether a request comes from our own page and may be answered.

    The page of another site must not talk to us, whatever name it gives us (DNS rebinding).
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin.split("://")[-1] != request.host:
        return False
    if token is None:
        return request.host.rpartition(":")[0].strip("[]") in LOCAL or request.host.strip("[]") in LOCAL
    given = request.query.get("token") or request.cookies.get(_COOKIE) or ""
    return secrets.compare_digest(given.encode(), token.encode())
