"""Generic webhook receivers: /hook/<name> keeps what it is sent and answers what it was told to."""

from .clock import stamp
from .journal import body_of
from .server import Reply, Request
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
            # as it was sent, for signatures
            "text": request.text,
            "status": receiver.status,
        }
    )
    content = {"body": body_of(request), "status": receiver.status}
    message = Message(str(world.moment()), name, [Version(world.now(), content, [])])
    receiver.messages.append(message)
    return Reply.words(receiver.body, receiver.status)
