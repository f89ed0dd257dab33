"""Routes of this app's own, and those of MONAI Label's that it answers instead."""

from __future__ import annotations

import hmac
import mimetypes
from pathlib import Path
from typing import Any

from fastapi import APIRouter, BackgroundTasks, Depends, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException

from lesion_label.proxy import add_proxy
from lesion_label.security import COOKIE
from lesion_label.weights import WeightsError

LOGIN = """<!doctype html><html lang="en"><title>Log in</title>
<style>body{font:16px sans-serif;margin:20vh auto;max-width:20em}
input,button{font:inherit;width:100%;margin:.3em 0}</style>
<form method="post" action="/login"><label>Token of this server<input name="password" type="password" autofocus></label>
<input name="username" type="hidden" value="annotator"><button>Log in</button></form></html>"""


def own_routes(instance: Any, token: str) -> APIRouter:
    """The router; ``instance`` is the app, ``token`` "" where none is needed."""
    router = APIRouter()
    _add_login(router, token)
    _add_weights(router, instance)
    _add_training(router, instance)
    _add_upload(router, instance)
    _add_viewer(router, Path(instance.app_dir) / "ohif")
    if str(instance.studies).startswith(("http://", "https://")):
        add_proxy(router, instance.studies)
    return router


def _add_login(router: APIRouter, token: str) -> None:
    """What 3D Slicer's plug-in asks for: it logs in with any name and the token as the password."""

    def check(form: OAuth2PasswordRequestForm) -> None:
        if not token or not hmac.compare_digest(form.password.encode(), token.encode()):
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, "wrong token")

    @router.get("/auth/")
    async def enabled() -> dict[str, Any]:
        return {"enabled": bool(token), "client_id": "lesion_label", "realm": ""}

    @router.post("/auth/token")
    async def log_in(form: OAuth2PasswordRequestForm = Depends()) -> JSONResponse:  # noqa: B008
        check(form)
        response = JSONResponse({"access_token": token, "token_type": "bearer"})
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return response

    @router.get("/auth/token/valid")
    async def valid(request: Request) -> JSONResponse:
        given = request.headers.get("authorization", "").partition(" ")[2].strip()
        good = not token or hmac.compare_digest(given.encode(), token.encode())
        return JSONResponse({"valid": good}, status_code=200 if good else 401)

    @router.get("/login")
    async def page() -> HTMLResponse:
        return HTMLResponse(LOGIN)

    @router.post("/login")
    async def log_in_page(form: OAuth2PasswordRequestForm = Depends()) -> RedirectResponse:  # noqa: B008
        check(form)
        response = RedirectResponse("/ohif/", status_code=303)
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return response


def _add_weights(router: APIRouter, instance: Any) -> None:
    @router.get("/weights/")
    async def show() -> dict[str, Any]:
        return instance.weights.describe()

    @router.put("/weights/{name}")
    async def use(name: str) -> dict[str, Any]:
        try:
            instance.weights.use(name)
        except WeightsError as error:
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, str(error)) from error
        return instance.weights.describe()


def _add_training(router: APIRouter, instance: Any) -> None:
    """As MONAI Label's, but what cannot be trained is said at once and not in the log of a task."""
    from monailabel.endpoints import train

    @router.post("/train/{model}")
    async def start(
        model: str, params: dict | None = None, run_sync: bool = False, enqueue: bool = False
    ) -> dict[str, Any]:
        instance.check_training(model, params or {})
        return train.run_model(model, params, run_sync, enqueue)

    @router.post("/train/")
    async def start_all(params: dict | None = None, run_sync: bool = False) -> dict[str, Any]:
        for model in instance.trainers():
            instance.check_training(model, (params or {}).get(model) or {})
        return train.run(params, run_sync)


def _add_upload(router: APIRouter, instance: Any) -> None:
    """As MONAI Label's, which takes a picture's id to end at the first dot of its name: p1.frame2.png would be p1."""
    from monailabel.endpoints import datastore

    @router.put("/datastore/", include_in_schema=False)
    @router.put("/datastore/image")
    async def add_image(
        background_tasks: BackgroundTasks,
        image: str | None = None,
        params: str = Form("{}"),
        file: UploadFile = File(...),  # noqa: B008
    ) -> dict[str, Any]:
        image = image or instance.datastore().id_of(file.filename or "")
        return datastore.add_image(background_tasks, image, params, file)


def _add_viewer(router: APIRouter, folder: Path) -> None:
    """The OHIF that label_app/ohif/install.py fetched, with this app's configuration; else what the wheel has."""
    built = folder / "dist"
    if not (built / "index.html").is_file():
        return
    own = {path.name: path for path in (folder / "web").glob("*") if path.is_file()}

    @router.get("/ohif")
    @router.get("/ohif/{path:path}")
    async def viewer(path: str = "") -> FileResponse:
        file = own.get(path) or (built / path).resolve()
        if not file.is_file() or not (path in own or file.is_relative_to(built.resolve())):
            file = built / "index.html"  # the viewer's own pages are made by its scripts
        return FileResponse(file, media_type=mimetypes.guess_type(file.name)[0] or "application/octet-stream")
