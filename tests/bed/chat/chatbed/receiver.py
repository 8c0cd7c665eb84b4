"""Generic webhook receivers: /hook/<name> stores what it receives and returns a configured response."""

from bedkit.application import body_of
from bedkit.clock import stamp
from bedkit.reply import Reply
from bedkit.server import Request

from .world import Message, Version, World


def receive(world: World, request: Request, name: str) -> Reply:
    if request.method != "POST":
        return Reply.words("only POST\n", 405, {"Allow": "POST"}, error="method not allowed")
    receiver = world.receiver(name)
    receiver.received.append(
        {
            "time": stamp(world.now()),
            "query": request.query,
            "headers": request.headers,
            # unchanged, so that signatures can be checked
            "text": request.text,
            "status": receiver.status,
        }
    )
    content = {"body": body_of(request), "status": receiver.status}
    message = Message(str(world.moment()), name, [Version(world.now(), content, [])])
    receiver.messages.append(message)
    return Reply.words(receiver.body, receiver.status)
