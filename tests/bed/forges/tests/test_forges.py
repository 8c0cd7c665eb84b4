"""What is the same for all three forges, in the shape of each."""

import subprocess
import urllib.error

import pytest
from forgeclient import REPOSITORY

from bedkit.checks import ends_with_parent


def test_a_pull_request_shows_its_branches_and_a_push_moves_its_head(forge):
    first = forge.call("GET", forge.pull).json
    pushed = forge.bed.control("POST", "push", repository=REPOSITORY, number=1)["head"]
    second = forge.call("GET", forge.pull).json
    heads = [pull["sha"] if forge.is_gitlab else pull["head"]["sha"] for pull in (first, second)]
    assert heads[0] != heads[1] == pushed
    branch = second["source_branch"] if forge.is_gitlab else second["head"]["ref"]
    assert (branch, second["state"]) == ("change", "opened" if forge.is_gitlab else "open")


def test_branches_can_be_those_of_a_git_directory(forge, tmp_path):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", "-C", tmp_path, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet", "--bare", "--initial-branch=main")
    empty = git("hash-object", "-t", "tree", "-w", "/dev/null")
    commits = [git("commit-tree", "-m", text, empty) for text in ("one", "two")]
    git("update-ref", "refs/heads/main", commits[0])
    git("update-ref", "refs/heads/change", commits[1])
    forge.bed.control("POST", "repository", repository=REPOSITORY, git=str(tmp_path))
    heads, names, states = [], [], []
    for _ in range(2):
        shown = forge.call("GET", forge.pull).json
        heads.append(shown["sha"] if forge.is_gitlab else shown["head"]["sha"])
        names.append(shown["source_branch"] if forge.is_gitlab else shown["head"]["ref"])
        states.append(shown["state"])
        git("update-ref", "-d", "refs/heads/change")
    assert heads == [commits[1]] * 2
    # Gitea names the ref of the head when the branch was deleted. Only GitLab keeps the request open.
    assert names == ["change", "refs/pull/1/head" if forge.name == "gitea" else "change"]
    assert states == (["opened"] * 2 if forge.is_gitlab else ["open", "closed"])
    assert forge.bed.control("GET", f"state?repository={REPOSITORY}")["branches"] == {"main": commits[0]}


def test_a_fork_is_another_repository(forge):
    forge.bed.control("POST", "pull", repository=REPOSITORY, branch="patch", fork="somebody/images")
    own, fork = (forge.call("GET", f"{forge.pulls}/{number}").json for number in (1, 2))
    if forge.is_gitlab:
        sources = [(pull["source_project_id"], pull["target_project_id"]) for pull in (own, fork)]
    else:
        sources = [(pull["head"]["repo"]["id"], pull["base"]["repo"]["id"]) for pull in (own, fork)]
    assert sources[0][0] == sources[0][1]
    assert sources[1][0] != sources[1][1]


def test_comments_are_written_changed_and_listed_with_their_author(forge):
    created = forge.call("POST", forge.comments, {"body": "one"})
    assert created.status == 201
    changed = forge.edit(forge.comment(created.json["id"]), {"body": "two"})
    assert changed.status == 200
    forge.bed.control("POST", "comments", repository=REPOSITORY, number=1, user="eve", body="three")
    listed = forge.call("GET", forge.comments).json
    name = (lambda c: c["author"]["username"]) if forge.is_gitlab else (lambda c: c["user"]["login"])
    seen = {(comment["body"], name(comment)) for comment in listed}
    assert seen == {("two", "opsy-bot"), ("three", "eve")}


def test_a_comment_is_read_and_deleted(forge):
    path = forge.comment(forge.call("POST", forge.comments, {"body": "one"}).json["id"])
    assert forge.call("GET", path).json["body"] == "one"
    assert forge.call("DELETE", path).status == 204
    assert forge.call("GET", path).status == 404
    assert forge.call("GET", forge.comments).json == []


def test_lists_of_comments_have_pages_except_in_gitea(forge):
    forge.bed.control("POST", "comments", repository=REPOSITORY, number=1, body="x", count=250)
    bodies, page, headers = [], 1, None
    while True:
        answer = forge.call("GET", f"{forge.comments}?per_page=100&page={page}")
        bodies += answer.json
        headers = answer.headers
        if 'rel="next"' not in (headers["Link"] or ""):
            break
        page += 1
    assert len({comment["id"] for comment in bodies}) == 250
    assert page == (1 if forge.name == "gitea" else 3)
    if forge.is_gitlab:
        assert (headers["x-next-page"], headers["x-total-pages"]) == ("", "3")


