//! Whose objects may have templates of the agent's own repository. Whoever writes objects into a namespace reads what
//! their builds get; a document in Git shows that its writer reads the repository anyway. Pure.

use crate::api::glob::Matcher;
use crate::git::templates::TemplateQuery;
use crate::git::tree::{plain, prefixes};

/// Names that end like this are files; a template that is a file is laid out with its folder.
const FILES: [&str; 2] = [".hcl", ".json"];

/// Which namespaces may use which paths of the repository.
#[derive(Debug, Default)]
pub struct TemplateAccess {
    /// The agent's own namespace; none where all objects come from Git.
    own: Option<String>,
    /// What `--templates` allows: a namespace and paths.
    allowed: Vec<(String, Matcher)>,
}

impl TemplateAccess {
    /// Reads `<namespace>=<path glob>` rules.
    ///
    /// # Errors
    /// A rule is none, or its glob is not valid.
    pub fn new(own: Option<String>, rules: &[String]) -> Result<Self, String> {
        let read = |rule: &String| {
            let parts =
                rule.split_once('=').filter(|(namespace, glob)| !namespace.is_empty() && !glob.is_empty());
            let (namespace, glob) =
                parts.ok_or_else(|| format!("{rule:?} is not <namespace>=<path glob>"))?;
            // A glob that names a folder means everything in it.
            let glob = glob.trim_start_matches("./").trim_end_matches("/**").trim_end_matches('/');
            let matcher = Matcher::new(glob).map_err(|why| format!("{glob:?} is not a valid glob: {why}"))?;
            Ok((namespace.to_owned(), matcher))
        };
        rules.iter().map(read).collect::<Result<_, String>>().map(|allowed| Self { own, allowed })
    }

    /// May an object of a namespace have what it asks for? `declared` is one that a document in Git declares.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check(&self, namespace: &str, declared: bool, query: &TemplateQuery) -> Result<(), String> {
        let rules: Vec<&Matcher> =
            self.allowed.iter().filter(|(of, _)| of == namespace).map(|(_, glob)| glob).collect();
        if rules.is_empty() {
            let is_trusted = declared || self.own.as_deref().is_none_or(|own| own == namespace);
            return if is_trusted { Ok(()) } else { Err(foreign(namespace)) };
        }
        let is_allowed = |path: &str| rules.iter().any(|glob| prefixes(path).any(|part| glob.is_match(part)));
        match paths(query).into_iter().find(|path| !is_allowed(path)) {
            None => Ok(()),
            Some(path) => Err(format!(
                "--templates does not allow {path:?} of the agent's repository to namespace {namespace}: use a path that \
                 it allows, or have the path added to it"
            )),
        }
    }
}

fn foreign(namespace: &str) -> String {
    format!(
        "the object is not declared in Git, and its namespace {namespace} is not the agent's own: it may not use templates \
         of the agent's repository; commit its manifest, or allow paths by --templates {namespace}=<path glob>"
    )
}

/// What a query reads, in plain form; a path that leaves the repository is as it was written, which no glob allows.
fn paths(query: &TemplateQuery) -> Vec<String> {
    let is_file = |path: &str| FILES.iter().any(|end| path.ends_with(end));
    let with_folder = |path: &str| match path.rsplit_once('/') {
        _ if !is_file(path) => path.to_owned(),
        Some((folder, _)) => folder.to_owned(),
        None => String::new(),
    };
    let placed = |path: &str| plain(path).unwrap_or_else(|| path.to_owned());
    let templates = query.templates().map(|template| with_folder(&placed(template)));
    let named = query.dir.iter().chain(&query.var_files).map(|path| placed(path));
    let globs = query.inputs.iter().map(|glob| base(glob.trim_start_matches("./")).to_owned());
    let whole = query.whole.then(String::new);
    templates
        .chain(named)
        .chain(globs)
        .chain(whole)
        .map(|path| if path.is_empty() { ".".to_owned() } else { path })
        .collect()
}

/// The folder that everything a glob matches is in; the glob itself where it has nothing special.
fn base(glob: &str) -> &str {
    match glob.find(['*', '?', '[', '{', '\\']) {
        Some(special) => glob[..special].rsplit_once('/').map_or("", |(folder, _)| folder),
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
