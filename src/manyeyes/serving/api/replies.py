"""Errors as the OpenAI API writes them."""

from __future__ import annotations

import json
from typing import Any

from manyeyes.errors import RequestError

TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}
"""Of the error object, by HTTP status; others are ``invalid_request_error``."""


def error_object(error: RequestError) -> dict[str, Any]:
    """Return the JSON object of a refused request."""
    kind = TYPES.get(error.status, "invalid_request_error")
    fields = {"message": str(error), "type": kind, "param": error.param, "code": error.code}
    return {"error": fields}


def error_event(error: BaseException) -> str:
    """Return the event of a stream that breaks off."""
    known = error if isinstance(error, RequestError) else RequestError(str(error), status=500)
    return f"data: {json.dumps(error_object(known))}\n\n"