def test_only_one_open_pull_request_for_two_branches(forge):
    refused = forge.call("POST", forge.pulls, forge.new_pull("change"))
    assert refused.status == (422 if forge.name == "github" else 409)
    assert "already exists" in refused.text
    close = {"state_event": "close"} if forge.is_gitlab else {"state": "closed"}
    assert forge.edit(forge.pull, close).json["state"] == "closed"
    created = forge.call("POST", forge.pulls, forge.new_pull("change"))
    assert created.status == 201
    assert created.json["iid" if forge.is_gitlab else "number"] == 2


def test_a_pull_request_needs_its_branch(forge):
    refused = forge.call("POST", forge.pulls, forge.new_pull("nothing"))
    assert refused.status == {"github": 422, "gitlab": 400, "gitea": 404}[forge.name]


def test_titles_and_texts_can_be_changed(forge):
    body = "description" if forge.is_gitlab else "body"
    changed = forge.edit(forge.pull, {"title": "new", body: "text"})
    assert (changed.json["title"], changed.json[body]) == ("new", "text")


@pytest.mark.parametrize("state", ["expired", "revoked"])
def test_a_token_that_is_not_valid_any_more(forge, state):
    forge.bed.control("POST", "tokens", token="forge-demo", state=state)
    assert forge.call("GET", forge.pull).status == 401
    assert forge.call("GET", "/user").status == 401
    assert forge.call("GET", "/user", token="unknown").status == 401


def test_a_repository_that_the_token_does_not_see_does_not_exist(forge):
    forge.bed.control("POST", "tokens", token="forge-demo", repositories=["platform/other"])
    assert forge.call("GET", forge.pull).status == 404
    assert forge.call("POST", forge.comments, {"body": "x"}).status == 404


def test_statuses_belong_to_known_commits(forge):
    head = forge.bed.control("GET", f"state?repository={REPOSITORY}")["pulls"][0]["head"]
    asked = {"state": "success", "description": "d", "target_url": "https://ci.example.com/1"}
    asked["name" if forge.is_gitlab else "context"] = "opsy/plan"
    assert forge.call("POST", f"{forge.root}/statuses/{head}", asked).status == 201
    unknown = forge.call("POST", f"{forge.root}/statuses/{'0' * 40}", asked)
    assert unknown.status == (422 if forge.name == "github" else 404)
    wrong = forge.call("POST", f"{forge.root}/statuses/{head}", asked | {"state": "neutral"})
    assert wrong.status == (422 if forge.name == "github" else 400)
    statuses = forge.bed.control("GET", f"state?repository={REPOSITORY}")["statuses"]
    assert [(s["context"], s["state"], s["url"]) for s in statuses] == [
        ("opsy/plan", "success", "https://ci.example.com/1")
    ]


def test_faults_and_journal(forge):
    bed = forge.bed
    fault = {"kind": "push", "method": "POST", "repository": REPOSITORY, "number": 1, "sha": "a" * 40}
    bed.control("POST", "faults", **fault, count=1)
    bed.control("POST", "faults", kind="status", method="GET", status=429, headers={"Retry-After": 7}, count=1)
    limited = forge.call("GET", forge.pull)
    assert (limited.status, limited.headers["Retry-After"]) == (429, "7")
    assert forge.call("POST", forge.comments, {"body": "x"}).status == 201
    assert bed.control("GET", f"state?repository={REPOSITORY}")["pulls"][0]["head"] == "a" * 40
    bed.control("POST", "faults", kind="lost", count=1)
    with pytest.raises((ConnectionError, urllib.error.URLError)):
        forge.call("POST", forge.comments, {"body": "y"})
    entries = bed.control("GET", "journal")
    assert [(entry["method"], entry["status"], entry["executed"]) for entry in entries] == [
        ("GET", 429, False),
        ("POST", 201, True),
        ("POST", None, True),
    ]
    assert "forge-demo" not in str(entries)


def test_what_is_not_emulated_does_not_exist(forge):
    assert forge.call("DELETE", forge.pull).status == 404


def test_it_ends_with_its_parent(tmp_path):
    ends_with_parent("forges", tmp_path / "forges.json")
