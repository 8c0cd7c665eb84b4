//! The token for a forge: where it is found, and a type that is never printed. Only variables and files contain one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::error::ForgeError;
use crate::api::git_host::GitHost;

/// Opsy's own variables, which take precedence.
const VARIABLE: &str = "OPSY_FORGE_TOKEN";
const FILE: &str = "OPSY_FORGE_TOKEN_FILE";
/// Maximum size of the file of a token. The tokens of Apps have less than 1 KiB.
const MOST: usize = 8 * 1024;

/// Where a token is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    Variable(String, Token),
    File(PathBuf),
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    secret: String,
    /// Where it was found, for messages.
    from: String,
}

/// Returns where the token for a forge is. Pure.
///
/// # Errors
/// No variable is set. The message names the variable, and which right the token needs.
pub fn find(kind: GitHost, variables: &BTreeMap<String, String>) -> Result<Source, ForgeError> {
    let get = |name: &str| variables.get(name).filter(|value| !value.trim().is_empty());
    if let Some(path) = get(FILE) {
        return Ok(Source::File(path.into()));
    }
    let is_gitea =
        ["GITEA_ACTIONS", "FORGEJO_ACTIONS"].iter().any(|name| get(name).is_some_and(|v| v == "true"));
    let names: &[&str] = match kind {
        // In Gitea Actions, it is a token for Gitea.
        GitHost::GitHub if is_gitea => &[VARIABLE],
        GitHost::GitHub => &[VARIABLE, "GITHUB_TOKEN", "GH_TOKEN"],
        GitHost::GitLab => &[VARIABLE, "GITLAB_TOKEN"],
        GitHost::Gitea if is_gitea => &[VARIABLE, "GITEA_TOKEN", "FORGEJO_TOKEN", "GITHUB_TOKEN"],
        GitHost::Gitea => &[VARIABLE, "GITEA_TOKEN", "FORGEJO_TOKEN"],
    };
    for name in names {
        if let Some(value) = get(name) {
            return Ok(Source::Variable((*name).to_owned(), Token::new(value, name)?));
        }
    }
    let how = match kind {
        GitHost::GitHub => "in a workflow, set GITHUB_TOKEN: ${{ github.token }} in the env of the step",
        GitHost::GitLab => {
            "CI_JOB_TOKEN cannot write comments, so create a project access token with the scope api and the role \
             Reporter (for the status: Developer), and add it as a masked variable"
        }
        GitHost::Gitea => "in a workflow, set GITEA_TOKEN: ${{ github.token }} in the env of the step",
    };
    Err(ForgeError::Config(format!("no token for {}: set {VARIABLE} or {FILE}; {how}", kind.name())))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name, _) => write!(f, "the token of {name}"),
            Self::File(path) => write!(f, "the token in {}", path.display()),
        }
    }
}

impl Source {
    /// It was set for Opsy, and not for the CI job.
    pub fn is_of_opsy(&self) -> bool {
        matches!(self, Self::File(_)) || matches!(self, Self::Variable(name, _) if name == VARIABLE)
    }

    /// Reads the token. A file is read each time, because tokens are replaced.
    ///
    /// # Errors
    /// The file cannot be read, or contains no token.
    pub fn read(&self) -> Result<Token, ForgeError> {
        match self {
            Self::Variable(_, token) => Ok(token.clone()),
            Self::File(path) => {
                let from = format!("{FILE} ({})", path.display());
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ForgeError::Config(format!("{from} cannot be read: {error}")))?;
                Token::new(&text, &from)
            }
        }
    }
}

impl Token {
    /// `from` says where the text was found.
    ///
    /// # Errors
    /// The text is not a token. The message does not contain it.
    pub fn new(text: &str, from: &str) -> Result<Self, ForgeError> {
        let secret = text.trim();
        let is_token =
            !secret.is_empty() && secret.len() <= MOST && secret.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token {
            let why = "it must be one word of printable ASCII characters";
            return Err(ForgeError::Config(format!("the token in {from} is not valid: {why}")));
        }
        Ok(Self { secret: secret.to_owned(), from: from.to_owned() })
    }

    /// Returns the token: for a header, never for messages.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// Returns where it was found.
    pub fn from(&self) -> &str {
        &self.from
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.from)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name, _) => write!(f, "Variable({name})"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}
