"""A real sshd on loopback that represents every instance, so that builds can provision.

The "instance" is the file system of this machine under one unprivileged user. Each
public key sets the name of the instance's key pair in the environment of its sessions,
so that terminating an instance kills exactly the processes of its own sessions.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from bedkit.parent import end_with_parent_thread

USER = "opsybed"
# Set in every session by its authorized_keys line, and inherited by the processes that the session starts.
MARK = "OPSYBED_KEY"
START_SECONDS = 20
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {home}/host_key
AuthorizedKeysFile {keys}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserEnvironment {mark}
AllowUsers {user}
MaxStartups 100:30:200
Subsystem sftp internal-sftp
"""


class Sshd:
    def __init__(self, authorized_keys: Path | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="opsybed-ssh-"))
        # the server reads the keys as the user who logs in
        self.home.chmod(0o755)
        self.keys = (authorized_keys or self.home / "authorized_keys").absolute()
        self.keys.touch()
        # (account, region) -> key name -> its line
        self._published: dict[tuple[str, str], dict[str, str]] = {}
        self._process: subprocess.Popen | None = None
        self.user = ""

    def start(self) -> dict:
        """Start sshd and return its address."""
        program = shutil.which(
            "sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
        )
        if program is None:
            raise SystemExit("--ssh requires sshd (Debian's openssh-server), which is not in PATH")
        self.user = _user()
        port = _free_port()
        key = self.home / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        config = self.home / "sshd_config"
        config.write_text(
            CONFIG.format(port=port, home=self.home, keys=self.keys, user=self.user, mark=MARK)
        )
        if os.geteuid() == 0:
            # privilege separation requires this directory, which the sshd service would create
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._process = subprocess.Popen(
            [program, "-D", "-e", "-f", config],
            stdin=subprocess.DEVNULL,
            stderr=(self.home / "log").open("wb"),
            env=os.environ | _libraries(Path(program)),
            preexec_fn=end_with_parent_thread,
        )
        self._await_port(port)
        return {"ssh_port": port, "ssh_user": self.user, "authorized_keys": str(self.keys)}

    def _await_port(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(
                        "sshd did not start: " + (self.home / "log").read_text()
                    ) from None
                time.sleep(0.05)

    def publish(self, account: str, region: str, key_pairs) -> None:
        """Set the keys that may log in; sshd reads the file at every login."""
        self._published[(account, region)] = {
            pair.key_name: (
                f'environment="{MARK}={_mark(account, pair.key_name)}" {pair.public_key.strip()}'
            )
            for pair in key_pairs
        }
        self._write()

    def forget(self, account: str) -> None:
        self._published = {k: v for k, v in self._published.items() if k[0] != account}
        self._write()

    def _write(self) -> None:
        lines = [line for lines in self._published.values() for line in lines.values()]
        partial = self.keys.with_name(self.keys.name + ".new")
        partial.write_text("".join(line + "\n" for line in lines))
        partial.chmod(0o644)
        partial.replace(self.keys)

    def end_sessions(self, account: str, key_names: list[str]) -> int:
        """Kill the processes of logins with these keys, as terminating their machine would."""
        marks = {f"{MARK}={_mark(account, name)}".encode() for name in key_names}
        ended = 0
        for entry in Path("/proc").iterdir() if marks else ():
            if entry.name.isdigit() and _carries(entry, marks):
                try:
                    os.kill(int(entry.name), signal.SIGKILL)
                    ended += 1
                except ProcessLookupError:
                    pass
        return ended

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        for (account, _), lines in self._published.items():
            self.end_sessions(account, list(lines))
        shutil.rmtree(self.home, ignore_errors=True)


def _mark(account: str, key_name: str) -> str:
    """Return the mark in a form that is valid in a quoted authorized_keys option."""
    return account + "/" + "".join(c if c.isalnum() or c in "-_." else "_" for c in key_name)


def _carries(entry: Path, marks: set[bytes]) -> bool:
    try:
        return not marks.isdisjoint((entry / "environ").read_bytes().split(b"\0"))
    except OSError:
        return False


def _libraries(program: Path) -> dict[str, str]:
    """Return the library path of a server that is only unpacked, not installed."""
    root = program.parents[2]
    folders = [] if root == Path("/") else sorted(root.glob("usr/lib/*-linux-gnu"))
    return {"LD_LIBRARY_PATH": ":".join(map(str, folders))} if folders else {}


def _user() -> str:
    """Return the user for logins: an unprivileged one for root, else the current user."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(
            ["useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", USER], check=True
        )
    return USER


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
