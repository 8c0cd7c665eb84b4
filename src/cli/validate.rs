//! `opsy validate PATH`: every rule the agent applies to a repository, on a folder of this machine.
//!
//! Needs no Git, AWS or cluster. Beside what the manifests say, it looks whether the templates and
//! variables files they name are there; links that lead out of the folder are not followed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use crate::agent::spec_problems;
use crate::api::Kind;
use crate::api::builder::BuilderRun;
use crate::api::ids::digest;
use crate::manifest::{Document, Form, ObjectSet, Problem, Reader, Severity, SourceFile};
use crate::settings::Output;

/// Nested folders that are looked into: no repository is deeper, and a loop of mounts ends.
const MAX_DEPTH: usize = 32;

#[derive(clap::Args)]
pub struct Args {
    /// Folder with the manifests, as the agent's --path names it.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Root of the repository, which template folders are relative to. Default: the enclosing Git
    /// work tree, and the folder itself.
    #[arg(long)]
    root: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "auto")]
    output: Output,
}

/// Prints every problem and a summary; the exit code is 1 when any of them is an error.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let set = folder(&args.path, args.root.as_deref())?;
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&as_json(&set))? + "\n",
        Output::Auto | Output::Text => as_text(&set, &args.path),
    };
    super::show(&text)?;
    Ok(if set.complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads a folder as the agent reads a commit.
pub fn folder(path: &Path, root: Option<&Path>) -> anyhow::Result<ObjectSet> {
    let told = || format!("{} cannot be read", path.display());
    let top = fs::canonicalize(path).with_context(told)?;
    let bases = match root {
        Some(root) => {
            vec![fs::canonicalize(root).with_context(|| format!("{} cannot be read", root.display()))?]
        }
        None => bases(&top),
    };
    let mut files = Files { top: &top, sources: Vec::new(), problems: Vec::new() };
    files.walk(&top, 0).with_context(told)?;
    let mut reader = Reader::new(move |document| rules(document, &bases));
    let mut set = reader.read(&files.sources);
    set.problems.extend(files.problems);
    set.problems.sort();
    Ok(set)
}

/// Where template folders may be relative to: the enclosing work tree, and the folder itself.
fn bases(top: &Path) -> Vec<PathBuf> {
    let work_tree = top.ancestors().find(|folder| folder.join(".git").exists());
    let mut bases = vec![top.to_owned()];
    bases.extend(work_tree.filter(|folder| *folder != top).map(Path::to_owned));
    bases
}

fn rules(document: &Document, bases: &[PathBuf]) -> Vec<(String, String)> {
    let mut broken = spec_problems(document);
    if document.object.kind == Kind::PackerBuilder {
        let run = serde_json::from_value::<BuilderRun>(document.json.value()["spec"]["builder"].take());
        broken.extend(run.map(|run| missing(&run, bases)).unwrap_or_default());
    }
    broken
}

/// Templates and variables files that are named and not there. Those of another repository cannot
/// be looked at from here.
fn missing(run: &BuilderRun, bases: &[PathBuf]) -> Vec<(String, String)> {
    if run.repo_url.as_deref().is_some_and(|url| !url.is_empty()) {
        return Vec::new();
    }
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let dir = set(&run.dir);
    let mut broken = Vec::new();
    let mut look = |field: String, path: &str, template: bool| {
        if let Err(words) = there(path, template, bases) {
            broken.push((field, words));
        }
    };
    let commands = run.commands.as_deref().unwrap_or_default();
    for (index, command) in commands.iter().enumerate() {
        let at = format!("spec.builder.commands[{index}]");
        if let Some(path) = set(&command.working_dir) {
            look(format!("{at}.workingDir"), &path, true);
        }
        if let Some(path) = set(&command.variables_file) {
            look(format!("{at}.variablesFile"), &path, false);
        }
    }
    let elsewhere =
        !commands.is_empty() && commands.iter().all(|command| set(&command.working_dir).is_some());
    match dir {
        Some(dir) => look("spec.builder.dir".to_owned(), &dir, true),
        None if elsewhere => {}
        None => look("spec.builder".to_owned(), ".", true),
    }
    broken
}

/// Is a template or a file there, in one of the bases and not through a link that leads out?
fn there(path: &str, template: bool, bases: &[PathBuf]) -> Result<(), String> {
    let mut why = format!("{path:?} is not there");
    for base in bases {
        let Ok(found) = fs::canonicalize(base.join(path)) else { continue };
        if !found.starts_with(base) {
            why = format!("{path:?} is a link that leads out of the repository");
        } else if !template && !found.is_file() {
            why = format!("{path:?} is not a file");
        } else if template && found.is_dir() && !has_template(&found) {
            why = format!("{path:?} holds no Packer template (*.pkr.hcl, *.pkr.json)");
        } else {
            return Ok(());
        }
    }
    Err(why)
}

fn has_template(folder: &Path) -> bool {
    let is_template = |name: &str| name.ends_with(".pkr.hcl") || name.ends_with(".pkr.json");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_template))
}

