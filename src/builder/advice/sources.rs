//! The images that the amazon sources of a template may make, by a simple scan of its text: several images for one
//! lane, or none after the old one is deregistered. Pure.

use serde_json::Value;

use super::Problem;
use crate::builder::spec::Spec;

/// The effect of `-force` and `force_deregister`.
pub const FORCE: &str = "lets Packer deregister the image with that name before a new one exists: if the \
                         build then fails, there is no active image, and node groups that use it cannot \
                         start nodes; use {{timestamp}} in ami_name instead";

/// A source of machine images.
#[derive(Debug)]
struct Source {
    name: String,
    is_arm: bool,
}

/// Returns what a user should know about the sources of a template.
pub fn notes(spec: &Spec, texts: &[(String, String)]) -> Vec<Problem> {
    let mut notes = Vec::new();
    for (path, text) in texts {
        let compact: String = text.chars().filter(|c| !c.is_whitespace() && *c != '"').collect();
        if compact.contains("force_deregister=true") || compact.contains("force_deregister:true") {
            notes.push(("spec.builder".to_owned(), format!("force_deregister in {path} {FORCE}")));
        }
    }
    let sources: Vec<Source> = texts.iter().flat_map(|(path, text)| sources(path, text)).collect();
    let is_chosen = spec.commands.iter().flat_map(|command| &command.args).any(|arg| is_choice(arg));
    let lanes = [true, false].map(|arm| sources.iter().filter(move |source| source.is_arm == arm));
    for names in lanes.map(|lane| lane.map(|source| source.name.as_str()).collect::<Vec<_>>()) {
        if names.len() > 1 && !is_chosen {
            let words = format!(
                "the template has several sources, possibly for one region and architecture ({}): if a build \
                 makes several images for one, none is promoted; choose a source with -only={} in args",
                names.join(", "),
                names[0]
            );
            notes.push(("spec.builder".to_owned(), words));
        }
    }
    notes
}

fn is_choice(arg: &str) -> bool {
    let flag = arg.trim_start_matches('-').split('=').next().unwrap_or_default();
    arg.starts_with('-') && matches!(flag, "only" | "except")
}

fn sources(path: &str, text: &str) -> Vec<Source> {
    if path.ends_with(".json") { of_json(text) } else { of_hcl(text) }
}

/// Returns the blocks that begin with `source "amazon-…" "name"`.
fn of_hcl(text: &str) -> Vec<Source> {
    let mut found: Vec<Source> = Vec::new();
    let (mut depth, mut inside) = (0_usize, false);
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split('"').collect();
        if depth == 0 && words[0].trim() == "source" && words.len() > 3 {
            inside = words[1].starts_with("amazon-");
            if inside {
                found.push(Source { name: format!("{}.{}", words[1], words[3]), is_arm: false });
            }
        }
        if let Some(source) = found.last_mut().filter(|_| inside) {
            source.is_arm |= is_arm(line);
        }
        depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
        inside &= depth > 0;
    }
    found
}

/// Returns the builders of a legacy template, or the sources of an HCL template in JSON.
fn of_json(text: &str) -> Vec<Source> {
    let template: Value = serde_json::from_str(text).unwrap_or_default();
    let builders = template["builders"].as_array().into_iter().flatten().filter_map(|builder| {
        let kind = builder["type"].as_str().filter(|kind| kind.starts_with("amazon-"))?;
        let name = builder["name"].as_str().unwrap_or(kind);
        Some(Source { name: name.to_owned(), is_arm: is_arm(&builder.to_string()) })
    });
    let kinds =
        template["source"].as_object().into_iter().flatten().filter(|(kind, _)| kind.starts_with("amazon-"));
    let blocks = kinds.flat_map(|(kind, blocks)| {
        blocks.as_object().into_iter().flatten().map(move |(name, block)| Source {
            name: format!("{kind}.{name}"),
            is_arm: is_arm(&block.to_string()),
        })
    });
    builders.chain(blocks).collect()
}

/// Returns whether a text names arm64, or an instance type of that architecture.
fn is_arm(text: &str) -> bool {
    text.contains("arm64") || text.contains("aarch64") || text.split('"').any(is_arm_type)
}

/// Returns whether an instance type has a Graviton processor: a `g` after the generation, as in `m6g.large`,
/// `c7gd.xlarge`.
fn is_arm_type(text: &str) -> bool {
    let Some((family, _)) = text.split_once('.') else { return false };
    let generation = family.trim_start_matches(|c: char| c.is_ascii_lowercase());
    let processor = generation.trim_start_matches(|c: char| c.is_ascii_digit());
    generation.len() < family.len() && processor.len() < generation.len() && processor.starts_with('g')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str, text: &str) -> Vec<(String, bool)> {
        sources(path, text).into_iter().map(|source| (source.name, source.is_arm)).collect()
    }

    #[test]
    fn sources_and_their_architectures() {
        let hcl = "source \"amazon-ebs\" \"std\" {\n  instance_type = \"g5.xlarge\"\n  tags = {\n  }\n}\n\
                   source \"amazon-ebs\" \"arm\" {\n  instance_type = \"m6g.large\"\n}\n\
                   source \"azure-arm\" \"std\" {\n  image = \"arm64\"\n}\nbuild {\n  sources = [\"source.amazon-ebs.std\"]\n}\n";
        let found = [("amazon-ebs.std", false), ("amazon-ebs.arm", true)];
        assert_eq!(names("a.pkr.hcl", hcl), found.map(|(name, arm)| (name.to_owned(), arm)));
        let json = r#"{"builders": [{"type": "amazon-ebs", "name": "a"}, {"type": "docker"}, {"type": "amazon-ebs"}]}"#;
        let found = [("a", false), ("amazon-ebs", false)];
        assert_eq!(names("a.json", json), found.map(|(name, arm)| (name.to_owned(), arm)));
        assert_eq!(names("a.json", "not JSON"), []);
    }
}
