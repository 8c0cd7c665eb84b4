//! The Git hosts with pull requests: which one a host name belongs to, the address of its API, and the web page of a
//! commit. Pure.

use std::str::FromStr;

/// A kind of Git host. Forgejo is one of the kind Gitea: it has the same API and pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitHost {
    GitHub,
    GitLab,
    Gitea,
}

/// The hosts of public services.
const SERVICES: [(&str, GitHost); 4] = [
    ("github.com", GitHost::GitHub),
    ("gitlab.com", GitHost::GitLab),
    ("codeberg.org", GitHost::Gitea),
    ("gitea.com", GitHost::Gitea),
];
/// A service on which Opsy opens no pull requests. Its commits have pages.
const BITBUCKET: &str = "bitbucket.org";
/// The API of github.com, which has a host of its own.
pub const GITHUB_API: &str = "https://api.github.com";

impl GitHost {
    pub fn name(self) -> &'static str {
        match self {
            Self::GitHub => "GitHub",
            Self::GitLab => "GitLab",
            Self::Gitea => "Gitea",
        }
    }

    /// Returns the kind of a public service.
    pub fn of_service(host: &str) -> Option<Self> {
        SERVICES.iter().find(|(service, _)| *service == host).map(|(_, kind)| *kind)
    }

    /// Returns the address of the API of a server, which is given as `https://git.example.com:8443`.
    pub fn api(self, server: &str) -> String {
        let server = server.trim_end_matches('/');
        let host = server.split_once("://").map_or(server, |(_, host)| host);
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        let path = match self {
            Self::GitHub if Self::of_service(host) == Some(self) => return GITHUB_API.to_owned(),
            Self::GitHub => "api/v3",
            Self::GitLab => "api/v4",
            Self::Gitea => "api/v1",
        };
        format!("{server}/{path}")
    }

    /// Returns the API of the public service of this kind; `None` if there are several.
    pub fn public_api(self) -> Option<String> {
        let mut services = SERVICES.iter().filter(|(_, kind)| *kind == self);
        let (host, _) = services.next().filter(|_| services.next().is_none())?;
        Some(self.api(&format!("https://{host}")))
    }
}

impl FromStr for GitHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "github" => Ok(Self::GitHub),
            "gitlab" => Ok(Self::GitLab),
            "gitea" | "forgejo" => Ok(Self::Gitea),
            _ => Err("must be github, gitlab, gitea or forgejo".to_owned()),
        }
    }
}

/// Returns the web page of a commit, if the host of the repository is known to have one. The usual name of a company's own
/// GitLab server is enough for a link.
pub fn commit_url(repository: &str, commit: &str) -> Option<String> {
    let rest = repository.strip_prefix("https://")?.trim_end_matches('/');
    let (host, path) = rest.strip_suffix(".git").unwrap_or(rest).split_once('/')?;
    let guessed = || host.starts_with("gitlab.").then_some(GitHost::GitLab);
    let page = match GitHost::of_service(host).or_else(guessed) {
        Some(GitHost::GitHub | GitHost::Gitea) => "commit",
        Some(GitHost::GitLab) => "-/commit",
        None if host == BITBUCKET => "commits",
        None => return None,
    };
    Some(format!("https://{host}/{path}/{page}/{commit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_linked_where_the_host_has_pages_for_them() {
        for (repository, due) in [
            ("https://github.com/acme/images.git", Some("https://github.com/acme/images/commit/abc")),
            ("https://bitbucket.org/acme/images", Some("https://bitbucket.org/acme/images/commits/abc")),
            ("https://gitlab.acme.io/a/b/images", Some("https://gitlab.acme.io/a/b/images/-/commit/abc")),
            ("https://codeberg.org/acme/images/", Some("https://codeberg.org/acme/images/commit/abc")),
            ("https://git.acme.io/a/b", None),
            ("http://127.0.0.1:3000/images.git", None),
            ("/srv/images", None),
        ] {
            assert_eq!(commit_url(repository, "abc").as_deref(), due, "{repository}");
        }
    }

    #[test]
    fn only_the_name_of_a_service_identifies_its_kind() {
        assert_eq!(GitHost::of_service("gitlab.com"), Some(GitHost::GitLab));
        for other in ["gitlab.example.com", "www.github.com", "github.com.example.com", "bitbucket.org", ""] {
            assert_eq!(GitHost::of_service(other), None, "{other}");
        }
    }

    #[test]
    fn a_public_api_is_that_of_the_only_service() {
        for (kind, due) in [
            (GitHost::GitHub, Some("https://api.github.com")),
            (GitHost::GitLab, Some("https://gitlab.com/api/v4")),
            (GitHost::Gitea, None),
        ] {
            assert_eq!(kind.public_api().as_deref(), due, "{kind:?}");
        }
        assert_eq!(GitHost::GitHub.api("https://git.example.com/"), "https://git.example.com/api/v3");
        assert_eq!(GitHost::GitHub.api("https://github.com:443"), GITHUB_API);
    }
}
