"""The DICOMweb server's answers, passed on to the viewer under this server's own address.

MONAI Label 0.8.5 has such a proxy, but it drops the query (OHIF then lists other patients' studies as this one's)
and the Accept header (Orthanc then decodes the frames itself, and OHIF shows JPEG of YBR_FULL in false colours and
JPEG 2000 not at all), and blocks the whole server while it waits.
"""

from __future__ import annotations

from collections.abc import Iterator

import requests
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from monailabel.config import settings

PREFIX = "/proxy/dicom"
PASSED_ON = ("accept", "if-none-match", "if-modified-since", "range")
PASSED_BACK = ("content-type", "etag", "last-modified", "content-range", "cache-control")
CHUNK = 1 << 20  # bytes
SECONDS = (5.0, 120.0)  # to connect, and between two pieces of an answer


def add_proxy(router: APIRouter, studies: str) -> None:
    """GET /proxy/dicom/{qido,wado}/... -> the same path of the DICOMweb server ``studies``, query included.

    Args:
        router: to add to, before MONAI Label's own routes.
        studies: URL of the DICOMweb server, as --studies.
    """
    server = studies.rstrip("/")
    user, password = settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD
    prefixes = {"qido": settings.MONAI_LABEL_QIDO_PREFIX, "wado": settings.MONAI_LABEL_WADO_PREFIX}

    @router.get(PREFIX + "/{service}/{path:path}", include_in_schema=False)
    def proxy(service: str, path: str, request: Request) -> Response:  # not async: it waits in a thread of its own
        if service not in prefixes:
            return JSONResponse({"detail": f"{service}: expected qido or wado"}, status_code=404)
        prefix = prefixes["wado" if path.endswith("metadata") else service]
        url = "/".join(part for part in (server, prefix, path) if part)
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        headers["accept-encoding"] = "identity"  # what is passed on is what was sent
        try:
            answer = requests.get(
                f"{url}?{request.url.query}" if request.url.query else url,
                auth=(user, password) if user and password else None,
                headers=headers,
                stream=True,
                timeout=SECONDS,
            )
        except requests.RequestException as error:
            reason = f"the DICOMweb server {server} does not answer ({type(error).__name__}); is it running?"
            return JSONResponse({"detail": reason}, status_code=502)
        back = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
        if "json" in answer.headers.get("content-type", ""):  # addresses of bulk data: by way of this server, too
            with answer:
                content = answer.content.replace(server.encode(), f"{PREFIX}/wado".encode())
            return Response(content, answer.status_code, back)
        return StreamingResponse(pieces(answer), answer.status_code, back)


def pieces(answer: requests.Response) -> Iterator[bytes]:
    """The body as it comes."""
    with answer:
        yield from answer.iter_content(CHUNK)
