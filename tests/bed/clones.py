"""Measures the cost of following a repository of one gigabyte and 10,000 commits, compared with Git itself.

Run by `make bench-clones`. It prints one row per measurement: seconds, and the peak resident memory of the process. Both
use the same server and machine, so compare only rows of the same run.
"""

import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from bedkit import agent, launch
from bedkit.failure import run
from bedkit.git import commit, git, make_bare, push

COMMITS = int(os.environ.get("OPSY_BENCH_COMMITS", "10000"))
BYTES = 100_000  # incompressible bytes per commit
FILES = 100  # at the tip

# Suspended, so that the agent only follows the repository.
BUILDER = """\
apiVersion: ami.opsy.dev/v1alpha1
kind: PackerBuilder
metadata: {{name: node}}
spec:
  suspend: true
  region: us-east-1
  builder: {builder}
"""


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as scratch:
        root = pathlib.Path(scratch)
        large = make_repository(root / "served" / "large.git", COMMITS)
        with launch.bed("git", root / "git.json", "--root", root / "served") as server:
            measure(root, large, f"{server['url']}/large.git")


def make_repository(path: pathlib.Path, commits: int) -> pathlib.Path:
    make_bare(path)
    load = subprocess.Popen(["git", "fast-import", "--quiet"], cwd=path, stdin=subprocess.PIPE)
    chance = random.Random(1)
    assert load.stdin is not None
    for number in range(commits):
        content = chance.randbytes(BYTES)
        load.stdin.write(b"commit refs/heads/main\ncommitter Ann <ann@test.invalid> %d +0000\n" % (1_700_000_000 + number))
        load.stdin.write(b"data 1\nm\n")
        if number == 0:
            for name, text in {
                "builder.yaml": BUILDER.format(builder="{dir: packer}"),
                "packer/node.pkr.hcl": "",
            }.items():
                load.stdin.write(b"M 644 inline %s\ndata %d\n%s\n" % (name.encode(), len(text), text.encode()))
        load.stdin.write(b"M 644 inline data/%d\ndata %d\n%s\n\n" % (number % FILES, BYTES, content))
    load.stdin.close()
    if load.wait() != 0:
        sys.exit("the repository cannot be created")
    return path


def measure(root: pathlib.Path, large: pathlib.Path, url: str) -> None:
    opsy = [os.environ["OPSY"]]
    environment = agent.environment(url, root / "state")
    clone = root / "clone.git"
    once = [*opsy, "run", "--once"]
    print(f"{COMMITS} commits, {size(large) >> 20} MiB")
    row("git clone --bare", ["git", "clone", "--quiet", "--bare", url, clone])
    # Exit code 3: only suspended objects remain.
    row("opsy run --once, first fetch", once, environment, code=3)
    grow(root, large)
    row("git fetch", ["git", "-C", clone, "fetch", "--quiet", "origin", "+refs/heads/*:refs/heads/*"])
    row("opsy run --once, next fetch", once, environment, code=3)
    row("opsy run --once, nothing new", once, environment, code=3)
    manifest = root / "builder.yaml"
    manifest.write_text(BUILDER.format(builder=f"{{dir: packer, repoURL: {url}}}"))
    row("git clone --bare --depth 1", ["git", "clone", "--quiet", "--bare", "--depth=1", url, root / "shallow.git"])
    row("opsy validate --fetch, template repository", [*opsy, "validate", "--fetch", manifest])


def row(name: str, command: list, environment: dict | None = None, code: int = 0) -> None:
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if os.waitstatus_to_exitcode(status) != code:
        sys.exit(f"{name} exited with {os.waitstatus_to_exitcode(status)}: {said.decode()[-2000:]}")
    print(f"{name:45} {seconds:8.2f} s {usage.ru_maxrss >> 10:6} MiB", flush=True)


def grow(root: pathlib.Path, large: pathlib.Path) -> None:
    work = root / "work"
    git("clone", "--quiet", "--depth=1", f"file://{large}", work)
    (work / "README").write_text("one more\n")
    commit(work, "more")
    push(work)


def size(folder: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    run(main)
