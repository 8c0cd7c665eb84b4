"""Condition blocks: operators, set operators, and the keys that the bed supports.

A context maps keys in lower case to lists of values. A key that it does not
contain is absent from the request, which is not the same as an empty value.
"""

import re
from dataclasses import dataclass

# Prefixes of the keys that a check may contain; the rest of such a key is arbitrary.
PREFIXES = (
    "autoscaling:resourcetag/",
    "aws:requesttag/",
    "aws:resourcetag/",
    "ec2:attribute/",
    "ec2:resourcetag/",
    "ssm:resourcetag/",
)
SINGLE = {
    "autoscaling:launchconfigurationname",
    "autoscaling:launchtemplateversionspecified",
    "autoscaling:maxsize",
    "autoscaling:minsize",
    "aws:principalaccount",
    "aws:requestedregion",
    "ec2:add/group",
    "ec2:add/userid",
    "ec2:attribute",
    "ec2:createaction",
    "ec2:instanceprofile",
    "ec2:instancetype",
    "ec2:keypairname",
    "ec2:launchtemplate",
    "ec2:owner",
    "ec2:vpc",
    "iam:passedtoservice",
    "kms:grantisforawsresource",
    "kms:viaservice",
    "ses:fromaddress",
}
MULTIPLE = {"autoscaling:vpczoneidentifiers", "aws:tagkeys"}
# Numbers, which the operators of the bed do not compare.
NUMERIC = {"autoscaling:maxsize", "autoscaling:minsize"}
OPERATOR = re.compile(r"(?:(ForAllValues|ForAnyValue):)?([A-Za-z]+?)(IfExists)?")


class PolicyError(ValueError):
    """A document that the bed cannot evaluate; the message contains the location and the reason."""


def _like(value: str, pattern: str) -> bool:
    parts = {"*": ".*", "?": "."}
    text = "".join(parts.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(text, value, re.DOTALL) is not None


def _arn_like(value: str, pattern: str) -> bool:
    """Compare each of the six parts separately; only the last one may contain colons."""
    have, want = value.split(":", 5), pattern.split(":", 5)
    return len(have) == len(want) and all(_like(h, w) for h, w in zip(have, want, strict=True))


TESTS = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": _like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
}
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


@dataclass(frozen=True)
class Condition:
    """One operator on one key. A statement matches only if all its conditions hold."""

    quantifier: str | None
    operator: str
    if_exists: bool
    key: str
    wanted: tuple[str, ...]

    def holds(self, context: dict[str, list[str]]) -> bool:
        values = context.get(self.key)
        if self.operator == "Null":
            return (values is None) == (self.wanted[0] == "true")
        if values is None:
            return self._of_absent()
        if self.quantifier == "ForAllValues":
            return all(self._accepts(value) for value in values)
        return any(self._accepts(value) for value in values)

    def _of_absent(self) -> bool:
        if self.if_exists or self.quantifier == "ForAllValues":
            return True
        return self.operator in NEGATED and self.quantifier is None

    def _accepts(self, value: str) -> bool:
        """Whether any wanted value matches this value of the request; for a negated operator, whether none does."""
        negated = self.operator in NEGATED
        test = TESTS[NEGATED.get(self.operator, self.operator)]
        return any(test(value, wanted) for wanted in self.wanted) != negated


def conditions_of(sid: str, block: dict) -> tuple[Condition, ...]:
    if not isinstance(block, dict):
        raise PolicyError(f"statement {sid!r}: Condition must be an object")
    return tuple(
        _condition(sid, operator, key, wanted)
        for operator, keys in block.items()
        for key, wanted in keys.items()
    )


def _condition(sid: str, written: str, key: str, wanted) -> Condition:
    quantifier, operator, if_exists = OPERATOR.fullmatch(written).groups() if (
        OPERATOR.fullmatch(written)
    ) else (None, written, None)
    if operator not in TESTS and operator not in NEGATED and operator != "Null":
        raise PolicyError(f"statement {sid!r}: unknown condition operator {written!r}")
    name = key.lower()
    if name not in SINGLE | MULTIPLE and not name.startswith(PREFIXES):
        raise PolicyError(f"statement {sid!r}: the test bed does not support the condition key {key!r}")
    if name in NUMERIC and operator != "Null":
        raise PolicyError(f"statement {sid!r}: {key} is a number; the test bed supports only the operator Null for it")
    if name in MULTIPLE and quantifier is None and operator != "Null":
        raise PolicyError(f"statement {sid!r}: {key} can have several values; use ForAllValues or ForAnyValue")
    values = tuple(_text(sid, v) for v in (wanted if isinstance(wanted, list) else [wanted]))
    if operator in ("Null", "Bool") and (quantifier or set(values) - {"true", "false"}):
        raise PolicyError(f"statement {sid!r}: {written} of {key} must be true or false")
    if operator == "Null" and (len(values) != 1 or if_exists):
        raise PolicyError(f"statement {sid!r}: {written} of {key} takes one value")
    return Condition(quantifier, operator, bool(if_exists), name, values)


def _text(sid: str, value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str) or "${" in value:
        raise PolicyError(f"statement {sid!r}: {value!r} must be a string without variables")
    return value
