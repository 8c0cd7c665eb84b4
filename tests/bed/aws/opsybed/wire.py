"""Parses requests, and encodes errors in the protocol of the service.

The names (service and operation) are parsed before the parameters, so that an
invalid request is still recorded in the journal under its name.
"""

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.utils import get_service_model
from werkzeug.datastructures import CombinedMultiDict, MultiDict

from bedkit.server import Request

from .world import DEFAULT_ACCOUNT

SERVICES = ("ec2", "eks", "sts", "ssm", "autoscaling", "sns", "sesv2", "iam", "kms")
# Both versions of SES sign as one service; the second has paths.
SES_V2_PATH = "/v2/email/"
CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
# AKIA or ASIA, the twelve digits of the account, any four characters.
ACCOUNT_KEY = re.compile(r"A[KS]IA(\d{12})[A-Z0-9]{4}$")
# Sent by every query protocol client in addition to the operation's own members.
QUERY_ENVELOPE = {"Action", "Version", "AWSAccessKeyId", "Timestamp"}


class AwsError(Exception):
    """An error as AWS would return it."""

    def __init__(self, code: str, message: str, status: int = 400, **members) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.members = code, message, status, members


@dataclass
class Call:
    """One AWS call."""

    request: Request
    service: str = "?"
    operation: str = "?"
    region: str = "us-east-1"
    account: str = DEFAULT_ACCOUNT
    access_key: str = ""
    params: dict = field(default_factory=dict)

    @property
    def protocol(self) -> str:
        """ec2, query, json or rest-json; for an unknown service, a guess from the request."""
        if self.service in SERVICES:
            return get_service_model(self.service).protocol
        return "query" if b"Action=" in self.request.body else "json"


def account_of(access_key: str) -> str:
    match = ACCOUNT_KEY.match(access_key)
    return match.group(1) if match else DEFAULT_ACCOUNT


def name_call(request: Request) -> Call:
    """Identify the caller and the operation of a request; never fails."""
    call = Call(request)
    scope = CREDENTIAL.search(request.headers.get("authorization", ""))
    if scope:
        call.access_key, call.region, service = scope.groups()
        call.service = service.lower()
        if call.service == "ses" and request.path.startswith(SES_V2_PATH):
            call.service = "sesv2"
        call.account = account_of(call.access_key)
    target = request.headers.get("x-amz-target")
    form = _form(request)
    if target:
        call.operation = target.split(".")[-1]
    elif "Action" in form:
        call.operation = form["Action"][0]
    elif call.service in SERVICES and call.protocol == "rest-json":
        matched = match_rest(call.service, request)
        if matched:
            call.operation, call.params = matched
    return call


def _form(request: Request) -> dict[str, list[str]]:
    values = parse_qs(request.query, keep_blank_values=True)
    if "x-www-form-urlencoded" in request.headers.get("content-type", ""):
        values.update(parse_qs(request.body.decode("utf-8", "replace"), keep_blank_values=True))
    return values


@lru_cache
def _rest_routes(service: str) -> list[tuple[str, re.Pattern, str]]:
    routes = []
    model = get_service_model(service)
    for name in model.operation_names:
        http = model.operation_model(name).http
        path = http["requestUri"].split("?")[0]
        pattern = re.sub(r"\\\{(\w+)\\\+\\\}", r"(?P<\1>.+)", re.escape(path))
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
        routes.append((http["method"], re.compile(pattern + "/?$"), name))
    return routes


def match_rest(service: str, request: Request) -> tuple[str, dict] | None:
    for method, pattern, name in _rest_routes(service):
        match = pattern.match(request.path) if method == request.method else None
        if match:
            return name, {label: unquote(text) for label, text in match.groupdict().items()}
    return None


def parse_params(call: Call) -> None:
    """Fill call.params, and refuse what AWS would refuse regardless of its state."""
    model = get_service_model(call.service)
    operation = model.operation_model(call.operation)
    if call.protocol == "rest-json":
        call.params = _rest_params(operation, call)
    elif call.protocol == "json":
        call.params = _json_body(call.request.body)
    else:
        form = _form(call.request)
        _refuse_unknown(call.protocol, operation, form)
        call.params = _query_params(call.protocol, operation, form)
    _refuse_missing(call, operation)


