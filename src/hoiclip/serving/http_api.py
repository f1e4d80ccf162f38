"""Plain HTTP: ``POST /detect`` and ``GET /health``.

curl -F image=@photo.jpg -F interactions="ride horse" http://localhost:7860/detect
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hoiclip.errors import HoiError
from hoiclip.serving.service import Busy, DetectionService, TooLarge

FORM = 1 << 20  # bytes beside the image itself
PATIENCE = 5  # times what is taken: so much of what is too long is read and thrown away


def make_app(service: DetectionService) -> FastAPI:
    """The HTTP interface of a service; every refusal is ``{"error": one sentence}``."""
    from hoiclip import __version__

    app = FastAPI(title="hoiclip", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(_Bounded, most=int(service.limits.megabytes * 1e6) + FORM)

    @app.post("/detect")
    def detect(
        image: Annotated[UploadFile, File()],
        interactions: Annotated[str | None, Form()] = None,
        threshold: Annotated[float | None, Form()] = None,
        top_k: Annotated[int, Form()] = 10,
    ) -> dict[str, Any]:
        found = service.detect(service.open(image.file.read()), interactions, threshold, top_k)
        return found.to_dict()

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "version": __version__, "model": service.name, "waiting": service.waiting}

    @app.exception_handler(HoiError)
    def refuse(request: Request, error: HoiError) -> JSONResponse:
        status = 503 if isinstance(error, Busy) else 413 if isinstance(error, TooLarge) else 400
        again = {"Retry-After": "5"} if isinstance(error, Busy) else None
        return JSONResponse({"error": str(error)}, status, headers=again)

    @app.exception_handler(RequestValidationError)
    def unusable(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = first["loc"][-1] if first.get("loc") else "form"
        told = f"{field}: {first['msg']}; send a multipart form with the file in the field 'image'"
        return JSONResponse({"error": told}, 422)

    return app


class _Bounded:
    """Refuses the body of ``POST /detect`` as soon as it is too long, whatever its headers say."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/detect":
            await self.app(scope, receive, send)
            return
        seen, more = 0, True

        async def counted() -> Message:
            nonlocal seen, more
            message = await receive()
            seen, more = seen + len(message.get("body", b"")), message.get("more_body", False)
            if seen > self.most:
                raise _Overlong
            return message

        async def answer(message: Message) -> None:
            if seen <= self.most:  # else the form's reader makes a complaint of its own from what is raised here
                await send(message)

        with suppress(_Overlong):
            await self.app(scope, counted, answer)
        if seen > self.most:
            while more and seen < PATIENCE * self.most:  # many clients read no answer before they have sent everything
                with suppress(_Overlong):
                    await counted()
            told = f"the image is larger than {(self.most - FORM) / 1e6:g} MB; make it smaller first"
            await JSONResponse({"error": told}, 413)(scope, receive, send)


class _Overlong(Exception):
    """A body without an honest length."""
