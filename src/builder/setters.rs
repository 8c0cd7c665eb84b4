//! Whether a setter may edit a file: never one whose change makes a builder build again, because each image would then
//! cause the next build. Pure.

use std::collections::HashMap;

use super::spec;
use crate::api::paths::{is_within, join};
use crate::api::{Kind, ObjectKey, PackerBuilder};
use crate::git::templates::TemplateQuery;
use crate::git::templates::choice::concerns;
use crate::manifest::{ObjectSet, SETTINGS_FILE};

/// The files of a commit that builders depend on.
#[derive(Clone, Debug, Default)]
pub struct SetterGuard {
    settings: String,
    /// The directory of the status files.
    status: String,
    /// The files from the root that are manifests, with a builder that they declare, if there is one.
    manifests: HashMap<String, Option<ObjectKey>>,
    /// What builders read from the repository.
    templates: Vec<(ObjectKey, TemplateQuery)>,
}

impl SetterGuard {
    /// `path` is the path that Opsy reads. `is_own` returns whether an address is that of the repository itself.
    pub fn new(set: &ObjectSet, path: &str, is_own: impl Fn(&str) -> bool) -> Self {
        let mut manifests: HashMap<_, _> =
            set.own_files.iter().map(|file| (join(path, file), None)).collect();
        let mut templates = Vec::new();
        let builders = set.documents.iter().filter(|document| document.object.kind == Kind::PackerBuilder);
        for document in builders {
            manifests.insert(join(path, &document.file), Some(document.object.clone()));
            let builder = serde_json::from_value::<PackerBuilder>(document.json.value());
            let spec = builder.ok().and_then(|builder| spec::parse_in(&builder, &is_own).ok());
            if let Some(template) = spec.map(|spec| spec.template).filter(is_in_repository) {
                templates.push((document.object.clone(), template));
            }
        }
        let status = join(path, set.settings.status_path());
        Self { settings: join(path, SETTINGS_FILE), status, manifests, templates }
    }

    /// Returns why a file must not be edited. The path is relative to the root. A file that `.opsyignore` excludes is
    /// neither a manifest nor an input.
    pub fn refusal(&self, file: &str, is_ignored: bool) -> Option<String> {
        if is_within(file, &self.status) {
            return Some("is in the status directory, which only Opsy writes: remove the marker".to_owned());
        }
        if is_ignored {
            return None;
        }
        if file == self.settings {
            return Some(
                "is the file with the settings, which setters do not edit: remove the marker".to_owned(),
            );
        }
        match self.manifests.get(file) {
            Some(Some(builder)) => {
                return Some(format!(
                    "declares {builder}, and an image must not change the manifest of a builder: remove the marker"
                ));
            }
            Some(None) => return None,
            None => {}
        }
        let changed = [file.to_owned()];
        let (builder, _) = self.templates.iter().find(|(_, template)| concerns(template, &changed))?;
        Some(format!(
            "is an input of {builder}, so that a new image would cause another build: move it out of the directory of \
             the template, list the inputs in spec.builder.inputs, or add the file to .opsyignore"
        ))
    }
}

fn is_in_repository(template: &TemplateQuery) -> bool {
    template.source.as_ref().is_none_or(|source| source.repository.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Form, Reader, SourceFile};

    const BUILDER: &str = "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {name: web}\n\
                           spec: {region: us-east-1, builder: {dir: packer/web, commands: [{subCommand: build, \
                           variablesFile: vars/web.pkrvars.hcl}]}}\n";
    const REFRESHER: &str = "apiVersion: ami.opsy.dev/v1alpha1\nkind: AMIRefresher\nmetadata: {name: web}\n\
                             spec: {region: us-east-1, clusterName: demo, ami: ami-0123456789abcdef0}\n";

    fn guard(builder: &str) -> SetterGuard {
        let file = |path: &str, text: &str| SourceFile {
            path: path.to_owned(),
            blob: path.to_owned(),
            content: text.as_bytes().to_vec().into(),
            form: Form::File,
        };
        let files =
            [file("opsy.yaml", "agentID: a\n"), file("web.yaml", builder), file("nodes.yaml", REFRESHER)];
        let set = Reader::default().read(&files);
        assert!(set.complete() && set.documents.len() == 2, "{:?}", set.problems);
        SetterGuard::new(&set, "images", |_| false)
    }

    #[test]
    fn what_causes_a_build_is_not_edited() {
        let guard = guard(BUILDER);
        for (file, due) in [
            ("images/opsy.yaml", "is the file with the settings"),
            ("images/status/x.yaml", "is in the status directory"),
            ("images/web.yaml", "declares PackerBuilder/default/web"),
            ("packer/web/web.auto.pkrvars.hcl", "is an input of PackerBuilder/default/web"),
            ("vars/web.pkrvars.hcl", "is an input of PackerBuilder/default/web"),
        ] {
            let why = guard.refusal(file, false).unwrap_or_default();
            assert!(why.starts_with(due), "{file}: {why}");
        }
        for file in ["images/nodes.yaml", "infra/prod.tfvars", "packer/website/x.tfvars", "web.yaml"] {
            assert_eq!(guard.refusal(file, false), None, "{file}");
        }
    }

    #[test]
    fn a_template_at_the_root_makes_every_other_file_an_input() {
        let guard = guard(&BUILDER.replace("packer/web", "."));
        assert!(guard.refusal("infra/prod.tfvars", false).is_some());
        assert_eq!(guard.refusal("infra/prod.tfvars", true), None, "it is ignored");
        assert!(guard.refusal("images/status/x.yaml", true).is_some(), "also in an ignored status directory");
        assert_eq!(guard.refusal("images/nodes.yaml", false), None, "manifests are never inputs");
        let elsewhere = BUILDER.replace("dir: packer/web", "repoURL: https://example.com/a/b, dir: infra");
        assert_eq!(
            self::guard(&elsewhere).refusal("infra/prod.tfvars", false),
            None,
            "it is another repository"
        );
    }
}
