"""What several test files say."""

from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError


@contextmanager
def refused(code: str, text: str = "", status: int | None = None):
    """The block's AWS call is refused with this code, these words and this HTTP status."""
    with pytest.raises(ClientError) as caught:
        yield
    answer = caught.value.response
    assert answer["Error"]["Code"] == code, answer
    assert text in answer["Error"]["Message"], answer
    if status is not None:
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
