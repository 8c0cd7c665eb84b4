"""NextToken pagination, which all list operations share."""

import base64
import binascii

from .wire import AwsError
from .world import world


def page(
    items: list, limit: int | None, token: str | None, bad: AwsError
) -> tuple[list, str | None]:
    """Return one page and the token of the next one. Tokens are opaque, as in AWS."""
    start = 0
    if token:
        try:
            start = int(base64.urlsafe_b64decode(token.encode()).decode().removeprefix("from:"))
        except (ValueError, binascii.Error):
            raise bad from None
    if limit is None:
        return items[start:], None
    end = start + limit
    if end >= len(items):
        return items[start:end], None
    return items[start:end], base64.urlsafe_b64encode(f"from:{end}".encode()).decode()


def ec2_page(response, items: list, low: int, high: int) -> tuple[list, str | None]:
    limit = response._get_param("MaxResults")
    if limit is not None and not low <= int(limit) <= high:
        raise AwsError(
            "InvalidParameterValue",
            f"Value ( {limit} ) for parameter maxResults is invalid. "
            f"Expecting a value between {low} and {high}.",
        )
    bad = AwsError("InvalidNextToken", "The token provided is not valid.")
    return page(
        items, int(limit) if limit is not None else None, response._get_param("NextToken"), bad
    )


def eks_page(items: list) -> tuple[list, str | None]:
    limit = world.call.params.get("maxResults", 100)
    if not 1 <= limit <= 100:
        raise AwsError("InvalidParameterException", "maxResults must be between 1 and 100.")
    bad = AwsError("InvalidParameterException", "The nextToken is invalid.")
    return page(items, limit, world.call.params.get("nextToken"), bad)
