"""What a request must be before MONAI Label 0.8.5 sees it: who may ask, from which page, for which names."""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from monailabel.interfaces.exception import MONAILabelException

from lesion_label.datastore import check_id, check_tag

logger = logging.getLogger(__name__)

TOKEN_VARIABLE = "LESION_LABEL_TOKEN"
COOKIE = "lesion_label_token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: read without a token: the log-in itself, and the viewer's files, which hold no data
PUBLIC = ("/auth", "/login", "/ohif", "/favicon.ico")
#: (method or None, path, why): what 0.8.5 offers and this app does not
REFUSED = (
    ("PUT", r"/model/.*", "weights come from training here; start the server with --conf weights FILE for others"),
    ("DELETE", r"/model/.*", "released weights are never changed; PUT /weights/NAME chooses another round"),
    ("POST", r"/proxy/.*", "the archive is read through this server; labels are saved by PUT /datastore/label"),
    ("POST", r"/reload", "restart the server instead"),
    (None, r"/infer/wsi.*", "endoscopic frames are no whole slides; use /infer"),
    ("PUT", r"/session.*", "archives are not unpacked"),  # only with uncompress, see _refusal
)
_NAMED = re.compile(r"/(infer|datastore|activelearning|session|batch|scoring|train)(/|$)")
_SESSION = re.compile(r"[A-Za-z0-9\-]{1,64}")
MAX_UPLOAD = 2 << 30  # bytes


class Guard:
    """ASGI middleware in front of all of MONAI Label's routes.

    - With a token, every request but the log-in needs it: ``Authorization: Bearer``, or the log-in's cookie.
    - A browser's request from another page (its Origin is not the server's own) is refused, unless that origin is
      allowed; credentials are never offered to other origins.
    - On loopback the Host header must be a loopback name: a page whose own name was pointed at this machine is refused.
    - Ids, tags and paths that leave their folder are refused, however often they are percent-encoded.

    Args:
        app: what is guarded.
        token: "" = nobody is asked.
        hosts: names under which the server may be addressed; empty = any (it is bound to more than loopback).
        origins: pages of other servers that may use this one.
    """

    def __init__(
        self, app: Callable[..., Awaitable[None]], token: str, hosts: Sequence[str] = (), origins: Sequence[str] = ()
    ) -> None:
        self.app = app
        self.token = token
        self.hosts = {host.lower() for host in hosts}
        self.origins = {origin.rstrip("/").lower() for origin in origins}

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        """Answer 4xx, or pass the request on."""
        if scope["type"] != "http":
            if scope["type"] != "websocket":  # MONAI Label has none
                await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            status, reason = refusal
            logger.warning("Refused %s (%d): %s", scope["method"], status, reason)
            await _answer(send, status, reason)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: dict[str, Any], headers: dict[str, str]) -> tuple[int, str] | None:
        path, method = plain(scope["path"]), scope["method"]
        if self.hosts and _host_name(headers.get("host", "")) not in self.hosts:
            return 421, "this server does not go by that host name (--conf hosts NAME,NAME adds names)"
        if not self._own_page(headers):
            return 403, "requests from pages of other servers are not allowed (--conf origins URL,URL adds them)"
        if int_or_zero(headers.get("content-length")) > MAX_UPLOAD:
            return 413, f"the upload is larger than {MAX_UPLOAD >> 20} MiB"
        if ".." in re.split(r"[/\\]", path) or "\\" in path or "\x00" in path:
            return 400, "the path leaves its folder"
        if not path.isprintable():  # a line's end behind a path, which routes do not see and patterns do not match
            return 400, "the path has control characters"
        preflight = method == "OPTIONS" and "access-control-request-method" in headers
        if self.token and not preflight and not _is_public(path) and not self._knows_token(headers):
            return 401, f"a token is needed: Authorization: Bearer TOKEN (the server's {TOKEN_VARIABLE})"
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        for refused_method, pattern, reason in REFUSED:
            if refused_method in (None, method) and re.fullmatch(pattern, path, re.DOTALL):
                # FastAPI reads yes, on, t and more as true: what is not plainly no counts as yes.
                wanted = [plain(value).lower() for key, value in query if plain(key) == "uncompress"]
                if not path.startswith("/session") or any(value not in ("false", "0") for value in wanted):
                    return 403, reason
        return _wrong_name(path, query)

    def _own_page(self, headers: dict[str, str]) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return True
        if origin.rstrip("/").lower() in self.origins:
            return True
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""

    def _knows_token(self, headers: dict[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), self.token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self.token)


def plain(text: str) -> str:
    """Undo percent-encoding until nothing is left of it: a proxy behind us may undo it once more than we did."""
    for _ in range(5):
        decoded = unquote(text)
        if decoded == text:
            return text
        text = decoded
    return "\x00"  # nobody encodes five times in good faith


def _wrong_name(path: str, query: list[tuple[str, str]]) -> tuple[int, str] | None:
    if not _NAMED.match(path):
        return None
    for key, value in query:
        value = plain(value)
        try:
            if key in ("image", "id", "label") and value:
                check_id(value, f"{key} id" if key != "id" else "id")
            elif key == "tag" and value:
                check_tag(value)
            elif key == "session_id" and value and not _SESSION.fullmatch(value):
                return 400, "session_id: expected letters, digits and '-'"
        except MONAILabelException as error:
            return 400, str(error.msg)
    return None


def _is_public(path: str) -> bool:
    return any(path == known or path.startswith(f"{known}/") for known in PUBLIC)


def _host_name(host: str) -> str:
    return (urlsplit(f"//{host}").hostname or "").lower()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def int_or_zero(text: str | None) -> int:
    """A header's number; 0 where it is none."""
    return int(text) if text and text.isdecimal() else 0


async def _answer(send: Callable, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
