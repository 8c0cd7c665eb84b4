"""When a watch has received everything that the API server holds."""

from opsybed.kube_watch import is_current


def held(**versions: int) -> dict[str, dict]:
    return {name: {"metadata": {"name": name, "resourceVersion": str(v)}} for name, v in versions.items()}


def page(version: int, **versions: int) -> dict:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(held(**versions).values())}


def test_a_watch_is_behind_until_the_events_of_all_listed_objects_have_arrived():
    assert is_current(page(9, a=4, b=7), held(a=4, b=7))
    assert not is_current(page(9, a=4, b=7), held(a=4)), "the creation of b"
    assert not is_current(page(9, a=4, b=7), held(a=4, b=5)), "the change of b"
    assert not is_current(page(9, a=4), held(a=4, b=7)), "the deletion of b"


def test_a_watch_may_be_ahead_of_the_list():
    assert is_current(page(9, a=4), held(a=10, b=11))
    assert is_current({"metadata": {"resourceVersion": "9"}}, {})
