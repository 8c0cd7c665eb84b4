//! The forge of a repository: from the address that Git uses, and flags. Pure.

use super::detect::Flags;
use super::place::{Address, Place};
use crate::api::git_host::{GITHUB_API, GitHost};

/// Returns where pull requests of a repository are. `address` is an https or SSH address, without credentials.
///
/// # Errors
/// What is not known, and which flag sets it.
pub fn place_of(address: &str, flags: &Flags) -> Result<Place, String> {
    let origin = Origin::of(address);
    let known = || GitHost::of_service(&origin.as_ref()?.host);
    let kind = flags.kind.or_else(known).ok_or_else(|| {
        format!(
            "the kind of Git host of {address} is not known: set --forge to github, gitlab, gitea or forgejo"
        )
    })?;
    let api = flags.api.clone().or_else(|| origin.as_ref().map(|origin| origin.api(kind)));
    let api = api.ok_or_else(|| format!("the API of {} is not known: set --forge-api", kind.name()))?;
    let repository = flags.repository.clone().or_else(|| Some(origin?.repository));
    let repository =
        repository.ok_or("the repository on the Git host is not known: set --forge-repository")?;
    Place::new(kind, Address::parse(&api, flags.insecure_http)?, &repository)
        .map_err(|why| format!("{why} (--forge-repository)"))
}

/// Whether an API is on the host of the repository, so that the token of the repository may be sent there. The API of
/// github.com has a host of its own.
pub fn is_same_host(place: &Place, address: &str) -> bool {
    let Some(origin) = Origin::of(address) else { return false };
    let is_github = GitHost::of_service(&origin.host) == Some(GitHost::GitHub);
    (is_github && place.api.to_string() == GITHUB_API) || place.api.host() == origin.host
}

/// The parts of an address.
struct Origin {
    scheme: &'static str,
    host: String,
    /// With its port, unless that is the one of SSH.
    server: String,
    repository: String,
}

impl Origin {
    fn of(address: &str) -> Option<Self> {
        let (scheme, rest) = match address.split_once("://") {
            Some(("https", rest)) => ("https", rest.to_owned()),
            Some(("http", rest)) => ("http", rest.to_owned()),
            Some(("ssh", rest)) => ("ssh", rest.to_owned()),
            Some(_) => return None,
            // user@host:path
            None => ("ssh", address.split_once('@')?.1.replacen(':', "/", 1)),
        };
        let (server, path) = rest.split_once('/')?;
        let server = server.rsplit_once('@').map_or(server, |(_, server)| server).to_ascii_lowercase();
        let host = match server.rsplit_once(':') {
            Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host.to_owned(),
            _ => server.clone(),
        };
        let path = path.trim_matches('/');
        let repository = path.strip_suffix(".git").unwrap_or(path).to_owned();
        match scheme {
            "ssh" => Some(Self { scheme: "https", server: host.clone(), host, repository }),
            "http" => Some(Self { scheme: "http", server, host, repository }),
            _ => Some(Self { scheme: "https", server, host, repository }),
        }
    }

    fn api(&self, kind: GitHost) -> String {
        kind.api(&format!("{}://{}", self.scheme, self.server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, flags: &Flags) -> Result<String, String> {
        place_of(address, flags)
            .map(|place| format!("{} {} {}", place.kind.name(), place.api, place.repository))
    }

    #[test]
    fn the_address_of_the_repository_names_the_forge() {
        let of = |kind: Option<GitHost>| Flags { kind, ..Flags::default() };
        for (address, kind, due) in [
            ("https://github.com/a/b.git", None, "GitHub https://api.github.com a/b"),
            ("git@github.com:a/b.git", None, "GitHub https://api.github.com a/b"),
            ("ssh://git@gitlab.com/a/b/c.git", None, "GitLab https://gitlab.com/api/v4 a/b/c"),
            ("https://codeberg.org/a/b/", None, "Gitea https://codeberg.org/api/v1 a/b"),
            (
                "https://git.example.com/a/b",
                Some(GitHost::GitHub),
                "GitHub https://git.example.com/api/v3 a/b",
            ),
            (
                "ssh://git@git.example.com:2222/a/b",
                Some(GitHost::Gitea),
                "Gitea https://git.example.com/api/v1 a/b",
            ),
            (
                "https://git.example.com:8443/a/b",
                Some(GitHost::GitLab),
                "GitLab https://git.example.com:8443/api/v4 a/b",
            ),
            ("http://127.0.0.1:80/a/b", Some(GitHost::Gitea), "Gitea http://127.0.0.1:80/api/v1 a/b"),
        ] {
            let found = found(address, &of(kind)).unwrap_or_else(|why| panic!("{address}: {why}"));
            assert_eq!(found.replace(":80/", "/"), due.replace(":80/", "/"), "{address}");
        }
    }

    #[test]
    fn what_is_not_known_names_the_flag() {
        let flags = |kind| Flags { kind, ..Flags::default() };
        for (address, kind, flag) in [
            ("https://git.example.com/a/b", None, "--forge "),
            ("/srv/images.git", Some(GitHost::GitLab), "--forge-api"),
            ("https://git.example.com/a", Some(GitHost::Gitea), "--forge-repository"),
        ] {
            let why = found(address, &flags(kind)).expect_err("not known");
            assert!(why.contains(flag), "{why}");
        }
        let api = Some("https://git.example.com/api/v1".to_owned());
        let flags =
            Flags { kind: Some(GitHost::Gitea), api, repository: Some("a/b".to_owned()), ..Flags::default() };
        let due = Ok("Gitea https://git.example.com/api/v1 a/b".to_owned());
        assert_eq!(found("/srv/images.git", &flags), due);
    }

    #[test]
    fn the_token_of_the_repository_is_for_its_own_host() {
        for (address, api, due) in [
            ("https://github.com/a/b", None, true),
            ("git@github.com:a/b.git", None, true),
            ("https://github.com/a/b", Some("https://github.com.evil.example"), false),
            ("https://git.example.com/a/b", Some("https://api.github.com"), false),
            ("https://git.example.com:8443/a/b", Some("https://git.example.com/api/v1"), true),
            ("https://git.example.com/a/b", Some("https://forge.example.com/api/v1"), false),
            ("/srv/images.git", Some("https://git.example.com/api/v1"), false),
        ] {
            let (kind, repository) = (Some(GitHost::GitHub), Some("a/b".to_owned()));
            let flags = Flags { kind, api: api.map(str::to_owned), repository, ..Flags::default() };
            let place = place_of(address, &flags).expect("a place");
            assert_eq!(is_same_host(&place, address), due, "{address} {api:?}");
        }
    }

    #[test]
    fn a_token_is_not_sent_in_clear_text() {
        let flags = Flags { kind: Some(GitHost::Gitea), ..Flags::default() };
        assert!(found("http://git.example.com/a/b", &flags).is_err());
        let allowed = Flags { insecure_http: true, ..flags };
        assert!(found("http://git.example.com/a/b", &allowed).is_ok());
    }
}
