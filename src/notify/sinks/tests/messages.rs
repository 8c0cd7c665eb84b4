//! Messages to send: of a success, of a failure, with hostile text, and with text of excessive length.

use crate::announce::{Link, Message, Tone, Weight};

pub fn good() -> Message {
    Message {
        id: "done".to_owned(),
        reason: "BuildSucceeded".into(),
        tone: Tone::Good,
        weight: Weight::Milestone,
        title: "ops/node-image: build 7f3a9c succeeded".to_owned(),
        text: "A new base image had appeared. The rollout begins at 22:00.".to_owned(),
        facts: vec![
            ("Image", "ami-0123456789abcdef0".to_owned()),
            ("Region", "eu-central-1".to_owned()),
            ("Commit", "4f2d1c0 by Ada <ada@example.com>".to_owned()),
        ],
        excerpt: Vec::new(),
        next: None,
        links: vec![link("Commit", "https://git.example.com/ops/commit/4f2d1c0?a=1&b=2")],
    }
}

pub fn failing() -> Message {
    Message {
        id: "failed/2".to_owned(),
        reason: "BuildFailed".into(),
        tone: Tone::Bad,
        weight: Weight::Loud,
        title: "ops/node-image: build 7f3a9c failed".to_owned(),
        text: "Packer ended with 1, the second time since 4f2d1c0.".to_owned(),
        facts: (0..12).map(|_| ("Try", "2 of 5".to_owned())).collect(),
        excerpt: vec![
            String::new(),
            "\u{1b}[1;31m==> amazon-ebs.node: E: Unable to locate package kubelet\u{1b}[0m\r".to_owned(),
            "==> amazon-ebs.node: if a < b && `c` then ```".to_owned(),
        ],
        next: Some("Correct the package's name in templates/node.pkr.hcl.".to_owned()),
        links: vec![
            link("Commit", "https://git.example.com/ops/commit/4f2d1c0"),
            link("Runbook", "https://wiki.example.com/a(b)|c>d"),
        ],
    }
}

/// A message with everything that could ping people, end a block or forge a line in any service.
pub fn hostile() -> Message {
    let evil = "<!channel> <@U1> <#C1> <!here|x> @everyone @here <https://evil|ok> &lt;!channel&gt; \
                *b* _i_ ~s~ `c` ```f``` [l](https://evil) # h\u{0}\u{7}\u{202e}\u{1b}]8;;https://evil\u{7}x";
    Message {
        id: "failed/<1>".to_owned(),
        reason: "BuildFailed".into(),
        tone: Tone::Person,
        weight: Weight::Loud,
        title: format!("{evil}\r\nnext\u{2028}line"),
        text: evil.to_owned(),
        facts: vec![("Name", evil.to_owned()), ("Nothing", String::new())],
        excerpt: vec![evil.to_owned(), "```".to_owned(), "````<!channel>````".to_owned()],
        next: Some(evil.to_owned()),
        links: vec![
            link("<!channel>|x", "https://example.com/a|<!channel>?q=<@U1>&r=`)"),
            link("script", "javascript:alert(1)"),
            link("user", "https://user:secret@example.com/"),
            link("broken", "https://"),
        ],
    }
}

/// A message with 50,000 characters in each part, most of which become longer when they are escaped.
pub fn endless() -> Message {
    let long = "<&>`@*é\u{1F600}".repeat(50_000 / 8);
    Message {
        title: long.clone(),
        text: long.clone(),
        facts: (0..40).map(|_| ("An endless fact", long.clone())).collect(),
        excerpt: (0..200).map(|_| long.clone()).collect(),
        next: Some(long.clone()),
        links: (0..40)
            .map(|i| link(&long, &format!("https://example.com/{i}/{}", "&".repeat(300))))
            .collect(),
        ..hostile()
    }
}

fn link(label: &str, url: &str) -> Link {
    Link { label: label.to_owned(), url: url.to_owned() }
}
