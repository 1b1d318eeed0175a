"""The ASGI application: its routes, what every request passes, and what happens at its start and end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from cascade.gateway.answers import AnswerEndpoint
from cascade.gateway.counting import CountTokensEndpoint
from cascade.gateway.dashboard import DashboardEndpoint, gateway_dashboard
from cascade.gateway.dispatch import MessagesEndpoint
from cascade.gateway.feedback import FeedbackEndpoint
from cascade.gateway.health import HealthEndpoint, MetricsEndpoint
from cascade.gateway.hub import Hub
from cascade.gateway.middleware.authentication import AuthenticationMiddleware
from cascade.gateway.middleware.concurrency import ConcurrencyMiddleware
from cascade.gateway.middleware.paths import PathsMiddleware
from cascade.gateway.middleware.problems import ProblemsMiddleware
from cascade.gateway.models import ModelEndpoint, ModelsEndpoint
from cascade.gateway.openapi import OpenApiEndpoint
from cascade.gateway.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["make_app"]

_NOT_SERVED = "this path is not served (of the API's paths it serves POST /v1/messages, POST /v1/messages/count_tokens, GET /v1/models)"


def make_app(hub: Hub) -> Starlette:
    """The application that serves a hub. Who made the hub closes it."""

    def route(path: str, endpoint: Any, method: str) -> Route:
        return Route(path, endpoint, methods=[method])

    pages = DashboardEndpoint(lambda: gateway_dashboard(hub), _NOT_SERVED)
    app = Starlette(
        routes=[
            route("/v1/messages", MessagesEndpoint(hub), "POST"),
            route("/v1/messages/count_tokens", CountTokensEndpoint(hub), "POST"),
            route("/v1/models", ModelsEndpoint(hub), "GET"),
            route("/v1/models/{model}", ModelEndpoint(hub), "GET"),
            route("/v1/answers/{request_id}", AnswerEndpoint(hub), "GET"),
            route("/v1/feedback", FeedbackEndpoint(hub), "POST"),
            route("/healthz", HealthEndpoint(hub), "GET"),
            route("/metrics", MetricsEndpoint(hub), "GET"),
            route("/openapi.json", OpenApiEndpoint(), "GET"),
            *(
                [Route("/", pages), Route("/dashboard", pages), Mount("/dashboard", pages)]
                if hub.settings.dashboard
                else []
            ),
        ],
        middleware=[
            Middleware(ProblemsMiddleware),
            Middleware(PathsMiddleware),
            Middleware(ConcurrencyMiddleware, hub=hub),
            Middleware(AuthenticationMiddleware, hub=hub),
        ],
        exception_handlers={HTTPException: _http_problem},
    )
    app.router.redirect_slashes = False
    return app


async def _http_problem(request: Request, error: Exception) -> Response:
    """The router's own errors, in the API's words."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "").removesuffix(", HEAD").removeprefix("HEAD, ")
        raise Problem(
            405, f"{request.method} is not served here ({allowed} is)", headers=[(b"allow", allowed.encode())]
        )
    raise Problem(error.status_code, _NOT_SERVED)
