"""Helpers that several test files share."""

from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError


@contextmanager
def refused(code: str, text: str = "", status: int | None = None):
    """Assert that the AWS call in the block fails with this code, message and HTTP status."""
    with pytest.raises(ClientError) as caught:
        yield
    answer = caught.value.response
    assert answer["Error"]["Code"] == code, answer
    assert text in answer["Error"]["Message"], answer
    if status is not None:
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
