//! Reads the templates of one repository at a commit: the tags of their inputs, and their files.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use super::choice::{Choice, OpsyFiles, TemplateProblem, choose, concerns};
use super::links::{self, Files, pointer};
use super::{Resolved, TemplateError, TemplateQuery, invalid};
use crate::api::CommitId;
use crate::api::files::TemplateFile;
use crate::api::ids::digest;
use crate::api::lock::lock;
use crate::git::{Blob, Handle};

/// The maximum size of the files of a build, which are kept in memory: far more than templates and scripts need.
const SIZE_LIMIT: usize = 64 * 1024 * 1024;
/// The maximum number of commits with cached results: the number of branches of a repository that builders use.
const COMMITS: usize = 32;

/// The results of queries, by commit: every reconcile of a builder has the same query.
type Cache = HashMap<CommitId, Known>;
/// The results of queries at a commit.
type Known = HashMap<Arc<TemplateQuery>, Outcome>;

/// The result of a query.
#[derive(Clone, Debug)]
struct Outcome {
    /// The tag, or why there is none.
    tag: Result<String, String>,
    /// Only changes of the paths that the query names can change the tag.
    is_local: bool,
}

/// One repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    handle: Handle,
    cache: Arc<Mutex<Cache>>,
}

impl Resolver {
    pub fn new(handle: Handle) -> Self {
        Self { handle, cache: Arc::default() }
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Resolves a query at a commit.
    pub async fn resolve(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
        opsy_files: &OpsyFiles,
    ) -> Result<Resolved, TemplateError> {
        let outcome = self.outcome(&Arc::new(query.clone()), commit, opsy_files).await?;
        let url = self.handle.options().address.url().to_owned();
        outcome.tag.map(|tag| Resolved { commit: commit.clone(), tag, url }).map_err(invalid)
    }

    /// Returns the queries whose result at the commit `now` differs from that at `before`, or is not known at `before`.
    /// `changed` are the paths at which the commits differ; `None` means any. The results at `before` are forgotten.
    pub async fn differing(
        &self,
        queries: BTreeSet<Arc<TemplateQuery>>,
        (before, now): (&CommitId, &CommitId),
        changed: Option<&[String]>,
        opsy_files: &OpsyFiles,
    ) -> Result<BTreeSet<Arc<TemplateQuery>>, TemplateError> {
        let mut known = lock(&self.cache).remove(before).unwrap_or_default();
        let mut differing = BTreeSet::new();
        for query in queries {
            let Some(old) = known.remove(&query) else {
                differing.insert(query);
                continue;
            };
            let is_same = old.is_local && changed.is_some_and(|changed| !concerns(&query, changed));
            if is_same {
                self.cache(now).entry(now.clone()).or_default().insert(query, old);
            } else if self.outcome(&query, now, opsy_files).await?.tag != old.tag {
                differing.insert(query);
            }
        }
        Ok(differing)
    }

    async fn outcome(
        &self,
        query: &Arc<TemplateQuery>,
        commit: &CommitId,
        opsy_files: &OpsyFiles,
    ) -> Result<Outcome, TemplateError> {
        let known = lock(&self.cache).get(commit).and_then(|known| known.get(query)).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let outcome = self.evaluate(query, commit, opsy_files).await?;
        self.cache(commit).entry(commit.clone()).or_default().insert(query.clone(), outcome.clone());
        Ok(outcome)
    }

    /// Returns the files of a query, at a commit.
    pub async fn files(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
        opsy_files: &OpsyFiles,
    ) -> Result<Vec<TemplateFile>, TemplateError> {
        let listing = self.handle.list(commit).await?;
        let Choice { inputs, mut companions, .. } =
            choose(&listing, query, opsy_files).map_err(|all| invalid(first(&all)))?;
        if let Some(why) = self.pointers(&inputs).await?.first() {
            return Err(invalid(pointer(why)));
        }
        for path in self.pointers(&companions).await? {
            companions.remove(&path);
        }
        companions.extend(inputs);
        self.load(companions).await
    }

    async fn evaluate(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
        opsy_files: &OpsyFiles,
    ) -> Result<Outcome, TemplateError> {
        let listing = self.handle.list(commit).await?;
        let choice = match choose(&listing, query, opsy_files) {
            Ok(choice) => choice,
            Err(problems) => return Ok(Outcome { tag: Err(first(&problems)), is_local: false }),
        };
        let pointers = self.pointers(&choice.inputs).await?;
        let tag = pointers.first().map_or_else(|| Ok(tag(&choice.inputs)), |path| Err(pointer(path)));
        Ok(Outcome { tag, is_local: !choice.follows_links })
    }

    /// Returns the paths of the files that are Git LFS pointers.
    async fn pointers(&self, files: &Files) -> Result<Vec<String>, TemplateError> {
        let found = self.handle.pointers(files.values().map(|file| file.id.clone()).collect()).await?;
        let is_found = |file: &links::Chosen| found.contains(&file.id);
        Ok(files.iter().filter(|(_, file)| is_found(file)).map(|(path, _)| path.clone()).collect())
    }

    fn cache(&self, commit: &CommitId) -> MutexGuard<'_, Cache> {
        let mut cache = lock(&self.cache);
        if cache.len() >= COMMITS && !cache.contains_key(commit) {
            cache.clear();
        }
        cache
    }

    async fn load(&self, chosen: Files) -> Result<Vec<TemplateFile>, TemplateError> {
        let sizes = self.handle.sizes(chosen.values().map(|file| file.id.clone()).collect()).await?;
        let size: usize = sizes.iter().sum();
        if size > SIZE_LIMIT {
            let largest =
                chosen.keys().zip(&sizes).max_by_key(|(_, size)| **size).map_or("", |(path, _)| path);
            return Err(invalid(format!(
                "the files of the template have {size} bytes, more than {SIZE_LIMIT}, and the largest is {largest}; \
                 exclude files that the build does not need with .opsyignore"
            )));
        }
        let wanted = chosen.iter().map(|(path, file)| (path.clone(), file.id.clone())).collect();
        let blobs = self.handle.read(wanted).await?;
        let file = |(blob, chosen): (Blob, &links::Chosen)| TemplateFile {
            path: blob.path,
            executable: chosen.executable,
            content: blob.content,
        };
        Ok(blobs.into_iter().zip(chosen.values()).map(file).collect())
    }
}

/// Returns the first problem.
pub(super) fn first(problems: &[TemplateProblem]) -> String {
    problems.first().map(ToString::to_string).unwrap_or_default()
}

/// Returns the tag of inputs: a hash of their paths, modes and object IDs.
pub(super) fn tag(files: &Files) -> String {
    let mut parts = Vec::new();
    for (path, file) in files {
        parts.extend([path.as_str(), if file.executable { "x" } else { "-" }, &file.id]);
    }
    format!("v2-{}", digest(&parts))
}
