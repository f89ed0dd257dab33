"""MONAI Label's web server made fit for patient data: bound to loopback, guarded, errors that say what is wrong."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)
from starlette.middleware.cors import CORSMiddleware

from lesion_label.proposals import propose_in_our_codes
from lesion_label.routes import own_routes
from lesion_label.security import LOOPBACK, TOKEN_VARIABLE, Guard
from scripts.data.errors import DatasetError
from scripts.io.errors import MediaError
from scripts.networks.checkpoints import CheckpointError

logger = logging.getLogger(__name__)


class UnsafeServerError(RuntimeError):
    """The server would be open to a network without a token."""


def secure_server(instance: Any, conf: Mapping[str, str]) -> None:
    """Bind to 127.0.0.1 unless --host was given, put the guard and the app's own routes in front of MONAI Label's.

    Called while the server starts, before it listens. ``monailabel start_server`` offers an app no earlier moment, and
    binds all addresses by default.

    Raises:
        UnsafeServerError: --host opens the server to a network and no token is set.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    host = _bind(_asked_host(sys.argv[1:]))
    local = _is_loopback(host)
    if not local and not token:
        raise UnsafeServerError(
            f"--host {host} opens the server to a network: set a token first (environment variable {TOKEN_VARIABLE}), "
            "or leave --host out to serve this machine alone"
        )
    web: FastAPI = sys.modules["monailabel.app"].app
    origins = _listed(conf.get("origins", ""))
    hosts = [*LOOPBACK, *_listed(conf.get("hosts", ""))] if local or conf.get("hosts") else []
    web.user_middleware = [one for one in web.user_middleware if one.cls is not CORSMiddleware]
    for kind, answer in _ANSWERS.items():
        web.add_exception_handler(kind, answer)
    web.router.routes[:0] = own_routes(instance, token).routes
    guarded: Any = web.build_middleware_stack()
    if origins:
        guarded = CORSMiddleware(
            guarded, allow_origins=origins, allow_methods=["*"], allow_headers=["authorization", "content-type"]
        )
    web.middleware_stack = Guard(guarded, token, hosts, origins)
    propose_in_our_codes()
    logger.info("Listening on %s; token %s; other origins: %s", host, "set" if token else "none", origins or "none")


def _bind(asked: str | None) -> str:
    """Set the host of the server that is starting -> what it listens on."""
    servers = [found for found in gc.get_objects() if isinstance(found, uvicorn.Server)]
    if not servers:
        raise UnsafeServerError("the web server was not found; start it by `monailabel start_server`")
    for server in servers:
        if asked is None:
            server.config.host = LOOPBACK[0]
    return servers[0].config.host


def _asked_host(arguments: Sequence[str]) -> str | None:
    """What --host was given on the command line; None where it was left out."""
    for position, argument in enumerate(arguments):
        if argument in ("--host", "-i") and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith("--host="):
            return argument.removeprefix("--host=")
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _say(status: int, error: Exception) -> JSONResponse:
    message = getattr(error, "msg", None) or str(error)
    logger.warning("%s (%d): %s", type(error).__name__, status, message)
    return JSONResponse({"detail": message}, status_code=status)


async def _of_monailabel(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, (ImageNotFoundException, LabelNotFoundException)):
        return _say(404, error)
    codes = {MONAILabelError.INVALID_INPUT: 400, MONAILabelError.APP_TRAIN_FAILED: 409}
    return _say(codes.get(getattr(error, "error", None), 500), error)


async def _of_data(_: Request, error: Exception) -> JSONResponse:
    return _say(422, error)


_ANSWERS = {MONAILabelException: _of_monailabel, **dict.fromkeys((MediaError, DatasetError, CheckpointError), _of_data)}
