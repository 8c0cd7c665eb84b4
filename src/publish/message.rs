//! The commit message of a batch. Pure. The subject says what happened, the body lists the objects if there are
//! several, and trailers name resources, images and builds for `git log --grep` and `git interpret-trailers`.

use std::collections::HashSet;

use super::Rendered;
use crate::api::text::one_line;
use crate::git::proposal_branch::{Maker, OWNER_TRAILER, SOURCE_TRAILER};

/// Maximum length of a subject: longer ones are cut, as most tools would.
const SUBJECT_LIMIT: usize = 100;
/// Maximum number of objects that a body lists.
const BODY_LINES: usize = 50;

/// The message for the files that differ. The last trailers name the agent, if it is given.
pub(super) fn compose(changed: &[&Rendered], suffix: Option<&str>, maker: Option<&Maker>) -> String {
    let mut message = title(changed);
    if let Some(suffix) = suffix.map(one_line).filter(|suffix| !suffix.is_empty()) {
        message = format!("{message} {suffix}");
    }
    let of = |Maker { owner, source, .. }: &Maker| {
        [format!("{SOURCE_TRAILER}: {source}"), format!("{OWNER_TRAILER}: {owner}")]
    };
    let trailers = trailers(changed).into_iter().chain(maker.into_iter().flat_map(of)).collect();
    for part in [body(changed), trailers].iter().filter(|part| !part.is_empty()) {
        message.push_str("\n\n");
        message.push_str(&part.join("\n"));
    }
    message + "\n"
}

/// The subject, within its maximum length.
pub(super) fn title(changed: &[&Rendered]) -> String {
    let subject = one_line(&subject(changed));
    match subject.chars().count() > SUBJECT_LIMIT {
        true => subject.chars().take(SUBJECT_LIMIT - 1).chain(['…']).collect(),
        false => subject,
    }
}

fn subject(changed: &[&Rendered]) -> String {
    let objects: Vec<_> = changed.iter().filter(|file| file.resource.is_some()).collect();
    let summaries: Vec<_> = objects.iter().filter_map(|file| file.summary.as_deref()).collect();
    match (summaries.as_slice(), objects.as_slice(), changed) {
        ([only], ..) => format!("opsy: {only}"),
        (_, [], [Rendered { summary: Some(summary), .. }]) => format!("opsy: {summary}"),
        (_, [], [file]) => format!("opsy: update {}", file.path),
        (_, [], _) => format!("opsy: update {} files", changed.len()),
        (_, [file], _) => {
            format!("opsy: update status of {}", file.resource.as_deref().unwrap_or(&file.path))
        }
        (_, objects, _) => format!("opsy: update status of {} objects", objects.len()),
    }
}

/// One line per object, if there are several.
fn body(changed: &[&Rendered]) -> Vec<String> {
    let objects: Vec<_> = changed.iter().filter(|file| file.resource.is_some()).collect();
    if objects.len() < 2 {
        return Vec::new();
    }
    let line = |file: &&&Rendered| {
        let resource = file.resource.as_deref().unwrap_or_default();
        match &file.summary {
            Some(summary) => one_line(&format!("- {resource}: {summary}")),
            None => one_line(&format!("- {resource}")),
        }
    };
    let mut lines: Vec<_> = objects.iter().take(BODY_LINES).map(line).collect();
    if objects.len() > BODY_LINES {
        lines.push(format!("- and {} more", objects.len() - BODY_LINES));
    }
    lines
}

