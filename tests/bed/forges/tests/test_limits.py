"""Rights, sizes and rates, which each forge has of its own."""

import pytest
from forgeclient import REPOSITORY, Forge


@pytest.fixture
def github(bed):
    return Forge(bed, "github")


@pytest.fixture
def gitlab(bed):
    return Forge(bed, "gitlab")


@pytest.fixture
def gitea(bed):
    return Forge(bed, "gitea")


def test_the_token_of_a_workflow_has_no_user_and_writes_as_a_bot(github):
    github.bed.control("POST", "tokens", token="ghs_1", kind="actions")
    user = github.call("GET", "/user", token="ghs_1")
    assert (user.status, user.json["message"]) == (403, "Resource not accessible by integration")
    comment = github.call("POST", github.comments, {"body": "x"}, "ghs_1").json
    assert (comment["user"]["login"], comment["user"]["type"]) == ("github-actions[bot]", "Bot")
    github.bed.control("POST", "push", repository=REPOSITORY, branch="other")
    refused = github.call("POST", github.pulls, github.new_pull("other"), "ghs_1")
    assert (refused.status, "not permitted to create" in refused.text) == (403, True)
    github.bed.control("POST", "settings", github_actions_create_pulls=True)
    assert github.call("POST", github.pulls, github.new_pull("other"), "ghs_1").status == 201


def test_github_names_the_permissions_that_it_accepts(github):
    one = ["pull_requests:write"]
    github.bed.control("POST", "tokens", token="forge-demo", lacks=one)
    assert github.call("POST", github.comments, {"body": "x"}).status == 201
    github.bed.control("POST", "tokens", token="forge-demo", lacks=[*one, "issues:write"])
    refused = github.call("POST", github.comments, {"body": "x"})
    assert refused.status == 403
    assert refused.headers["X-Accepted-GitHub-Permissions"] == "issues=write; pull_requests=write"


def test_gitlab_scopes_and_roles(gitlab):
    gitlab.bed.control("POST", "tokens", token="forge-demo", lacks=["api"])
    assert gitlab.call("GET", gitlab.pull).status == 200
    refused = gitlab.call("POST", gitlab.comments, {"body": "x"})
    assert (refused.status, refused.json["error"], refused.json["scope"]) == (403, "insufficient_scope", "api")
    gitlab.bed.control("POST", "tokens", token="forge-demo", lacks=["reporter"])
    assert gitlab.call("POST", gitlab.comments, {"body": "x"}).json == {"message": "403 Forbidden"}
    gitlab.bed.control("POST", "tokens", token="job", kind="job")
    assert gitlab.call("GET", gitlab.pull, token="job").status == 401


def test_gitlab_changes_only_own_notes(gitlab):
    ids = gitlab.bed.control("POST", "comments", repository=REPOSITORY, number=1, user="eve", body="x")["ids"]
    assert gitlab.edit(gitlab.comment(ids[0]), {"body": "y"}).status == 403


def test_gitlab_lists_the_newest_note_first_and_system_notes_too(gitlab):
    gitlab.call("POST", gitlab.comments, {"body": "one"})
    gitlab.call("POST", gitlab.comments, {"body": "two"})
    gitlab.edit(gitlab.pull, {"state_event": "close"})
    notes = gitlab.call("GET", gitlab.comments).json
    assert [(note["body"], note["system"]) for note in notes] == [("closed", True), ("two", False), ("one", False)]
    assert gitlab.call("GET", f"{gitlab.comments}?sort=asc").json[0]["body"] == "one"


def test_gitlab_runs_quick_actions_of_notes(gitlab):
    gitlab.call("POST", gitlab.comments, {"body": "```\n/close\n```"})
    assert gitlab.call("GET", gitlab.pull).json["state"] == "opened"
    note = gitlab.call("POST", gitlab.comments, {"body": "text\n/close\n\\/approve"}).json
    assert (note["body"], gitlab.call("GET", gitlab.pull).json["state"]) == ("text\n\\/approve", "closed")


