//! `opsy validate [FILE | DIR | -]…`: checks local files by the same rules as the agent.
//!
//! Needs no access to AWS or a cluster, and to a Git server only with `--fetch`. Files are listed as a commit would
//! list them. Templates are also checked for files that would be missing in a build.

mod fetch;
mod found;
mod lines;
mod place;
mod print;
mod sarif;
mod setters;
mod snippet;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::agent::spec_problems;
use crate::api::{Kind, PackerBuilder};
use crate::builder::advice;
use crate::git::templates::choice::OpsyFiles;
use crate::git::worktree::WorkTree;
use crate::manifest::{Document, Form, OBJECT_LIMIT, Problem, Reader, Severity};
use crate::settings::RepoSettings;
use crate::sync::input::{Content, FILE_LIMIT, Picked, check_sum, ignore_problems, pick, source};
use crate::telemetry::out;
use fetch::Fetch;
use found::Found;
use lines::Lines;

/// The name of standard input in messages, and the file name for the reader, which needs a known extension.
const STDIN: (&str, &str) = ("stdin", "stdin.yaml");

#[derive(clap::Args)]
pub struct Args {
    /// Check these directories (each as the --path of an agent) and manifest files; - reads standard input
    #[arg(default_value = ".", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Resolve template directories relative to this root of the repository; default: the enclosing Git work tree, and
    /// the directory itself
    #[arg(long)]
    root: Option<PathBuf>,
    /// Fetch the template repositories that builders name, and check that branch, directory and files exist. Secrets
    /// are read as by a standalone `opsy run`
    #[arg(long)]
    fetch: bool,
    #[command(flatten)]
    fetching: fetch::Flags,
    /// Also list the YAML files of other tools
    #[arg(long, short)]
    verbose: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "auto")]
    output: Format,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// On a terminal, each problem with its line of the file; elsewhere, text
    Auto,
    /// One line for each problem
    Text,
    /// JSON for machines
    Json,
    /// SARIF 2.1.0 for code scanning
    Sarif,
}

/// Prints every problem and a summary. The exit code is 1 if any problem is an error.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let fetch = args.fetch.then(|| Fetch::start(&args.fetching)).transpose()?;
    let listed = Listed { fetch: fetch.map(Arc::new), ..Listed::default() };
    let set = read_all(&args.paths, args.root.as_deref(), io::stdin(), &listed)?;
    let lines = Lines::default();
    let document =
        |document| Ok::<_, anyhow::Error>(out::document(&serde_json::to_string_pretty(&document)?)?);
    match args.output {
        Format::Json => document(print::json(&set))?,
        Format::Sarif => document(sarif::document(&set, &|file, number| lines.get(file, number)))?,
        Format::Auto if io::stdout().is_terminal() => {
            out::lines(&print::snippets(&set, args.verbose, &|file, number| lines.get(file, number)))?
        }
        Format::Auto | Format::Text => out::lines(&print::text(&set, args.verbose))?,
    };
    Ok(if set.count(Severity::Error) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads several paths, each by itself: two directories can belong to two agents that declare the same objects. File
/// names in the result start with the path that the user gave.
fn read_all(
    paths: &[PathBuf],
    root: Option<&Path>,
    mut input: impl Read,
    listed: &Listed,
) -> anyhow::Result<Found> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        bail!("standard input can be read only once: name - once");
    }
    let mut all = Found::default();
    for path in paths {
        let set = read(path, root, &mut input, listed)?;
        let name = |file: &str| shown(path, file).display().to_string();
        let problems = set.problems.into_iter();
        all.problems.extend(problems.map(|problem| Problem { file: name(&problem.file), ..problem }));
        let documents = set.documents.into_iter();
        all.documents.extend(documents.map(|document| Document { file: name(&document.file), ..document }));
    }
    if paths.len() > 1 {
        merge(&mut all);
    }
    Ok(all)
}

/// Removes duplicates: a file can be named by a path and also be in a directory that is named.
fn merge(set: &mut Found) {
    let place = |file: &str| fs::canonicalize(file).unwrap_or_else(|_| PathBuf::from(file));
    let (mut problems, mut documents) = (BTreeSet::new(), BTreeSet::new());
    set.problems
        .retain(|problem| problems.insert((place(&problem.file), problem.line, problem.message.clone())));
    set.documents
        .retain(|document| documents.insert((place(&document.file), document.line, document.object.clone())));
    set.problems.sort();
}

