//! Reads the templates of one repository at a commit: the tags of their inputs, and their files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::choice::{Choice, OpsyFiles, TemplateProblem, choose};
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
type Cache = HashMap<CommitId, HashMap<TemplateQuery, Result<String, String>>>;

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
        let known = self.cache(commit).get(commit).and_then(|known| known.get(query)).cloned();
        let resolved = match known {
            Some(known) => known,
            None => {
                let resolved = self.tag(query, commit, opsy_files).await?;
                let mut cache = self.cache(commit);
                cache.entry(commit.clone()).or_default().insert(query.clone(), resolved.clone());
                resolved
            }
        };
        let url = self.handle.options().address.url().to_owned();
        resolved.map(|tag| Resolved { commit: commit.clone(), tag, url }).map_err(invalid)
    }

    /// Returns the files of a query, at a commit.
    pub async fn files(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
        opsy_files: &OpsyFiles,
    ) -> Result<Vec<TemplateFile>, TemplateError> {
        let listing = self.handle.list(commit).await?;
        let Choice { inputs, mut companions } =
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

    /// Returns the tag of a query at a commit, or why it has none.
    async fn tag(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
        opsy_files: &OpsyFiles,
    ) -> Result<Result<String, String>, TemplateError> {
        let listing = self.handle.list(commit).await?;
        let inputs = match choose(&listing, query, opsy_files) {
            Ok(choice) => choice.inputs,
            Err(problems) => return Ok(Err(first(&problems))),
        };
        let pointers = self.pointers(&inputs).await?;
        Ok(pointers.first().map_or_else(|| Ok(tag(&inputs)), |path| Err(pointer(path))))
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
