//! Reads the templates of one repository at a commit: tags over their inputs, and files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::choice::{Choice, Own, Trouble, choose};
use super::links::{self, Files, pointer};
use super::{Resolved, TemplateError, TemplateQuery, invalid};
use crate::api::CommitId;
use crate::api::files::TemplateFile;
use crate::api::ids::digest;
use crate::git::{Blob, Handle};

/// A build's files travel whole, through memory: this is far more than templates and scripts need.
const SIZE_LIMIT: usize = 64 * 1024 * 1024;
/// Commits whose answers are remembered: branches of a repository that builders use at once.
const COMMITS: usize = 32;

/// What queries came to, by commit: reconciles ask the same again and again.
type Memo = HashMap<CommitId, HashMap<TemplateQuery, Result<String, String>>>;

/// One repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    handle: Handle,
    memo: Arc<Mutex<Memo>>,
}

impl Resolver {
    pub fn new(handle: Handle) -> Self {
        Self { handle, memo: Arc::default() }
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What the query names at a commit.
    pub async fn resolve(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
        own: &Own,
    ) -> Result<Resolved, TemplateError> {
        let known = self.memo(commit).get(commit).and_then(|known| known.get(query)).cloned();
        let resolved = match known {
            Some(known) => known,
            None => {
                let resolved = self.tag(query, commit, own).await?;
                let mut memo = self.memo(commit);
                memo.entry(commit.clone()).or_default().insert(query.clone(), resolved.clone());
                resolved
            }
        };
        let url = self.handle.options().address.url().to_owned();
        resolved.map(|tag| Resolved { commit: commit.clone(), tag, url }).map_err(invalid)
    }

    /// The files of a query, at a commit.
    pub async fn files(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
        own: &Own,
    ) -> Result<Vec<TemplateFile>, TemplateError> {
        let listing = self.handle.list(commit).await?;
        let Choice { inputs, mut beside } =
            choose(&listing, query, own).map_err(|all| invalid(first(&all)))?;
        if let Some(why) = self.pointers(&inputs).await?.first() {
            return Err(invalid(pointer(why)));
        }
        for path in self.pointers(&beside).await? {
            beside.remove(&path);
        }
        beside.extend(inputs);
        self.load(beside).await
    }

    /// The tag of a query at a commit, or why it has none.
    async fn tag(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
        own: &Own,
    ) -> Result<Result<String, String>, TemplateError> {
        let listing = self.handle.list(commit).await?;
        let inputs = match choose(&listing, query, own) {
            Ok(choice) => choice.inputs,
            Err(troubles) => return Ok(Err(first(&troubles))),
        };
        let pointers = self.pointers(&inputs).await?;
        Ok(pointers.first().map_or_else(|| Ok(tag(&inputs)), |path| Err(pointer(path))))
    }

    /// The Git LFS pointers among files.
    async fn pointers(&self, files: &Files) -> Result<Vec<String>, TemplateError> {
        let found = self.handle.pointers(files.values().map(|file| file.id.clone()).collect()).await?;
        let is_found = |file: &links::Chosen| found.contains(&file.id);
        Ok(files.iter().filter(|(_, file)| is_found(file)).map(|(path, _)| path.clone()).collect())
    }

    fn memo(&self, commit: &CommitId) -> MutexGuard<'_, Memo> {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        if memo.len() >= COMMITS && !memo.contains_key(commit) {
            memo.clear();
        }
        memo
    }

    async fn load(&self, chosen: Files) -> Result<Vec<TemplateFile>, TemplateError> {
        let sizes = self.handle.sizes(chosen.values().map(|file| file.id.clone()).collect()).await?;
        let size: usize = sizes.iter().sum();
        if size > SIZE_LIMIT {
            let largest =
                chosen.keys().zip(&sizes).max_by_key(|(_, size)| **size).map_or("", |(path, _)| path);
            return Err(invalid(format!(
                "the template's files have {size} bytes, more than {SIZE_LIMIT}; the largest is {largest}; leave out what the build does not need by .opsyignore"
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

/// What is wrong first of all.
pub(super) fn first(troubles: &[Trouble]) -> String {
    troubles.first().map(ToString::to_string).unwrap_or_default()
}

pub(super) fn tag(files: &Files) -> String {
    let mut parts = Vec::new();
    for (path, file) in files {
        parts.extend([path.as_str(), if file.executable { "x" } else { "-" }, &file.id]);
    }
    format!("v2-{}", digest(&parts))
}