fn trailers(changed: &[&Rendered]) -> Vec<String> {
    let (mut lines, mut known) = (Vec::new(), HashSet::new());
    for file in changed {
        let resource = file.resource.iter().map(|resource| ("Opsy-Resource", resource.as_str()));
        let further = file.trailers.iter().map(|(key, value)| (*key, value.as_str()));
        for (key, value) in resource.chain(further) {
            let line = one_line(&format!("{key}: {value}"));
            if known.insert(line.clone()) {
                lines.push(line);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Owner;
    use crate::git::commit::{Author, Edit};

    fn file(resource: &str, summary: Option<&str>, trailers: &[(&'static str, &str)]) -> Rendered {
        Rendered {
            path: format!("{resource}.yaml"),
            edit: Edit::Remove,
            resource: Some(resource.to_owned()),
            summary: summary.map(str::to_owned),
            trailers: trailers.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
            version: None,
        }
    }

    fn amis() -> Rendered {
        let path = "amis.json".to_owned();
        Rendered {
            path,
            edit: Edit::Remove,
            resource: None,
            summary: None,
            trailers: Vec::new(),
            version: None,
        }
    }

    #[test]
    fn one_build() {
        let built = file(
            "PackerBuilder/default/eks-node",
            Some("eks-node built ami-0123456789abcdef0"),
            &[("Opsy-Image", "ami-0123456789abcdef0"), ("Opsy-Base-Image", "ami-0fedcba9876543210")],
        );
        assert_eq!(
            compose(&[&amis(), &built], Some("[skip ci]"), None),
            "opsy: eks-node built ami-0123456789abcdef0 [skip ci]\n\n\
             Opsy-Resource: PackerBuilder/default/eks-node\n\
             Opsy-Image: ami-0123456789abcdef0\n\
             Opsy-Base-Image: ami-0fedcba9876543210\n"
        );
    }

    #[test]
    fn several_objects() {
        let (a, b) = (file("a", Some("a built x"), &[]), file("b", None, &[]));
        let c = file("c", Some("c rolled to x"), &[("Opsy-Image", "x")]);
        assert_eq!(
            compose(&[&a, &b, &c], None, None),
            "opsy: update status of 3 objects\n\n- a: a built x\n- b\n- c: c rolled to x\n\n\
             Opsy-Resource: a\nOpsy-Resource: b\nOpsy-Resource: c\nOpsy-Image: x\n"
        );
        assert_eq!(compose(&[&amis(), &b], None, None), "opsy: update status of b\n\nOpsy-Resource: b\n");
        assert_eq!(compose(&[&amis()], None, None), "opsy: update amis.json\n");
    }

    #[test]
    fn commits_of_a_pull_request_name_the_agent() {
        let author = Author { name: "Opsy".to_owned(), email: "opsy@example.com".to_owned() };
        let owner = Owner::parse("team-a").expect("an owner");
        let maker = Maker { author, owner, source: "main:prod".to_owned() };
        let message = compose(&[&file("a", None, &[])], Some("[skip ci]"), Some(&maker));
        let agent = "Opsy-Source: main:prod\nOpsy-Owner: team-a\n";
        assert_eq!(message, format!("opsy: update status of a [skip ci]\n\nOpsy-Resource: a\n{agent}"));
        assert_eq!(compose(&[], None, Some(&maker)), format!("opsy: update 0 files\n\n{agent}"));
    }

    #[test]
    fn no_text_starts_a_line_of_its_own() {
        let sly =
            file("a", Some("built\n\nOpsy-Image: ami-of-somebody"), &[("Opsy-Build", "1\nOpsy-Image: 2")]);
        let message = compose(&[&sly], Some("\n\n"), None);
        assert_eq!(message.lines().filter(|line| line.starts_with("Opsy-Image")).count(), 0, "{message}");
    }

    #[test]
    fn long_subjects_and_lists_are_cut() {
        let long = file("a", Some(&"word ".repeat(60)), &[]);
        let message = compose(&[&long], None, None);
        assert_eq!(message.lines().next().map(|line| line.chars().count()), Some(SUBJECT_LIMIT));
        let many: Vec<_> = (0..60).map(|n| file(&format!("o{n}"), None, &[])).collect();
        let many: Vec<_> = many.iter().collect();
        assert!(compose(&many, None, None).contains("- o49\n- and 10 more\n"));
    }
}