def _json_body(body: bytes) -> dict:
    try:
        parsed = json.loads(body) if body else {}
    except ValueError as error:
        raise AwsError("SerializationException", f"The body is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise AwsError("SerializationException", "The body is not a JSON object.")
    return parsed


def _rest_params(operation, call: Call) -> dict:
    """Return the members under their model names: in the path, EKS spells clusterName as `name`."""
    shape = operation.input_shape
    by_location = {s.serialization.get("name", m): m for m, s in shape.members.items()}
    params = _json_body(call.request.body)
    unknown = set(params) - set(shape.members)
    if unknown:
        raise AwsError("InvalidParameterException", f"Unknown members: {sorted(unknown)}")
    for label, text in call.params.items():
        params[by_location.get(label, label)] = text
    for key, texts in parse_qs(call.request.query).items():
        member = by_location.get(key, key)
        params[member] = _number(shape.members.get(member), texts[0])
    return params


def _number(shape, text: str):
    if shape is None or shape.type_name != "integer":
        return text
    try:
        return int(text)
    except ValueError:
        raise AwsError("InvalidParameterException", f"{text!r} is not a number.") from None


def _query_params(protocol: str, operation, form: dict) -> dict:
    flat = MultiDict([(key, text) for key, texts in form.items() for text in texts])
    parser = PROTOCOL_PARSERS[protocol](operation, map_type=dict)
    request = {
        "method": "POST",
        "values": CombinedMultiDict([flat]),
        "headers": {},
        "body": b"",
        "url_path": "/",
        "url_params": {},
    }
    try:
        return dict(parser.parse(request))
    except (ValueError, TypeError, KeyError) as error:
        raise AwsError("InvalidParameterValue", f"A parameter does not parse: {error}") from None


def _refuse_unknown(protocol: str, operation, form: dict) -> None:
    known = set(QUERY_ENVELOPE)
    shape = operation.input_shape
    for member, sub in shape.members.items() if shape else ():
        name = sub.serialization.get("queryName") or sub.serialization.get("name", member)
        known.update({name, name[:1].upper() + name[1:], member})
    for key in form:
        if key.split(".")[0] not in known:
            code = "UnknownParameter" if protocol == "ec2" else "ValidationError"
            raise AwsError(code, f"The parameter {key} is not recognized")


def _refuse_missing(call: Call, operation) -> None:
    shape = operation.input_shape
    for member in shape.required_members if shape else ():
        if call.params.get(member) is None:
            code = {
                "ec2": "MissingParameter",
                "query": "ValidationError",
                "rest-json": "InvalidParameterException",
            }.get(call.protocol, "ValidationException")
            raise AwsError(code, f"The request must contain the parameter {member}")


def with_request_id(headers: dict, body: bytes, request_id: str) -> tuple[dict, bytes]:
    """Replace the request ID, which is the same in all of moto's errors but never in AWS's."""
    pattern = rb"<(Request(?:ID|Id))>[^<]*</Request(?:ID|Id)>"
    body = re.sub(pattern, rb"<\1>" + request_id.encode() + rb"</\1>", body)
    kept = {k: v for k, v in headers.items() if k.lower() != "x-amzn-requestid"}
    return {**kept, "x-amzn-RequestId": request_id}, body


def encode_error(protocol: str, error: AwsError, request_id: str) -> tuple[int, dict, bytes]:
    code, message = escape(error.code), escape(error.message)
    if protocol == "ec2":
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
            f"<Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        )
        headers = {"Content-Type": "text/xml;charset=UTF-8", "x-amzn-RequestId": request_id}
        return error.status, headers, body.encode()
    if protocol == "query":
        side = "Sender" if error.status < 500 else "Receiver"
        body = (
            f"<ErrorResponse><Error><Type>{side}</Type><Code>{code}</Code>"
            f"<Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        headers = {"Content-Type": "text/xml", "x-amzn-RequestId": request_id}
        return error.status, headers, body.encode()
    document = {"message": error.message, **error.members}
    headers = {
        "Content-Type": "application/json",
        "x-amzn-ErrorType": error.code,
        "x-amzn-RequestId": request_id,
    }
    if protocol == "json":
        document["__type"] = error.code
        headers["Content-Type"] = "application/x-amz-json-1.1"
    return error.status, headers, json.dumps(document).encode()
