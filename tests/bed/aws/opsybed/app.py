"""The application: identifies the call, applies faults, executes under one lock, and writes the journal.

Execution goes through moto's own dispatcher, with the response classes of this
package (see install). Every exception of a handler is returned as an error in
the protocol of the service.
"""

import io
import sys
import threading
import time
import traceback
import uuid
from datetime import UTC, datetime

from botocore.model import OperationNotFoundError
from moto.core.utils import camelcase_to_underscores, get_service_model
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from bedkit.server import Reply, Request

from . import dry_run, iam, wire
from .faults import GATEWAY_PAGE, Fault, Faults, refusal
from .install import RESPONSES
from .journal import Journal
from .wire import AwsError, Call
from .world import world


# the beginnings of operations that change nothing
READS = ("Describe", "Get", "List")


class Application:
    def __init__(self) -> None:
        self.faults = Faults()
        self.journal = Journal()
        self.lock = threading.RLock()
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.info: dict = {}

    def __call__(self, request: Request) -> Reply:
        if request.path == "/_bed" or request.path.startswith("/_bed/"):
            from .control import control

            return control(self, request)
        return self.serve(wire.name_call(request))

    def serve(self, call: Call) -> Reply:
        began = time.monotonic()
        note: dict = {}
        reply = self._through_faults(call, note)
        entry = {
            "real_time": datetime.now(UTC).isoformat(),
            "service": call.service,
            "operation": call.operation,
            "region": call.region,
            "account": call.account,
            "access_key": call.access_key,
            "params": call.params,
            "user_agent": call.request.headers.get("user-agent", ""),
            "fault": note.get("fault"),
            "status": None if reply.reset else reply.status,
            "error": note.get("error"),
            "executed": note.get("executed", False),
            "ms": round((time.monotonic() - began) * 1000, 1),
        }
        with self.lock:
            entry["emulated_time"] = world.account(call.account).clock.now().isoformat() + "Z"
            self.journal.add(entry)
        return reply

    def _through_faults(self, call: Call, note: dict) -> Reply:
        try:
            self._parse(call)
        except AwsError as error:
            return self._error(call, error, note)
        with self.lock:
            fault, effects = self.faults.hit(call)
        note["fault"] = fault.kind if fault else ", ".join(e.kind for e in effects) or None
        if fault and fault.kind == "reset":
            return Reply(reset=True)
        if fault and fault.kind == "raw":
            return _raw(fault)
        if fault and fault.kind in ("throttle", "error", "deny", "expired"):
            return self._error(call, refusal(fault, call), note)
        if fault and fault.kind == "slow":
            time.sleep(float(fault.options.get("seconds", 1)))
        reply = self._execute(call, effects, note)
        if fault and fault.kind == "slow_after":
            time.sleep(float(fault.options.get("seconds", 1)))
        return Reply(reset=True) if fault and fault.kind == "lost" else reply

    def _parse(self, call: Call) -> None:
        if call.service not in RESPONSES:
            raise _unsupported(call)
        try:
            get_service_model(call.service).operation_model(call.operation)
        except OperationNotFoundError:
            raise _unsupported(call) from None
        response, operation = RESPONSES[call.service], camelcase_to_underscores(call.operation)
        allowed = getattr(response, "OPERATIONS", (operation,))
        if not hasattr(response, operation) or operation not in allowed:
            raise _unsupported(call)
        wire.parse_params(call)

    def _execute(self, call: Call, effects: list[Fault], note: dict) -> Reply:
        with self.lock:
            world.call, world.effects = call, effects
            try:
                world.account(call.account).clock.run_due()
                iam.authorize(call)
                dry_run.answer(call)
                reply = self._dispatch(call)
                if reply.status < 400 and dry_run.is_dry(call):
                    raise AwsError("BedDefect", f"{call.operation} was executed despite DryRun.")
                note["executed"] = reply.status < 400
                if reply.status >= 400:
                    note["error"] = reply.body.decode("utf-8", "replace")[:500]
                return reply
            except AwsError as error:
                return self._error(call, error, note)
            except NotImplementedError:
                return self._error(call, _unsupported(call), note)
            except Exception as error:  # a defect of the bed is returned in the protocol too
                traceback.print_exc(file=sys.stderr)
                defect = AwsError(
                    "BedDefect", f"{call.service} {call.operation}: {type(error).__name__}: {error}"
                )
                return self._error(call, defect, note)
            finally:
                world.call, world.effects = None, []
                if not call.operation.startswith(READS):
                    world.account(call.account).wake_bridges()

    def _dispatch(self, call: Call) -> Reply:
        started: dict = {}

        def start_response(status, headers, exc_info=None):
            started["status"], started["headers"] = int(status.split()[0]), headers

        body = b"".join(self.moto(_environ(call), start_response))
        headers = {
            n: v for n, v in started["headers"] if n.lower() not in ("content-length", "status")
        }
        if "text/html" in headers.get("Content-Type", "") and body.lstrip().startswith(
            b"<!doctype"
        ):
            raise _unsupported(call)
        if started["status"] == 404 and not body:
            raise _unsupported(call)
        if started["status"] >= 400:
            headers, body = wire.with_request_id(headers, body, str(uuid.uuid4()))
        return Reply(started["status"], headers, body)

    def _error(self, call: Call, error: AwsError, note: dict) -> Reply:
        request_id = str(uuid.uuid4())
        error.message = error.message.replace("{request_id}", request_id)
        settings = world.account(call.account).settings
        if call.service == "eks" and settings.request_ids_in_messages and error.status < 500:
            error.message += (
                f" (Service: Eks, Status Code: {error.status}, Request ID: {request_id})"
            )
        note["error"] = f"{error.code}: {error.message}"
        status, headers, body = wire.encode_error(call.protocol, error, request_id)
        return Reply(status, headers, body)


def _raw(fault: Fault) -> Reply:
    body = fault.options.get("body")
    return Reply(
        int(fault.options.get("status", 502)),
        {"Content-Type": fault.options.get("content_type", "text/html")},
        body.encode() if body is not None else GATEWAY_PAGE,
    )


def _unsupported(call: Call) -> AwsError:
    return AwsError(
        "UnsupportedOperation",
        f"The test bed does not emulate {call.service} {call.operation} "
        f"({call.request.method} {call.request.path}).",
    )


def _environ(call: Call) -> dict:
    request = call.request
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": wire.unquote(request.path),
        "RAW_URI": request.path + ("?" + request.query if request.query else ""),
        "QUERY_STRING": request.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "opsybed",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        if name not in ("content-type", "content-length", "transfer-encoding"):
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    environ["HTTP_X_MOTO_ACCOUNT_ID"] = call.account
    return environ
