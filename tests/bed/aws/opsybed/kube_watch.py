"""The objects of one resource of a cluster, kept up to date by a watch."""

import json
import sys
import threading
import time
from collections.abc import Callable

import urllib3

from .kube_client import Kube, Refused, Unreachable

# of one watch, in seconds, after which the next one continues where it ended
WATCH_SECONDS = 300
# how long a failed list or watch waits for the next attempt
RETRY_SECONDS = 0.2
PAGE = 500


class Watch(threading.Thread):
    def __init__(self, kube: Kube, path: str, changed: Callable[[list[dict]], None]) -> None:
        """`changed` is called with the objects that were added, changed or deleted."""
        super().__init__(name=f"watch {path}", daemon=True)
        self._kube, self._path, self._changed = kube, path, changed
        self._mutex = threading.Lock()
        self._objects: dict[str, dict] = {}
        self._stopped = False
        self._answer: urllib3.BaseHTTPResponse | None = None
        self.synced = threading.Event()

    def objects(self) -> dict[str, dict]:
        """Return the objects by name, or by namespace and name."""
        with self._mutex:
            return dict(self._objects)

    def is_current(self) -> bool:
        """Whether the events of everything that the API server holds now have arrived."""
        try:
            page = self._kube.get(self._path)
        except (Refused, Unreachable):
            return False
        return is_current(page, self.objects())

    def stop(self) -> None:
        self._stopped = True
        answer = self._answer
        if answer is not None:
            try:
                answer.shutdown()
            except (ValueError, OSError, RuntimeError):
                pass  # it has just ended

    def run(self) -> None:
        version = ""
        while not self._stopped:
            try:
                version = version or self._list()
                version = self._follow(version)
            except (Refused, Unreachable, urllib3.exceptions.HTTPError, OSError, ValueError):
                version = ""
                time.sleep(RETRY_SECONDS)
            except Exception as error:  # a defect must not end the watch without a trace
                print(f"watch {self._path}: {type(error).__name__}: {error}", file=sys.stderr)
                version = ""
                time.sleep(RETRY_SECONDS)

    def _list(self) -> str:
        found, more = {}, ""
        while True:
            page = self._kube.get(f"{self._path}?limit={PAGE}{more}")
            found |= {key_of(item): trimmed(item) for item in page.get("items") or []}
            token = page["metadata"].get("continue")
            if not token:
                break
            more = f"&continue={token}"
        with self._mutex:
            self._objects = found
        self.synced.set()
        self._changed(list(found.values()))
        return page["metadata"]["resourceVersion"]

    def _follow(self, version: str) -> str:
        """Apply events until the watch ends. Return the version to go on from, or an empty string to list again."""
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
        answer = self._answer = self._kube.stream(f"{self._path}?{query}")
        rest, complete = b"", False
        try:
            for chunk in answer.stream(1 << 16):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                events = [json.loads(line) for line in lines if line]
                if any(event["type"] == "ERROR" for event in events):
                    return ""
                version = self._apply(events) or version
            complete = True
        finally:
            self._answer = None
            if complete and not self._stopped:
                answer.release_conn()
            else:
                answer.close()
        return version

    def _apply(self, events: list[dict]) -> str:
        version, changed = "", []
        with self._mutex:
            for event in events:
                item, kind = event["object"], event["type"]
                version = item["metadata"]["resourceVersion"]
                if kind == "BOOKMARK":
                    continue
                changed.append(item)
                if kind == "DELETED":
                    self._objects.pop(key_of(item), None)
                else:
                    self._objects[key_of(item)] = trimmed(item)
        if changed:
            self._changed(changed)
        return version


def is_current(page: dict, held: dict[str, dict]) -> bool:
    """Whether what a watch holds is as new as a list. What changed after the list may be there, too."""
    listed = {key_of(item): _version(item) for item in page.get("items") or []}
    if any(key not in held or _version(held[key]) < version for key, version in listed.items()):
        return False
    return all(_version(item) > _version(page) for key, item in held.items() if key not in listed)


def _version(item: dict) -> int:
    """Return the resource version, which the API server increments for all its resources together."""
    return int(item["metadata"]["resourceVersion"])


def key_of(item: dict) -> str:
    namespace, name = item["metadata"].get("namespace"), item["metadata"]["name"]
    return f"{namespace}/{name}" if namespace else name


def trimmed(item: dict) -> dict:
    item["metadata"].pop("managedFields", None)
    return item
