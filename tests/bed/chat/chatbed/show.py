"""python -m chatbed.show --port N: prints the messages that people would have read, by place."""

import argparse
import shutil
import sys
import textwrap

from bedkit.client import call

from .render import content_lines

MOST_COLUMNS, FEWEST_COLUMNS = 110, 50
HEAD, REPLY = "  ", "  ┃ "
TIME = len("00:00:00  ")


class Page:
    """Lines for a terminal, wrapped, and with color if it is supported."""

    def __init__(self, colour: bool, columns: int) -> None:
        self.colour, self.columns = colour, columns
        self.lines: list[str] = []

    def paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def bold(self, text: str) -> str:
        return self.paint("1", text)

    def dim(self, text: str) -> str:
        return self.paint("2", text)

    def place(self, place: dict) -> None:
        messages = [m for m in place["messages"] if not m["deleted"]]
        replies = sum(len(m["replies"]) for m in messages)
        mark = "#" if place["kind"] == "slack" else ""
        tally = f"{count(len(messages), 'message')}, {count(replies, 'reply', 'replies')}"
        title = f"{mark}{place['name']}"
        rule = "─" * max(3, self.columns - len(title) - len(tally) - 5)
        self.lines += [f"{self.bold(title)} {self.dim(f'{rule} {tally} ──')}", ""]
        for message in messages:
            self.message(message, HEAD)
            for reply in message["replies"]:
                if not reply["deleted"]:
                    self.lines.append(self.dim(REPLY.rstrip()))
                    self.message(reply, REPLY)
            self.lines.append("")

    def message(self, message: dict, lead: str) -> None:
        clock = message["time"][11:19]
        lines = [piece for line in content_lines(message) for piece in self.wrap(line, lead)]
        marks = remarks(message)
        for index, line in enumerate(lines or ["(nothing)"]):
            stamp = f"{clock}  " if index == 0 else " " * TIME
            shown = self.bold(line) if index == 0 else line
            self.lines.append(f"{self.dim(lead + stamp)}{shown}")
        if marks:
            self.lines.append(self.dim(lead + " " * TIME + f"({', '.join(marks)})"))

    def wrap(self, line: str, lead: str) -> list[str]:
        width = self.columns - len(lead) - TIME
        bar = line[:2] if line[:2] in ("│ ", "▎ ") else ""
        return textwrap.wrap(
            line,
            width,
            subsequent_indent=bar,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=not bar,
        ) or [""]


def remarks(message: dict) -> list[str]:
    marks = []
    if "status" in message and message["status"] >= 300:
        marks.append(f"responded with {message['status']}")
    if message["edits"]:
        marks.append("edited " + {1: "once", 2: "twice"}.get(n := message["edits"], f"{n} times"))
    if message["broadcast"]:
        marks.append("also sent to the channel")
    if message["pings"]:
        marks.append("mentions " + " ".join(message["pings"]))
    return marks


def count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="chatbed.show")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--place", help="name or ID of the place to print (default: all places)")
    asked = parser.parse_args()
    places = call(f"http://127.0.0.1:{asked.port}", "GET", "transcript")
    if asked.place:
        places = [p for p in places if asked.place.lstrip("#") in (p["place"], p["name"])]
    terminal = shutil.get_terminal_size((100, 24)).columns
    page = Page(sys.stdout.isatty(), max(FEWEST_COLUMNS, min(MOST_COLUMNS, terminal)))
    for place in places:
        page.place(place)
    print("\n".join(page.lines).rstrip() or "There are no messages.")


if __name__ == "__main__":
    main()
