//! Who is notified of what: the destinations of an object and of the repository, and which stories an object leaves to
//! the repository. Pure.

use crate::announce::{Story, repository};
use crate::api::notifier::{Notification, Notifier};
use crate::manifest::{ObjectSet, Problem, Severity, is_settings};
use crate::notify::destination::Destination;
use crate::notify::fences::{Addressed, Fences};

/// The destinations of the repository: those of `notifier` in `opsy.yaml`. `None` if they are unknown, because
/// `opsy.yaml` is broken and was never read: what was delivered must then not be forgotten.
pub fn of_repository(set: &ObjectSet, fences: &Fences) -> Option<Addressed> {
    let settings = &set.settings;
    let is_broken = |problem: &Problem| is_settings(&problem.file) && problem.severity == Severity::Error;
    // A notifier of an earlier commit stays in force while the file is broken.
    if settings.notifier.is_none() && set.problems.iter().any(is_broken) {
        return None;
    }
    let to = Destination::of(settings.notifier.as_ref(), settings.namespace(), None);
    Some(fences.keep(None, to))
}

/// The destinations that an object's own notifier names. They may use the agent's credentials only as far as the flags
/// allow its namespace to.
pub fn of_object(notifier: &Notifier, namespace: &str, region: Option<&str>, fences: &Fences) -> Addressed {
    fences.keep(Some(namespace), Destination::of(Some(notifier), namespace, region))
}

/// Drops the stories that the repository reports as well, if every destination of the object is one of the
/// repository's: one notification is enough there. Stories that were begun continue to their end.
pub fn without_repository_stories(
    mut stories: Vec<Story>,
    to: &[Destination],
    repository: &[Destination],
    recorded: &[Notification],
) -> Vec<Story> {
    if to.iter().all(|destination| repository.contains(destination)) {
        let is_begun = |thread: &str| recorded.iter().any(|record| record.thread == thread);
        stories.retain(|story| !repository::is_reported_by_repository(story) || is_begun(&story.thread));
    }
    stories
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::announce::{Message, Tone, Weight};
    use crate::api::fence::Fence;

    fn fences() -> Fences {
        let fence = |flag| Fence::new(flag, Some("opsy".to_owned()), Vec::new());
        let (topics, recipients) = (fence("--notify-topics"), fence("--notify-recipients"));
        Fences { topics, recipients, own: "opsy".to_owned() }
    }

    fn slack(channel: &str) -> Notifier {
        serde_json::from_value(json!({"slack": {"secret": "s", "channelIDs": [channel]}}))
            .expect("a notifier")
    }

    fn names(addressed: &Addressed) -> Vec<String> {
        addressed.to.iter().map(Destination::name).collect()
    }

    fn set(notifier: Option<Notifier>, broken_file: Option<&str>) -> ObjectSet {
        let mut set = ObjectSet::default();
        set.settings.notifier = notifier;
        set.problems.extend(broken_file.map(|file| Problem {
            file: file.to_owned(),
            line: Some(1),
            message: "is not YAML".to_owned(),
            severity: Severity::Error,
        }));
        set
    }

    fn story(thread: &str) -> Story {
        let head = Message {
            id: "head".to_owned(),
            reason: "x".into(),
            tone: Tone::Bad,
            weight: Weight::Loud,
            title: String::new(),
            text: String::new(),
            facts: Vec::new(),
            excerpt: Vec::new(),
            next: None,
            links: Vec::new(),
        };
        let thread = thread.to_owned();
        Story { thread, head, replies: Vec::new(), over: false, hold: Duration::ZERO, cause: None }
    }

    #[test]
    fn the_repository_has_the_destinations_of_opsy_yaml() {
        let known = of_repository(&set(Some(slack("C1")), None), &fences()).expect("known");
        assert_eq!(names(&known), ["slack/C1"]);
        let none = of_repository(&set(None, None), &fences()).expect("known");
        assert_eq!(names(&none), [""; 0], "it names no destination");
    }

    #[test]
    fn destinations_are_unknown_only_if_opsy_yaml_is_broken_and_was_never_read() {
        assert!(of_repository(&set(None, Some("opsy.yaml")), &fences()).is_none());
        let before = of_repository(&set(Some(slack("C1")), Some("opsy.yaml")), &fences()).expect("known");
        assert_eq!(names(&before), ["slack/C1"], "those of an earlier commit stay in force");
        assert!(of_repository(&set(None, Some("builders/web.yaml")), &fences()).is_some());
    }

    #[test]
    fn an_object_has_its_own_destinations_as_far_as_the_flags_allow() {
        let notifier = json!({"slack": {"secret": "s", "channelIDs": ["C2"]},
            "sns": {"topicARN": "arn:aws:sns:us-east-1:111122223333:nodes"}});
        let notifier: Notifier = serde_json::from_value(notifier).expect("a notifier");
        let tenant = of_object(&notifier, "tenant", Some("us-east-1"), &fences());
        assert_eq!(names(&tenant), ["slack/C2"]);
        assert_eq!(tenant.refused.expect("the topic is refused").0, "DestinationNotAllowed");
        let own = of_object(&notifier, "opsy", Some("us-east-1"), &fences());
        assert_eq!((own.to.len(), own.refused), (2, None));
    }

    #[test]
    fn a_trouble_of_the_repository_is_reported_once_per_destination() {
        let repository = of_repository(&set(Some(slack("C1")), None), &fences()).expect("known").to;
        let own = of_object(&slack("C2"), "default", None, &fences()).to;
        let threads = ["build/b1", "trouble/ManifestBroken/7", "trouble/InvalidSpec/7"];
        let left = |to: &[Destination], recorded: &[Notification]| -> Vec<String> {
            let stories = threads.iter().map(|thread| story(thread)).collect();
            let left = without_repository_stories(stories, to, &repository, recorded);
            left.into_iter().map(|story| story.thread).collect()
        };
        assert_eq!(left(&repository, &[]), ["build/b1", "trouble/InvalidSpec/7"]);
        assert_eq!(left(&own, &[]), threads, "the repository does not notify this channel");
        let begun = Notification { thread: threads[1].to_owned(), ..Notification::default() };
        assert_eq!(left(&repository, &[begun]), threads, "a story that was begun continues");
    }
}
