"""Settings that control requests read and change."""

from dataclasses import asdict, fields


class Settings:
    """Base of a dataclass whose members have one of the types bool, int, float and list."""

    def change(self, wanted: dict) -> None:
        """Set members by name, or raise ValueError."""
        known = {f.name: f.type for f in fields(self)}
        unknown = set(wanted) - set(known)
        if unknown:
            raise ValueError(f"unknown settings {sorted(unknown)}; known: {sorted(known)}")
        for name, value in wanted.items():
            if known[name] in (bool, list) and not isinstance(value, known[name]):
                raise ValueError(f"{name} must be of type {known[name].__name__}")
            setattr(self, name, known[name](value))

    def describe(self) -> dict:
        return asdict(self)
