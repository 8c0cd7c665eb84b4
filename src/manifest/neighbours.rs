//! Recognizes files of other tools by the files around them: templates of a Helm chart and patches of a kustomization
//! mention our kinds but are not manifests. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::SourceFile;
use super::yaml::{self, Node, Value};
use crate::api::paths::{join, plain};

/// The file that makes a directory a Helm chart. The templates are below `templates/`.
const CHART: &str = "Chart.yaml";
/// The files that kustomize reads in a directory.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// The charts and kustomizations among the files of a commit.
#[derive(Debug, Default)]
pub struct Neighbours {
    charts: BTreeSet<String>,
    /// Patch files, each with the kustomization that names it.
    patches: BTreeMap<String, String>,
}

impl Neighbours {
    pub fn of(files: &[SourceFile]) -> Self {
        let mut all = Self::default();
        let mut resources = BTreeSet::new();
        for file in files {
            let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
            if name == CHART {
                all.charts.insert(folder.to_owned());
            } else if KUSTOMIZATIONS.contains(&name) {
                all.read(file, folder, &mut resources);
            }
        }
        all.patches.retain(|path, _| !resources.contains(path));
        all
    }

    /// Returns whether the content of this file says something about other files.
    pub fn describes(path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        name == CHART || KUSTOMIZATIONS.contains(&name)
    }

    fn read(&mut self, file: &SourceFile, folder: &str, resources: &mut BTreeSet<String>) {
        let content = file.content();
        let Ok(text) = str::from_utf8(&content) else { return };
        for parsed in yaml::parse(text).documents {
            let named = |field: &str| paths(parsed.root.get(field), folder);
            for field in ["patches", "patchesStrategicMerge", "patchesJson6902"] {
                self.patches.extend(named(field).into_iter().map(|path| (path, file.path.clone())));
            }
            resources.extend(named("resources"));
        }
    }

    /// Returns the chart of which a file is a template.
    pub fn chart(&self, path: &str) -> Option<&str> {
        let is_template = |chart: &&String| {
            let below = if chart.is_empty() { Some(path) } else { path.strip_prefix(chart.as_str()) };
            below.is_some_and(|below| below.trim_start_matches('/').starts_with("templates/"))
        };
        self.charts.iter().find(is_template).map(String::as_str)
    }

    /// Returns the kustomization of which a file is a patch.
    pub fn patched_by(&self, path: &str) -> Option<&str> {
        self.patches.get(path).map(String::as_str)
    }
}

/// Returns the files that a list names, from the root. An entry is a path, or a map with a `path`.
fn paths(list: Option<&Node>, folder: &str) -> Vec<String> {
    let Some(Value::List(items)) = list.map(|list| &list.value) else { return Vec::new() };
    let text = |item: &Node| item.text().or(item.get("path").and_then(Node::text)).map(str::to_owned);
    items.iter().filter_map(text).filter_map(|path| plain(&join(folder, &path))).collect()
}
