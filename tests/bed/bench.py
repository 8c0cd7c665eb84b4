"""Measures the cost of applying 1,000 PackerBuilders from a commit to a cluster, compared with bare loops that
apply them, and that also write their status.

Run by `make bench`. It uses a real API server without a node. The time runs from the end of the push, which the
agent notices at once (the repository is local), until every object is applied and reconciled, that is, until its
status has the observedGeneration of its generation. Requests and CPU time are counted until the agent has nothing left
to do, at least for 5 seconds. OPSY_BENCH_COUNT is the number of objects. With OPSY_BENCH_GROWTH=1, a tenth of them is
measured first, and the growth is printed.
"""

import contextlib
import functools
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from typing import NamedTuple

from bedkit import agent, launch
from bedkit.client import call
from bedkit.failure import Failure, run
from bedkit.git import commit, git, make_bare, push
from bedkit.process import memory_mib
from bedkit.wait import until
from scaling.cost import cpu, until_quiet

BED = pathlib.Path(__file__).resolve().parent
SOURCE = BED.parent.parent
ACCOUNT = "200000000002"
COUNT = int(os.environ.get("OPSY_BENCH_COUNT", "1000"))
GROWTH = bool(os.environ.get("OPSY_BENCH_GROWTH"))
LIMIT = max(180, COUNT // 10)  # seconds for any one step: ten times what a bare loop needs
QUIET = 5  # seconds in which a commit without relevant changes could still cause a request
IDLE = 30  # seconds before the resident size counts as idle
GROUP = "/apis/ami.opsy.dev/v1alpha1"
NAMESPACE = "bench"

BUILDER = """\
# Builder {number}: a hardened node image of team {team}.
apiVersion: ami.opsy.dev/v1alpha1
kind: PackerBuilder
metadata:
  name: node-{number:04}
  labels:
    team: team-{team}
    cost-center: "{cost}"
  annotations:
    runbook: https://runbooks.example.com/images/node-{number:04}
spec:
  # Reconciled like any other, but never starts a build.
  suspend: true
  region: us-east-1
  clusterName: demo
  amiFilters:
    - name: owner-id
      values: ["602401143452"]
    - name: name
      values: ["amazon-eks-node-al2023-x86_64-standard-1.31-*"]
    - name: architecture
      values: ["x86_64"]
  timeOuts:
    expiresIn: {days}d
    controllerTimer: 1h
    build: 1h
  failurePolicy:
    limit: 3
    backoff: 10m
  builder:
    dir: packer/node
    image: registry.example.com/platform/packer:1.11.2
    secret: packer-credentials
    jobServiceAccountName: packer
    commands:
      - subCommand: init
      - subCommand: validate
        variables:
          instance_type: m6i.large
      - subCommand: build
        variables:
          instance_type: m6i.large
          volume_size: "{size}"
          hardening_profile: cis-level-2
          kubernetes_version: "1.31"
          owner_team: team-{team}
          ami_description: Hardened node image {number:04}
        onError: cleanup
  notifier:
    slack:
      channelIDs: ["C0000000001"]
      secret: slack-token
"""


def manifest(number: int, days: int = 30) -> str:
    return BUILDER.format(number=number, team=number % 40, cost=1000 + number % 17, days=days, size=20 + number % 5)


# The status that Opsy writes for such an object.
STATUS = {
    "observedGeneration": 1,
    "state": "FlightChecks",
    "failedJobCount": 0,
    "maxNumberOfFailedJobs": 3,
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "conditions": [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, status, reason, message in (
            ("Ready", "False", "Suspended", "nothing new is built"),
            ("Published", "True", "Pushed", "the status in Git is current"),
        )
    ],
}


class Cluster:
    """Access to the control plane as administrator."""

    def __init__(self, address: dict) -> None:
        self.address = address
        self.server = address["server"]
        self.context = ssl.create_default_context(cafile=address["ca"])
        self.admin = address["token"]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = [self.address["kubectl"], "--kubeconfig", self.address["kubeconfig"], *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=LIMIT)
        if done.returncode:
            raise Failure(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def open(self, path: str):
        request = urllib.request.Request(self.server + path, headers={"Authorization": f"Bearer {self.admin}"})
        return urllib.request.urlopen(request, context=self.context, timeout=LIMIT)

    def serves(self, path: str) -> None:
        """Wait until a new kind can be read, because its storage takes a moment."""
        until(path, lambda: self.open(path), LIMIT, 0.2, (urllib.error.HTTPError,)).close()

    def requests(self) -> dict[str, int]:
        """Return the number of requests so far for PackerBuilders and Events, by verb.

        It includes watches of other clients, which end and start meanwhile.
        """
        counts: dict[str, int] = {}
        with self.open("/metrics") as answer:
            for line in answer.read().decode().splitlines():
                resource = next((name for name in ("packerbuilders", "events") if f'resource="{name}"' in line), None)
                if line.startswith("apiserver_request_total{") and resource:
                    verb = line.split('verb="')[1].split('"')[0]
                    part = line.split('subresource="')[1].split('"')[0]
                    name = f"{verb} {part or (resource if resource == 'events' else '')}".strip()
                    counts[name] = counts.get(name, 0) + int(float(line.rsplit(" ", 1)[1]))
        return counts


class Watch(threading.Thread):
    """Watches a namespace: the generations of its objects, and the generations that their status has observed.

    The API server ends watches, in particular of a client that falls behind. The next one continues where the last one
    ended: to send all objects again would cost the API server more than what is measured.
    """

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        super().__init__(daemon=True)
        self.generations: dict[str, int] = {}
        self.reconciled: dict[str, int] = {}
        # Counted here, because a look at all objects after each event takes time that grows with their square.
        self.outdated: set[str] = set()
        self.changed = threading.Condition()
        self.cluster, self.path = cluster, f"{GROUP}/namespaces/{namespace}/packerbuilders?watch=true"
        self.version = ""
        self.stream = self.open()
        self.start()

    def open(self):
        return self.cluster.open(f"{self.path}&resourceVersion={self.version}" if self.version else self.path)

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the control plane has ended
            while True:
                for line in self.stream:
                    event = json.loads(line)
                    if event["type"] == "ERROR":  # the version is too old
                        self.version = ""
                        break
                    self.version = event["object"]["metadata"]["resourceVersion"]
                    self.see(event["object"])
                self.stream = self.open()

    def see(self, item: dict) -> None:
        name, generation = item["metadata"]["name"], item["metadata"]["generation"]
        observed = item.get("status", {}).get("observedGeneration", 0)
        with self.changed:
            self.generations[name], self.reconciled[name] = generation, observed
            (self.outdated.discard if observed == generation else self.outdated.add)(name)
            self.changed.notify_all()

    def until_all(self, count: int) -> None:
        self.until(lambda w: len(w.generations) == count and not w.outdated)

    def until(self, holds) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: holds(self), LIMIT):
                count, outdated = len(self.generations), len(self.outdated)
                raise Failure(f"after {LIMIT} s, {count} objects exist, and {outdated} of them are not reconciled")


class Row(NamedTuple):
    """What a commit costs: the time until its objects are reconciled, and the CPU time of the agent."""

    what: str
    seconds: float
    cpu: float


def main() -> None:
    with contextlib.ExitStack() as stack:
        root = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        aws = stack.enter_context(launch.bed("aws", root / "aws.json", output=None, seconds=LIMIT))
        call(aws["endpoint"], "POST", "seed", {"account": ACCOUNT, "region": "us-east-1", "cluster": "demo"})
        counts = (COUNT // 10, COUNT) if GROWTH else (COUNT,)
        rows = [compare(count, aws["endpoint"], root / str(count)) for count in counts]
        for small, large in zip(*rows) if GROWTH else ():
            times = f"{large.seconds / small.seconds:.1f} times the time, {large.cpu / small.cpu:.1f} times the CPU"
            print(f"{large.what}, {COUNT} instead of {COUNT // 10} objects: {times}")


def compare(count: int, endpoint: str, root: pathlib.Path) -> list[Row]:
    """Measure the bare loops and Opsy with a number of objects."""
    root.mkdir()
    print(f"{count} PackerBuilders of {len(manifest(1))} bytes, 2 kinds of agent: a bare loop, and Opsy\n")
    bare_loop(count, 8)  # warms the caches of the machine
    applied = {at_once: bare_loop(count, at_once) for at_once in (8, 32)}
    both = {at_once: bare_loop(count, at_once, with_status=True) for at_once in (8, 32)}
    for at_once in (8, 32):
        print(f"bare loop, {at_once:2} at once: {applied[at_once]:6.2f} s; with status: {both[at_once]:6.2f} s")
    with control_plane() as cluster:
        rows = measure(cluster, endpoint, root, count)
    for at_once in (8, 32):
        bare, full = (rows[0].seconds / loop[at_once] for loop in (applied, both))
        print(f"(a) took {bare:.2f} times the bare loop, {full:.2f} times the loop with status, {at_once:2} at once")
    print(flush=True)
    return rows


@contextlib.contextmanager
def control_plane():
    """Start a new control plane for each measurement, so that earlier ones do not affect it."""
    with contextlib.ExitStack() as stack:
        root = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = root / "cluster.json"
        up = [os.environ["CONTROLPLANE"], "up", "--dir", str(root / "cluster"), "--address-file", str(file)]
        up.append("--die-with-parent")
        address = stack.enter_context(launch.started("the control plane", up, file, SOURCE, seconds=LIMIT))
        cluster = Cluster(address)
        cluster.kubectl("apply", "--server-side", "-f", str(SOURCE / "schemas" / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        cluster.serves(f"{GROUP}/packerbuilders")
        cluster.kubectl("create", "namespace", NAMESPACE)
        yield cluster


@functools.cache
def document(number: int) -> str:
    """Return the manifest as JSON with the labels that Opsy adds, so that both send the same document."""
    import yaml  # a dependency of moto

    parsed = yaml.safe_load(manifest(number))
    parsed["metadata"]["labels"] |= {"app.kubernetes.io/managed-by": "opsy", "ami.opsy.dev/owner": "bench"}
    return json.dumps(parsed) + "\n"


def bare_loop(count: int, at_once: int, with_status: bool = False) -> float:
    with control_plane() as cluster, tempfile.TemporaryDirectory() as folder:
        documents, status, token = (pathlib.Path(folder) / name for name in ("documents.jsonl", "status.json", "token"))
        token.write_text(cluster.admin)
        status.write_text(json.dumps(STATUS))
        documents.write_text("".join(map(document, range(count))))
        command = [os.environ["BARELOOP"], "--server", cluster.server, "--ca", cluster.address["ca"]]
        command += ["--token", str(token), "--namespace", NAMESPACE]
        command += ["--documents", str(documents), "--concurrency", str(at_once)]
        command += ["--status", str(status)] if with_status else []
        watch = Watch(cluster, NAMESPACE)
        time.sleep(QUIET)
        seconds = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        watch.until_all(count) if with_status else watch.until(lambda w: len(w.generations) == count)
        return seconds


def measure(cluster: Cluster, endpoint: str, root: pathlib.Path, count: int) -> list[Row]:
    remote, work = repository(root)
    environment = agent.environment(remote, root / "state") | agent.aws(endpoint, f"AKIA{ACCOUNT}IDLE")
    environment |= {
        "OPSY_LOG": os.environ.get("OPSY_LOG", "warn"),
        "OPSY_INTERVAL": "1h",
        "OPSY_KUBECONFIG": account(cluster, root),
    }
    log = root / "agent.log"
    with agent.run_agent(environment, log) as process:
        watch = Watch(cluster, NAMESPACE)
        time.sleep(QUIET)
        try:
            until_quiet(process.pid, 0.0, LIMIT)
            rows = [
                first(cluster, process.pid, work, watch, count),
                one(cluster, process.pid, work, watch),
                nothing(cluster, process.pid, work),
            ]
            watch.until_all(count)
            time.sleep(IDLE)
            sizes = f"{memory_mib(process.pid):.1f} MiB, peak {memory_mib(process.pid, 'VmHWM'):.1f} MiB"
            print(f"idle RSS: {sizes}")
            return rows
        except Failure:
            sys.stderr.write(log.read_text()[-3000:])
            raise


def first(cluster, pid, work, watch, count) -> Row:
    for number in range(count):
        (work / "builders" / f"node-{number:04}.yaml").write_text(manifest(number))
    return measured(cluster, pid, work, "(a) the first commit", lambda: watch.until_all(count))


def one(cluster, pid, work, watch) -> Row:
    name = "node-0007"
    (work / "builders" / f"{name}.yaml").write_text(manifest(7, days=31))
    return measured(cluster, pid, work, "(b) one of them changed", lambda: watch.until(lambda w: w.reconciled[name] == 2))


def nothing(cluster, pid, work) -> Row:
    (work / "README.md").write_text("This file does not affect any manifest.\n")
    return measured(cluster, pid, work, f"(c) nothing relevant, {QUIET} s", lambda: time.sleep(QUIET))


def measured(cluster, pid, work, what, wait) -> Row:
    commit(work, "policy: change")
    # The agent commits the status to the same branch.
    git("pull", "--quiet", "--rebase", "origin", "main", where=work)
    before, start_cpu = cluster.requests(), cpu(pid)
    push(work)
    start_time = time.monotonic()
    wait()
    seconds = time.monotonic() - start_time
    used = until_quiet(pid, start_cpu, LIMIT)
    after = cluster.requests()
    made = {verb: after[verb] - before.get(verb, 0) for verb in after if after[verb] != before.get(verb, 0)}
    words = ", ".join(f"{count} {verb}" for verb, count in sorted(made.items()) if not verb.startswith("WATCH")) or "no request"
    print(f"{what}: {seconds:6.2f} s; {words}; agent CPU {used:.3f} s, peak RSS {memory_mib(pid, 'VmHWM'):.1f} MiB", flush=True)
    return Row(what, seconds, used)


def account(cluster: Cluster, root: pathlib.Path) -> str:
    """Return a kubeconfig for a service account that has only the rules of the chart."""
    files = SOURCE / "deploy" / "chart" / "files"
    rules = "rules:\n" + "".join((files / name).read_text() for name in ("role.yaml", "role-builds.yaml"))
    wide = "rules:\n" + (files / "clusterrole.yaml").read_text()
    head = "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: opsy\n"
    for kind, text in (("Role", rules), ("ClusterRole", wide)):
        cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=head.format(kind=kind) + text)
    cluster.kubectl("create", "serviceaccount", "opsy", "-n", NAMESPACE)
    subject = f"--serviceaccount={NAMESPACE}:opsy"
    cluster.kubectl("create", "rolebinding", "opsy", "--role=opsy", subject, "-n", NAMESPACE)
    cluster.kubectl("create", "clusterrolebinding", "opsy", "--clusterrole=opsy", subject)
    token = cluster.kubectl("create", "token", "opsy", "-n", NAMESPACE).strip()
    ca = cluster.address["ca"]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "contexts": [{"name": "bench", "context": {"cluster": "bed", "user": "opsy", "namespace": NAMESPACE}}],
        "clusters": [{"name": "bed", "cluster": {"server": cluster.server, "certificate-authority": ca}}],
        "users": [{"name": "opsy", "user": {"token": token}}],
    }
    path = root / "agent.kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


def repository(root: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    remote, work = root / "remote.git", root / "work"
    make_bare(remote)
    git("clone", "--quiet", remote, work)
    (work / "opsy.yaml").write_text("agentID: bench\nnamespace: bench\n")
    (work / "builders").mkdir()
    template = work / "packer" / "node"
    template.mkdir(parents=True)
    (template / "node.pkr.hcl").write_text((BED.parent / "it/fixtures/repo/packer/node/node.pkr.hcl").read_text())
    commit(work, "policy: settings")
    push(work)
    return remote, work


if __name__ == "__main__":
    run(main)
