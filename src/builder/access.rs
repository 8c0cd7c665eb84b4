//! Which namespaces may use which templates of the agent's own repository. Anyone who can create objects in a namespace
//! can read the files that their builds receive. The author of a manifest in Git can read the repository anyway. Pure.

use crate::api::glob::Matcher;
use crate::api::paths::{plain, prefixes};
use crate::git::templates::TemplateQuery;

/// Extensions of files. A template that is a file is delivered with its directory.
const FILE_EXTENSIONS: [&str; 2] = [".hcl", ".json"];

/// Which namespaces may use which paths of the repository.
#[derive(Debug, Default)]
pub struct TemplateAccess {
    /// The agent's own namespace; `None` if all objects come from Git.
    own: Option<String>,
    /// The rules of `--templates`: a namespace and a glob of paths.
    allowed: Vec<(String, Matcher)>,
}

impl TemplateAccess {
    /// Parses rules of the form `<namespace>=<path glob>`.
    ///
    /// # Errors
    /// A rule has another form, or its glob is not valid.
    pub fn new(own: Option<String>, rules: &[String]) -> Result<Self, String> {
        let read = |rule: &String| {
            let parts =
                rule.split_once('=').filter(|(namespace, glob)| !namespace.is_empty() && !glob.is_empty());
            let (namespace, glob) =
                parts.ok_or_else(|| format!("{rule:?} does not have the form <namespace>=<path glob>"))?;
            // A glob that names a directory includes everything in it.
            let glob = glob.trim_start_matches("./").trim_end_matches("/**").trim_end_matches('/');
            let matcher = Matcher::new(glob).map_err(|why| format!("{glob:?} is not a valid glob: {why}"))?;
            Ok((namespace.to_owned(), matcher))
        };
        rules.iter().map(read).collect::<Result<_, String>>().map(|allowed| Self { own, allowed })
    }

    /// Checks whether an object of a namespace may use the files of a query. `declared`: a document in Git declares it.
    ///
    /// # Errors
    /// States why it may not, and what to do.
    pub fn check(&self, namespace: &str, declared: bool, query: &TemplateQuery) -> Result<(), String> {
        let rules: Vec<&Matcher> =
            self.allowed.iter().filter(|(of, _)| of == namespace).map(|(_, glob)| glob).collect();
        if rules.is_empty() {
            let is_trusted = declared || self.own.as_deref().is_none_or(|own| own == namespace);
            return if is_trusted { Ok(()) } else { Err(undeclared(namespace)) };
        }
        let is_allowed = |path: &str| rules.iter().any(|glob| prefixes(path).any(|part| glob.is_match(part)));
        match paths(query).into_iter().find(|path| !is_allowed(path)) {
            None => Ok(()),
            Some(path) => Err(format!(
                "--templates does not allow namespace {namespace} to use {path:?} of the agent's repository: \
                 use a path that is allowed, or have this path added to --templates"
            )),
        }
    }
}

fn undeclared(namespace: &str) -> String {
    format!(
        "the object is not declared in Git, and its namespace {namespace} is not the agent's own: it may not \
         use templates of the agent's repository; commit its manifest, or allow paths with --templates \
         {namespace}=<path glob>"
    )
}

/// Returns the paths that a query reads, normalized. A path that leaves the repository stays as written, which no glob
/// allows.
fn paths(query: &TemplateQuery) -> Vec<String> {
    let is_file = |path: &str| FILE_EXTENSIONS.iter().any(|end| path.ends_with(end));
    let with_directory = |path: &str| match path.rsplit_once('/') {
        _ if !is_file(path) => path.to_owned(),
        Some((directory, _)) => directory.to_owned(),
        None => String::new(),
    };
    let normalized = |path: &str| plain(path).unwrap_or_else(|| path.to_owned());
    let templates = query.templates().map(|template| with_directory(&normalized(template)));
    let named = query.dir.iter().chain(&query.var_files).map(|path| normalized(path));
    let globs = query.inputs.iter().map(|glob| base(glob.trim_start_matches("./")).to_owned());
    let whole = query.whole.then(String::new);
    templates
        .chain(named)
        .chain(globs)
        .chain(whole)
        .map(|path| if path.is_empty() { ".".to_owned() } else { path })
        .collect()
}

/// Returns the directory that contains everything that a glob matches, or the glob itself if it has no special
/// characters.
fn base(glob: &str) -> &str {
    match glob.find(['*', '?', '[', '{', '\\']) {
        Some(special) => glob[..special].rsplit_once('/').map_or("", |(directory, _)| directory),
        None => glob.trim_end_matches('/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(template: &str, inputs: &[&str]) -> TemplateQuery {
        let inputs = inputs.iter().map(|glob| (*glob).to_owned()).collect();
        TemplateQuery { template: template.to_owned(), inputs, ..TemplateQuery::default() }
    }

    fn access(own: Option<&str>, rules: &[&str]) -> TemplateAccess {
        let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
        TemplateAccess::new(own.map(str::to_owned), &rules).expect("rules")
    }

    #[test]
    fn who_may_use_which_template() {
        let plain = access(Some("opsy"), &[]);
        let rules = access(Some("opsy"), &["team=packer/team", "team=shared/**", "opsy=packer/opsy"]);
        let standalone = access(None, &[]);
        let node = || query("packer/node", &[]);
        for (access, namespace, declared, query, expected) in [
            (&plain, "opsy", false, node(), true),
            (&plain, "team", true, node(), true),
            (&plain, "team", false, node(), false),
            (&standalone, "team", false, node(), true),
            (&rules, "other", true, node(), true),
            (&rules, "other", false, node(), false),
            (&rules, "team", false, query("packer/team", &[]), true),
            (&rules, "team", false, query("./packer/team/web/", &["shared/*.sh"]), true),
            (&rules, "team", false, query("packer/team/a.pkr.hcl", &[]), true),
            (&rules, "team", false, query("packer/a.pkr.hcl", &[]), false),
            (&rules, "team", true, node(), false),
            (&rules, "team", false, query("packer/team/../node", &[]), false),
            (&rules, "team", false, query("../packer/team", &[]), false),
            (&rules, "team", false, query("packer/team", &["**"]), false),
            (&rules, "team", false, query("packer/team", &["{packer/team,secret}/**"]), false),
            (&rules, "team", false, query("packer/team", &["packer/team/{a,b}/**", "packer/team/x"]), true),
            (&rules, "team", false, query(".", &["shared/x"]), false),
            (&rules, "opsy", false, node(), false),
            (&rules, "team", false, TemplateQuery { whole: true, ..query("packer/team", &[]) }, false),
            (
                &rules,
                "team",
                false,
                TemplateQuery { dir: Some("secret".into()), ..query("packer/team", &[]) },
                false,
            ),
            (
                &rules,
                "team",
                false,
                TemplateQuery { var_files: vec!["secret/a.pkrvars.hcl".into()], ..query("packer/team", &[]) },
                false,
            ),
        ] {
            let answer = access.check(namespace, declared, &query);
            assert_eq!(answer.is_ok(), expected, "{namespace} {declared} {query:?}: {answer:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_and_a_rule_that_is_none_is_refused() {
        let why = access(Some("opsy"), &[]).check("team", false, &query("a", &[])).expect_err("refused");
        assert!(why.contains("--templates team=<path glob>") && why.contains("commit its manifest"), "{why}");
        for rule in ["team", "=a", "team=", "team=["] {
            assert!(TemplateAccess::new(None, &[rule.to_owned()]).is_err(), "{rule}");
        }
    }
}
