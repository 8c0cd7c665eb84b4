"""The policies of deploy/iam in the form in which they are attached: with placeholders replaced, for any partition."""

import json
import re
from pathlib import Path

from .iam_conditions import PolicyError
from .iam_scope import partition_of

FOLDER = Path(__file__).resolve().parents[4] / "deploy/iam"
# Names that start with AWS- are AWS's own documents, not placeholders.
PLACEHOLDER = re.compile(r"\b(?!AWS-)[A-Z][A-Z_]{2,}\b")
# The names of the seeded cluster and its role, and of the tests' topic and sender.
USUAL = {
    "CLUSTER": "demo",
    "NODE_ROLE": "demo-node",
    "SENDER": "opsy@example.com",
    "TOPIC": "opsy",
}


def documents(
    names: list[str], account: str, region: str, values: dict[str, str] | None = None
) -> list[dict]:
    """Return one document per file; a placeholder without a value is an error."""
    known = {**USUAL, "ACCOUNT": account, **(values or {})}
    return [_filled(name, partition_of(region), known) for name in names]


def _filled(name: str, partition: str, known: dict[str, str]) -> dict:
    path = (FOLDER / name).resolve()
    if FOLDER not in path.parents or not path.is_file():
        raise PolicyError(f"no policy {name!r} in {FOLDER}")

    def value(found: re.Match) -> str:
        if found[0] not in known:
            raise PolicyError(f"{name}: no value for {found[0]}")
        return known[found[0]]

    text = PLACEHOLDER.sub(value, path.read_text()).replace("arn:aws:", f"arn:{partition}:")
    if partition == "aws-cn":
        text = text.replace('"ec2.amazonaws.com"', '"ec2.amazonaws.com.cn"')
    return json.loads(text)
