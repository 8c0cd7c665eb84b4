"""forgebed: emulated REST APIs of GitHub, GitLab and Gitea (Forgejo) on loopback, for pull requests and their comments.

The path of a request: bedkit.server (HTTP) -> app (faults, journal, one lock) -> one of github (/api/v3), gitlab
(/api/v4) and gitea (/api/v1), each with a table of endpoints. They read and write world, which is the same for all of
them; control creates repositories, pull requests, comments of other people, and pushes.

What is emulated is what these documents say; anything else fails with 501:

- GitHub: docs.github.com/en/rest: "REST API endpoints for issue comments", "… pull requests", "… commit statuses",
  "… users", "Using pagination in the REST API", "Rate limits for the REST API", "Troubleshooting the REST API";
  docs.github.com/en/actions: "Automatic token authentication" (GITHUB_TOKEN cannot call GET /user).
- GitLab: docs.gitlab.com/api: "REST API" (pagination), "Notes API", "Merge requests API", "Commits API" (statuses),
  "Users API"; docs.gitlab.com/user/project/quick_actions; docs.gitlab.com/ci/jobs/ci_job_token (a job token reads no
  merge request and writes no note).
- Gitea: docs.gitea.com/api (the Swagger document) and the functions that it is generated from, in
  routers/api/v1/repo: issue_comment.go (the list of comments has no pages), pull.go, status.go.
"""

import sys
from pathlib import Path

# this directory contains bedkit
sys.path.append(str(Path(__file__).resolve().parents[2]))
