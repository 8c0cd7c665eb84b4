"""The control interface of an application under /_bed: JSON in, JSON out."""

import json
from urllib.parse import parse_qs


def control(app, request, routes: dict, encode, refusals: tuple[type[Exception], ...]):
    """Call the function of a control endpoint with the application and the parsed request.

    `routes` contains the functions by method and path below /_bed. `refusals` are the exceptions that refuse a request.
    `encode` makes the reply from a document and a status. It runs under the application's lock, because the document
    may be a part of the state.
    """
    path = request.path.removeprefix("/_bed").strip("/")
    handler = routes.get((request.method, path))
    if handler is None:
        known = sorted(f"{method} /_bed/{path}" for method, path in routes)
        return encode({"error": f"no {request.method} {request.path}", "known": known}, 404)
    try:
        asked = {name: values[0] for name, values in parse_qs(request.query).items()}
        if request.body:
            asked |= json.loads(request.body)
        with app.lock:
            return encode(handler(app, asked), 200)
    except KeyError as error:
        return encode({"error": f"missing or unknown: {error}"}, 400)
    except refusals as error:
        return encode({"error": str(error)}, 400)


def changeable(part: str) -> dict:
    """Return the endpoints that read and change this part of the application's world."""

    def read(app, asked: dict) -> dict:
        return getattr(app.world, part).describe()

    def change(app, asked: dict) -> dict:
        getattr(app.world, part).change(asked)
        return read(app, asked)

    return {("GET", part): read, ("POST", part): change}


def reset(app, asked: dict) -> dict:
    app.forget()
    return app.info
