//! The messages about the repository.

use super::*;

pub fn repository_is(kind: &str, reason: &str, words: &str) -> RepositoryStatus {
    let condition = json!([{"type": kind, "status": "False", "reason": reason, "message": words,
        "lastTransitionTime": "2026-03-01T11:59:00Z"}]);
    let conditions = serde_json::from_value(condition).expect("conditions");
    RepositoryStatus { conditions: Some(conditions), ..RepositoryStatus::default() }
}

pub fn repository() -> String {
    let images = Subject::Repository("images".to_owned());
    let show = |what: &str, status: &RepositoryStatus| {
        show(what, &in_context(|context| repository::stories(&images, status, context)))
    };
    let report =
        |what: &str, kind: &str, reason: &str, words: &str| show(what, &repository_is(kind, reason, words));
    let file = |path: &str, words: &str, commit: &str| BrokenFile {
        file: path.to_owned(),
        words: words.to_owned(),
        commit: commit.to_owned(),
    };
    let web = "builders/web.yaml:7: unknown field `regoin`; did you mean region?";
    let node = "builders/node.yaml:3: is not valid YAML";
    let mut broken = repository_is("Applied", "ManifestBroken", web);
    broken.broken = Some(vec![file("builders/web.yaml", web, "4f2d1c0a9b8c7d")]);
    let mut two = repository_is("Applied", "ManifestBroken", &format!("{web}; {node}"));
    two.broken = Some(vec![
        file("builders/web.yaml", web, "4f2d1c0a9b8c7d"),
        file("builders/node.yaml", node, "5a3e2d1b0c9d8e"),
    ]);
    let over = resolved(&images, "trouble/ManifestBroken/1772366340", &[]);
    [
        show("A file is broken", &broken),
        show("Another commit breaks another file", &two),
        format!("## They are fixed\n\n{}", shown(&over)),
        report(
            "Objects would be pruned",
            "Pruned",
            "PruneRefused",
            "3 of 4 objects retained although they are not in Git",
        ),
        report(
            "The remote is unavailable",
            "Synced",
            "RepositoryUnavailable",
            "git.example.com does not respond",
        ),
        report("The remote denies access", "Synced", "RepositoryDenied", "the credentials are refused"),
        report("The branch does not exist", "Synced", "RepositoryUnreadable", "there is no branch main"),
        report("No commit can be loaded", "TakenOver", "CommitNotTaken", "the API server does not respond"),
        report(
            "Objects are refused",
            "Accepted",
            "ObjectsRefused",
            "PackerBuilder/ops/web: namespace ops does not exist",
        ),
        report("Nothing can be pushed", "Published", "PushRefused", "protected branch"),
    ]
    .concat()
}