/// The files that were listed so far, and the fetched repositories.
#[derive(Default)]
struct Listed {
    /// Listed folders, as a cache: many files have the same repository root.
    folders: RefCell<BTreeMap<PathBuf, Arc<WorkTree>>>,
    /// Template repositories, with `--fetch`.
    fetch: Option<Arc<Fetch>>,
}

impl Listed {
    fn list(&self, folder: &Path) -> anyhow::Result<Arc<WorkTree>> {
        if let Some(tree) = self.folders.borrow().get(folder) {
            return Ok(tree.clone());
        }
        let tree = WorkTree::list(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        let tree = Arc::new(tree);
        self.folders.borrow_mut().insert(folder.to_owned(), tree.clone());
        Ok(tree)
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Reads a path as the agent reads a commit.
fn read(path: &Path, root: Option<&Path>, input: impl Read, listed: &Listed) -> anyhow::Result<Found> {
    if is_stdin(path) {
        return stdin(root, input, listed);
    }
    let top = canonical(path)?;
    if top.is_dir() { folder(&top, root, listed) } else { file(&top, root, listed) }
}

fn canonical(path: &Path) -> anyhow::Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Reads a folder.
fn folder(top: &Path, root: Option<&Path>, listed: &Listed) -> anyhow::Result<Found> {
    let trees = Trees::of(top, root, listed)?;
    let listing = &trees.first().listing;
    let mut sources = Vec::new();
    let refused = |why: String| anyhow::anyhow!("{} {why}", top.display());
    let mut sizes = Vec::new();
    for picked in pick(listing, &trees.path).map_err(refused)? {
        let content = content(trees.first(), &picked);
        let content = content.with_context(|| format!("{} cannot be read", picked.path))?;
        if let Content::Readable(content) = &content {
            sizes.push(content.at_hand());
        }
        sources.push(source(picked, content));
    }
    check_sum(sizes.into_iter()).map_err(refused)?;
    let mut problems = ignore_problems(listing);
    let mut set = trees.reader().read(&sources);
    if set.too_many_objects {
        bail!("{} declares more than {OBJECT_LIMIT} objects", top.display());
    }
    problems.extend(setters::problems(&set, trees.first(), &trees.path));
    set.problems.append(&mut problems);
    set.problems.sort();
    Ok(set.into())
}

/// Reads the content of a file, within the limits of the agent.
fn content(tree: &WorkTree, picked: &Picked) -> io::Result<Content> {
    if matches!(picked.form, Form::Unknown(_)) {
        return Ok(Content::Unread);
    }
    let size = usize::try_from(tree.size(&picked.id)?).unwrap_or(usize::MAX);
    if size > FILE_LIMIT { Ok(Content::TooLarge) } else { tree.read(&picked.id).map(Content::of) }
}

/// Reads one file.
fn file(path: &Path, root: Option<&Path>, listed: &Listed) -> anyhow::Result<Found> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        bail!("{} is not a file with a UTF-8 name; name a file or a directory", path.display());
    };
    if !(name.ends_with(".yaml") || name.ends_with(".yml")) {
        bail!("{} is not a manifest: its name must end in .yaml or .yml", path.display());
    }
    let content = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    alone(name, content, (folder, root), listed)
}

fn stdin(root: Option<&Path>, mut input: impl Read, listed: &Listed) -> anyhow::Result<Found> {
    let mut content = Vec::new();
    input.read_to_end(&mut content).context("standard input cannot be read")?;
    let mut set = alone(STDIN.1, content, (&canonical(Path::new("."))?, root), listed)?;
    for problem in &mut set.problems {
        STDIN.0.clone_into(&mut problem.file);
    }
    for document in &mut set.documents {
        STDIN.0.clone_into(&mut document.file);
    }
    Ok(set)
}

/// Reads the content of one manifest. The other files of its folder are used only as templates.
fn alone(
    name: &str,
    content: Vec<u8>,
    (folder, root): (&Path, Option<&Path>),
    listed: &Listed,
) -> anyhow::Result<Found> {
    let picked = Picked { path: name.to_owned(), id: String::new(), form: Form::File };
    let content = match content.len() {
        size if size > FILE_LIMIT => Content::TooLarge,
        _ => Content::of(content),
    };
    let mut set = Trees::of(folder, root, listed)?.reader().read(&[source(picked, content)]);
    set.problems.sort();
    Ok(set.into())
}

/// The trees that template paths can be relative to: the root of the repository and, by default, the folder itself.
struct Trees {
    trees: Vec<Arc<WorkTree>>,
    /// The folder that is read, relative to the root of the first tree.
    path: String,
    fetch: Option<Arc<Fetch>>,
}

impl Trees {
    fn of(top: &Path, root: Option<&Path>, listed: &Listed) -> anyhow::Result<Self> {
        let list = |folder: &Path| listed.list(folder);
        let around = match root {
            Some(root) => Some(canonical(root)?),
            None => top.ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned),
        };
        let above = around.filter(|around| around != top);
        let within = |above: &PathBuf| top.strip_prefix(above).ok().and_then(Path::to_str);
        let (trees, path) = match above.as_ref().map(|above| (above, within(above))) {
            None => (vec![list(top)?], ""),
            Some((above, None)) => (vec![list(top)?, list(above)?], ""),
            // The folder is in a work tree, but template paths can still be relative to the folder.
            Some((above, Some(path))) if root.is_none() => (vec![list(above)?, list(top)?], path),
            Some((above, Some(path))) => (vec![list(above)?], path),
        };
        Ok(Self { trees, path: path.to_owned(), fetch: listed.fetch.clone() })
    }

