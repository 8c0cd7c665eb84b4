"""What it costs to follow a repository of one gigabyte and 10,000 commits, beside Git itself.

Run by `make bench-clones`. One row per measurement: seconds, and the peak of the process' resident memory. The server is
the same for both, and so is the machine: compare the rows of one run alone.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

BED = pathlib.Path(__file__).resolve().parent
COMMITS = int(os.environ.get("OPSY_BENCH_COMMITS", "10000"))
BYTES = 100_000  # that do not compress, in each commit
FILES = 100  # at the tip
START = 60  # seconds in which the server must answer

# Suspended: following the repository is all there is to do.
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
        large = make_repository(root / "served" / "large.git")
        url, server = serve(root)
        try:
            measure(root, large, f"{url}/large.git")
        finally:
            server.terminate()
            server.wait()


def make_repository(path: pathlib.Path) -> pathlib.Path:
    git("init", "--quiet", "--bare", "--initial-branch=main", path)
    load = subprocess.Popen(["git", "fast-import", "--quiet"], cwd=path, stdin=subprocess.PIPE)
    chance = random.Random(1)
    assert load.stdin is not None
    for number in range(COMMITS):
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
        sys.exit("the repository cannot be made")
    return path


def serve(root: pathlib.Path):
    port_file = root / "git.json"
    command = [sys.executable, BED / "git" / "gitbed.py", "--root", root / "served", "--port", "0"]
    command += ["--port-file", port_file, "--die-with-parent"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + START
    while not port_file.exists():
        if time.monotonic() > deadline or server.poll() is not None:
            sys.exit("the Git server did not start")
        time.sleep(0.1)
    return json.loads(port_file.read_text())["url"], server


def measure(root: pathlib.Path, large: pathlib.Path, url: str) -> None:
    opsy = [os.environ["OPSY"]]
    environment = os.environ | {
        "OPSY_REPO": url,
        "OPSY_STATE": str(root / "state"),
        "OPSY_OUTPUT": "json",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    clone = root / "clone.git"
    run = [*opsy, "run", "--once"]
    print(f"{COMMITS} commits, {size(large) >> 20} MiB")
    row("git clone --bare", ["git", "clone", "--quiet", "--bare", url, clone])
    # Exit code 3: all that is left is suspended.
    row("opsy run --once, first fetch", run, environment, code=3)
    commit(root, large)
    row("git fetch", ["git", "-C", clone, "fetch", "--quiet", "origin", "+refs/heads/*:refs/heads/*"])
    row("opsy run --once, next fetch", run, environment, code=3)
    row("opsy run --once, nothing new", run, environment, code=3)
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
        sys.exit(f"{name} ended with {os.waitstatus_to_exitcode(status)}: {said.decode()[-2000:]}")
    print(f"{name:45} {seconds:8.2f} s {usage.ru_maxrss >> 10:6} MiB", flush=True)


def commit(root: pathlib.Path, large: pathlib.Path) -> None:
    work = root / "work"
    git("clone", "--quiet", "--depth=1", f"file://{large}", work)
    (work / "README").write_text("one more\n")
    git("-C", work, "add", "README")
    git("-C", work, "-c", "user.name=Ann", "-c", "user.email=ann@test.invalid", "commit", "--quiet", "--message=more")
    git("-C", work, "push", "--quiet", "origin", "main")


def git(*arguments) -> None:
    subprocess.run(["git", *map(str, arguments)], check=True)


def size(folder: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