def test_gitlab_statuses_have_transitions(gitlab):
    head = gitlab.call("GET", gitlab.pull).json["sha"]
    path, asked = f"{gitlab.root}/statuses/{head}", {"state": "success", "name": "opsy/plan"}
    assert gitlab.call("POST", path, asked).status == 201
    again = gitlab.call("POST", path, asked)
    assert (again.status, "Cannot transition status via :succeed" in again.text) == (400, True)
    gitlab.bed.control("POST", "settings", gitlab_strict_transitions=False)
    assert gitlab.call("POST", path, asked).status == 201


def test_gitea_scopes(gitea):
    gitea.bed.control("POST", "tokens", token="forge-demo", lacks=["write:issue", "read:user"])
    refused = gitea.call("POST", gitea.comments, {"body": "x"})
    assert (refused.status, "[write:issue]" in refused.json["message"]) == (403, True)
    assert gitea.call("GET", "/user").status == 403


def test_gitea_lists_pull_requests_in_pages_without_a_filter_for_the_head(gitea):
    for index in range(70):
        gitea.bed.control("POST", "pull", repository=REPOSITORY, branch=f"b{index}")
    first = gitea.call("GET", f"{gitea.pulls}?state=open&head=change&limit=100")
    assert (len(first.json), first.headers["X-Total-Count"]) == (50, "71")
    assert 'rel="next"' in first.headers["Link"]


def test_github_filters_heads_only_with_their_user(github):
    github.bed.control("POST", "pull", repository=REPOSITORY, branch="other")
    found = [github.call("GET", f"{github.pulls}?head={head}").json for head in ("platform:change", "change")]
    assert [len(pulls) for pulls in found] == [1, 2]


@pytest.mark.parametrize(
    ("name", "setting", "most", "status"),
    [
        ("github", "github_body_characters", 65_536, 422),
        ("gitlab", "gitlab_body_characters", 1_000_000, 400),
        ("gitea", "gitea_body_bytes", 1_000, 413),
    ],
)
def test_texts_have_a_maximum_size(bed, name, setting, most, status):
    forge = Forge(bed, name)
    bed.control("POST", "settings", **{setting: most})
    assert forge.call("POST", forge.comments, {"body": "x" * (most - 50)}).status == 201
    assert forge.call("POST", forge.comments, {"body": "x" * (most + 1)}).status == status


def test_the_clock_is_changed_by_post_alone(github):
    bed = github.bed
    frozen = bed.control("POST", "clock", freeze=True)
    assert frozen == bed.call("GET", "/_bed/clock?advance=60").json
    assert frozen["frozen"] and frozen["now"] < bed.control("POST", "clock", advance=60)["now"]


def test_github_has_two_rate_limits(github):
    bed = github.bed
    bed.control("POST", "clock", freeze=True)
    bed.control("POST", "settings", github_writes=1)
    assert github.call("POST", github.comments, {"body": "x"}).status == 201
    second = github.call("POST", github.comments, {"body": "x"})
    assert (second.status, second.headers["Retry-After"]) == (403, "60")
    assert "secondary rate limit" in second.json["message"]
    bed.control("POST", "clock", advance=61)
    assert github.call("POST", github.comments, {"body": "x"}).status == 201
    bed.control("POST", "settings", github_requests=1)
    assert github.call("GET", github.pull).status == 200
    limited = github.call("GET", github.pull)
    assert (limited.status, limited.headers["X-RateLimit-Remaining"]) == (403, "0")
    assert int(limited.headers["X-RateLimit-Reset"]) > 0


def test_gitlab_limits_notes_per_minute(gitlab):
    gitlab.bed.control("POST", "settings", gitlab_notes=1)
    assert gitlab.call("POST", gitlab.comments, {"body": "x"}).status == 201
    limited = gitlab.call("POST", gitlab.comments, {"body": "x"})
    assert limited.status == 429
    assert int(limited.headers["Retry-After"]) >= 1