    fn first(&self) -> &WorkTree {
        &self.trees[0]
    }

    /// Returns a reader that also applies the rules of the reconcilers and checks the templates.
    fn reader(&self) -> Reader {
        let (errors, notes) = (self.trees.clone(), self.trees.clone());
        let (here, here_too) = (Arc::clone(&self.trees[0]), Arc::clone(&self.trees[0]));
        let (fetch, fetched) = (self.fetch.clone(), self.fetch.clone());
        let is_status = RepoSettings::default().status_path().to_owned();
        let opsy_files = Arc::new(OpsyFiles { status: is_status, ..OpsyFiles::default() });
        let opsy_files_too = Arc::clone(&opsy_files);
        Reader::with_notes(
            move |document| {
                let mut found = spec_problems(document);
                let missing =
                    builder(document, &here).map(|builder| match (&fetch, advice::source(&builder)) {
                        (Some(fetch), Some(query)) => fetch.problems(&builder, &query, &document.object.key),
                        _ => missing(&builder, &errors, &opsy_files),
                    });
                found.extend(missing.unwrap_or_default());
                found
            },
            move |document| {
                let found = builder(document, &here_too).map(|builder| {
                    if let (Some(fetch), Some(query)) = (&fetched, advice::source(&builder)) {
                        return fetch.notes(&builder, &query, &document.object.key);
                    }
                    let fits = |tree: &&Arc<WorkTree>| {
                        with_repository(tree, &opsy_files_too, |it| advice::problems(&builder, it)).is_empty()
                    };
                    let tree = notes.iter().find(fits).unwrap_or(&notes[0]);
                    with_repository(tree, &opsy_files_too, |it| advice::notes(&builder, it))
                });
                found.unwrap_or_default()
            },
        )
    }
}

/// Returns the builder of a document. The address of the repository itself means the same as none.
fn builder(document: &Document, tree: &WorkTree) -> Option<PackerBuilder> {
    let is_one = document.object.kind == Kind::PackerBuilder;
    let mut builder: PackerBuilder = is_one.then(|| serde_json::from_value(document.json.value()).ok())??;
    if let Some(run) = &mut builder.spec.builder {
        run.repo_url = run.repo_url.take().filter(|url| !tree.is_clone_of(url));
    }
    Some(builder)
}

/// Returns the problems of a builder's files in the first tree, or none if another tree has all of its files.
fn missing(
    builder: &PackerBuilder,
    trees: &[Arc<WorkTree>],
    opsy_files: &OpsyFiles,
) -> Vec<(String, String)> {
    let mut found =
        trees.iter().map(|tree| with_repository(tree, opsy_files, |it| advice::problems(builder, it)));
    let first = found.next().unwrap_or_default();
    if first.is_empty() || found.any(|others| others.is_empty()) { Vec::new() } else { first }
}

fn with_repository<T>(
    tree: &WorkTree,
    opsy_files: &OpsyFiles,
    ask: impl Fn(&advice::Repository<'_>) -> T,
) -> T {
    let text = |id: &str| tree.read(id).ok().map(|content| String::from_utf8_lossy(&content).into_owned());
    ask(&advice::Repository { listing: &tree.listing, opsy_files, is_source: false, text: &text })
}

/// A file name that starts with the path that the user gave.
fn shown(path: &Path, file: &str) -> PathBuf {
    if is_stdin(path) {
        return PathBuf::from(file);
    }
    let path = path.strip_prefix(".").unwrap_or(path);
    if path.is_file() { path.to_owned() } else { path.join(file) }
}

#[cfg(test)]
mod tests;
