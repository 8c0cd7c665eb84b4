"""Runs of the git command, without the user's configuration and without prompts."""

import os
import subprocess
from pathlib import Path

from .failure import Failure

_NAME, _EMAIL = "Platform Team", "platform@example.com"
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": _NAME,
    "GIT_AUTHOR_EMAIL": _EMAIL,
    "GIT_COMMITTER_NAME": _NAME,
    "GIT_COMMITTER_EMAIL": _EMAIL,
}


def git(*arguments, where: Path | None = None, check: bool = True) -> subprocess.CompletedProcess:
    """Run git in a directory. With `check`, an error of git is a failure with its message."""
    result = subprocess.run(
        ["git", *map(str, arguments)],
        cwd=where,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    if check and result.returncode:
        raise Failure(f"git {' '.join(map(str, arguments))}: {result.stderr}")
    return result


def make_bare(path: Path) -> None:
    """Create an empty bare repository with the branch main."""
    git("init", "--quiet", "--bare", "--initial-branch=main", path)


def commit(work: Path, message: str) -> str:
    """Commit everything in a work tree, and return the hash of the commit."""
    git("add", "--all", where=work)
    git("commit", "--quiet", f"--message={message}", where=work)
    return git("rev-parse", "HEAD", where=work).stdout.strip()


def push(work: Path, remote: str = "origin") -> None:
    """Push the current commit to the branch main."""
    git("push", "--quiet", remote, "HEAD:main", where=work)