/// The YAML files of a folder.
struct Files<'a> {
    top: &'a Path,
    sources: Vec<SourceFile>,
    problems: Vec<Problem>,
}

impl Files<'_> {
    fn walk(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            self.problem(folder, "is nested too deep and not looked into", Severity::Error);
            return Ok(());
        }
        let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_symlink() {
                self.link(&path);
            } else if kind.is_dir() && entry.file_name() != ".git" {
                self.walk(&path, depth + 1)?;
            } else if kind.is_file() && is_yaml(&path) {
                let content = fs::read(&path)?;
                let blob = digest(&[&String::from_utf8_lossy(&content)]);
                self.sources.push(SourceFile { path: self.relative(&path), blob, content, form: Form::File });
            }
        }
        Ok(())
    }

    /// Git keeps a link as a link: the agent never follows one.
    fn link(&mut self, path: &Path) {
        let inside = fs::canonicalize(path).is_ok_and(|target| target.starts_with(self.top));
        if !inside {
            self.problem(path, "is a link that leads out of the folder: refused", Severity::Error);
        } else if is_yaml(path) {
            self.problem(path, "is a link: not read", Severity::Note);
        }
    }

    fn problem(&mut self, path: &Path, words: &str, severity: Severity) {
        self.problems.push(Problem {
            file: self.relative(path),
            line: None,
            message: words.to_owned(),
            severity,
        });
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(self.top).unwrap_or(path).to_string_lossy().into_owned()
    }
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn count(set: &ObjectSet, severity: Severity) -> usize {
    set.problems.iter().filter(|problem| problem.severity == severity).count()
}

fn as_text(set: &ObjectSet, path: &Path) -> String {
    let mut text = String::new();
    for problem in set.problems.iter().filter(|problem| problem.severity != Severity::Foreign) {
        let file = path.strip_prefix(".").unwrap_or(path).join(&problem.file);
        let line = problem.line.map(|line| format!("{line}:")).unwrap_or_default();
        let mark = if problem.severity == Severity::Note { "note: " } else { "" };
        text += &format!("{}:{line} {mark}{}\n", file.display(), problem.message);
    }
    let (errors, notes) = (count(set, Severity::Error), count(set, Severity::Note));
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let objects = plural(set.documents.len(), "good object");
    text + &format!("{objects}, {}, {}\n", plural(errors, "error"), plural(notes, "note"))
}

fn as_json(set: &ObjectSet) -> serde_json::Value {
    let objects = set.documents.iter().map(|document| {
        let key = &document.object.key;
        json!({
            "kind": document.object.kind,
            "namespace": key.namespace,
            "name": key.name,
            "file": document.file,
            "line": document.line,
        })
    });
    let problems = set.problems.iter().map(|problem| {
        let severity = if problem.severity == Severity::Error { "error" } else { "note" };
        json!({"file": problem.file, "line": problem.line, "severity": severity, "message": problem.message})
    });
    json!({
        "objects": objects.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
        "errors": count(set, Severity::Error),
        "notes": count(set, Severity::Note),
    })
}

#[cfg(test)]
mod tests;
