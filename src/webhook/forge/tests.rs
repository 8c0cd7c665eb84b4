//! Deliveries as the servers send them. The signatures were computed with another program (Python's `hmac`).

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

const GITHUB: &str = r#"{"ref":"refs/heads/main","repository":{"id":1,"full_name":"acme/images","html_url":"https://github.com/acme/images","git_url":"git://github.com/acme/images.git","ssh_url":"git@github.com:acme/images.git","clone_url":"https://github.com/acme/images.git"},"commits":[]}"#;
const GITHUB_MAC: &str = "3e10795c85f6582f0e9e740eaba69bbb1ac766a6b5c2b91d1d2f5ec155674079";
const FORM_MAC: &str = "5294eb15d811aac76edd4e70e02fd45eabd2c71a4010cf8ea39f1e5a2056e40f";
const GITEA: &str = r#"{"ref":"refs/heads/main","repository":{"html_url":"https://git.example.com/acme/images","ssh_url":"ssh://git@git.example.com:2222/acme/images.git","clone_url":"https://git.example.com/acme/images.git"}}"#;
const GITEA_MAC: &str = "2cb8ec9532848013ffa1a8fd2c7f231ba590d43b1bdd3464cba946d2be4f2cdf";
const GITLAB: &str = r#"{"object_kind":"push","event_name":"push","ref":"refs/heads/main","project":{"id":15,"web_url":"https://gitlab.com/acme/images","git_ssh_url":"git@gitlab.com:acme/images.git","git_http_url":"https://gitlab.com/acme/images.git"},"repository":{"name":"images","homepage":"https://gitlab.com/acme/images"}}"#;
const CLOUD: &str = r#"{"push":{"changes":[{"new":{"type":"branch","name":"main"},"old":{"type":"branch","name":"main"}},{"new":{"type":"tag","name":"v1"},"old":null},{"new":null,"old":{"type":"branch","name":"gone"}}]},"repository":{"type":"repository","full_name":"acme/images","links":{"html":{"href":"https://bitbucket.org/acme/images"}}}}"#;
const CLOUD_MAC: &str = "342820a2628c3ba19af57267a4b837046a553f8ebf46d2e8b0ed6b49d7565e54";
const DATA_CENTER: &str = r#"{"eventKey":"repo:refs_changed","repository":{"slug":"images","project":{"key":"ACME"},"links":{"clone":[{"href":"https://bb.example.com/scm/acme/images.git","name":"http"},{"href":"ssh://git@bb.example.com:7999/acme/images.git","name":"ssh"}],"self":[{"href":"https://bb.example.com/projects/ACME/repos/images/browse"}]}},"changes":[{"ref":{"id":"refs/heads/main","displayId":"main","type":"BRANCH"},"type":"UPDATE"},{"ref":{"id":"refs/tags/v1","displayId":"v1","type":"TAG"},"type":"ADD"}]}"#;
const DATA_CENTER_MAC: &str = "ae8a3b440a5ded3c5910a24e212727653bd316574d41520b17b2ec6af748a251";
const GENERIC: &str = r#"{"repository":"https://git.example.com/acme/images","ref":"refs/heads/main"}"#;
const GENERIC_MAC: &str = "ce543dc8e6033887eb23a72dd553a812907abff541772dbd587ac0c50c86040a";
const EMPTY_MAC: &str = "796cd3078af14636753d26b3b5555422ff55a3e261cf847b48e95371b9bd0aa2";

fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
    of.iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a value")))
        .collect()
}

fn signature(mac: &str) -> String {
    format!("sha256={mac}")
}

/// Recognizes a delivery, checks its proof, and reads what was pushed.
fn delivered(of: &[(&'static str, &str)], body: &str) -> (Delivery, Vec<Pushed>) {
    let headers = headers(of);
    let delivery = recognize(&headers).expect("recognized");
    let proof = delivery.proof.clone().expect("a proof");
    assert!(proof.is_valid(&[SECRET.to_owned()], body.as_bytes()), "{of:?}");
    assert!(!proof.is_valid(&["another secret of some length".to_owned()], body.as_bytes()));
    let pushed = delivery.forge.pushed(&headers, body.as_bytes()).expect("readable");
    (delivery, pushed)
}

fn push(addresses: &[&str], branch: &str) -> Pushed {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    Pushed { addresses, branch: Some(branch.to_owned()) }
}

fn pushed(forge: Forge, body: &str) -> Vec<Pushed> {
    forge.pushed(&HeaderMap::new(), body.as_bytes()).expect("readable")
}

#[test]
fn github_as_json_and_as_a_form() {
    let addresses = [
        "https://github.com/acme/images",
        "git://github.com/acme/images.git",
        "git@github.com:acme/images.git",
        "https://github.com/acme/images.git",
    ];
    let sent = |mac| [("x-github-event", "push".to_owned()), ("x-hub-signature-256", signature(mac))];
    let form: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", GITHUB).finish();
    for (body, mac, kind) in [(GITHUB, GITHUB_MAC, "application/json"), (&form, FORM_MAC, FORM)] {
        let sent = sent(mac);
        let mut of: Vec<_> = sent.iter().map(|(name, value)| (*name, value.as_str())).collect();
        of.extend([("content-type", kind), ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")]);
        let (delivery, pushed) = delivered(&of, body);
        assert_eq!((delivery.forge, delivery.event), (Forge::GitHub, Event::Push));
        assert_eq!(delivery.id, "72d3162e-cc78-11e3-81ab-4c9367dc0958");
        assert_eq!(pushed, [push(&addresses, "main")]);
    }
    let is_form = headers(&[("content-type", FORM)]);
    assert!(Forge::GitHub.pushed(&is_form, b"a=b").is_err());
    let old = headers(&[("x-github-event", "push"), ("x-hub-signature", "sha1=7d38cdd6")]);
    assert_eq!(recognize(&old).expect("recognized").proof.err(), Some(Unproven::Sha1));
    let ping = headers(&[("x-github-event", "ping")]);
    let ping = recognize(&ping).expect("recognized");
    assert_eq!((ping.event, ping.proof.err()), (Event::Ping, Some(Unproven::Missing)));
}

#[test]
fn gitlab_proves_by_the_secret_itself() {
    let of =
        [("x-gitlab-event", "Push Hook"), ("x-gitlab-token", SECRET), ("x-gitlab-event-uuid", "13792a34")];
    let (delivery, pushes) = delivered(&of, GITLAB);
    assert_eq!(
        (delivery.forge, delivery.event, delivery.id.as_str()),
        (Forge::GitLab, Event::Push, "13792a34")
    );
    let addresses = [
        "https://gitlab.com/acme/images",
        "git@gitlab.com:acme/images.git",
        "https://gitlab.com/acme/images.git",
    ];
    assert_eq!(pushes, [push(&addresses, "main")]);
    assert_eq!(pushed(Forge::GitLab, r#"{"event_name": "user_create", "ref": "refs/heads/main"}"#), []);
    let tag = recognize(&headers(&[("x-gitlab-event", "Tag Push Hook"), ("x-gitlab-token", SECRET)]));
    assert_eq!(tag.expect("recognized").event, Event::Other);
}

#[test]
fn gitea_forgejo_and_gogs_send_the_headers_of_each_other() {
    let names = [
        (Forge::Gogs, "x-gogs-event", "x-gogs-signature"),
        (Forge::Gitea, "x-gitea-event", "x-gitea-signature"),
        (Forge::Forgejo, "x-forgejo-event", "x-forgejo-signature"),
    ];
    let prefixed = signature(GITEA_MAC);
    let mut of = vec![("x-github-event", "push"), ("x-hub-signature-256", prefixed.as_str())];
    for (forge, event, mac) in names {
        of.extend([(event, "push"), (mac, GITEA_MAC)]);
        let (delivery, pushed) = delivered(&of, GITEA);
        assert_eq!((delivery.forge, delivery.event), (forge, Event::Push));
        let addresses = [
            "https://git.example.com/acme/images",
            "ssh://git@git.example.com:2222/acme/images.git",
            "https://git.example.com/acme/images.git",
        ];
        assert_eq!(pushed, [push(&addresses, "main")]);
    }
    let without = recognize(&headers(&[("x-gitea-event", "push"), ("x-gitea-signature", "")]));
    assert_eq!(without.expect("recognized").proof.err(), Some(Unproven::Missing));
}

#[test]
fn bitbucket_reports_several_branches_at_once() {
    let mac = signature(CLOUD_MAC);
    let of = [("x-event-key", "repo:push"), ("x-hub-signature", mac.as_str()), ("x-request-uuid", "{5a8f}")];
    let (delivery, pushes) = delivered(&of, CLOUD);
    assert_eq!((delivery.forge, delivery.event), (Forge::Bitbucket, Event::Push));
    let address = ["https://bitbucket.org/acme/images"];
    assert_eq!(pushes, [push(&address, "main"), push(&address, "gone")]);

    let mac = signature(DATA_CENTER_MAC);
    let of = [("x-event-key", "repo:refs_changed"), ("x-hub-signature", &mac), ("x-request-id", "d872ad25")];
    let (delivery, pushes) = delivered(&of, DATA_CENTER);
    assert_eq!((delivery.forge, delivery.id.as_str()), (Forge::Bitbucket, "d872ad25"));
    let addresses =
        ["https://bb.example.com/scm/acme/images.git", "ssh://git@bb.example.com:7999/acme/images.git"];
    assert_eq!(pushes, [push(&addresses, "main")]);
    // Versions before 7 send no addresses: the push can be to any repository.
    let old = r#"{"repository": {"slug": "images"}, "changes": [{"ref": {"id": "refs/heads/main"}}]}"#;
    assert_eq!(pushed(Forge::Bitbucket, old), [push(&[], "main")]);
    let ping = recognize(&headers(&[("x-event-key", "diagnostics:ping")])).expect("recognized");
    assert_eq!((ping.event, ping.proof.err()), (Event::Ping, Some(Unproven::Missing)));
}

#[test]
fn a_generic_sender_may_say_nothing() {
    let of = |mac: &str| [("x-signature", signature(mac))];
    for (mac, body, expected) in [
        (GENERIC_MAC, GENERIC, push(&["https://git.example.com/acme/images"], "main")),
        (EMPTY_MAC, "", Pushed::default()),
    ] {
        let of = of(mac);
        let of: Vec<_> = of.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // `curl --data` sends this content type.
        let of = [of, vec![("content-type", FORM)]].concat();
        let (delivery, pushed) = delivered(&of, body);
        assert_eq!((delivery.forge, pushed.as_slice()), (Forge::Generic, &[expected][..]));
    }
    for body in ["not JSON", "[]", "{\"x\": 1}"] {
        assert_eq!(pushed(Forge::Generic, body), [Pushed::default()], "{body}");
    }
    assert!(recognize(&headers(&[("user-agent", "curl")])).is_none());
}

#[test]
fn tags_are_no_branches_and_what_is_not_known_is_any() {
    let github = |reference: &str| {
        let body = format!(r#"{{"ref": "{reference}", "repository": {{"clone_url": "https://h/r"}}}}"#);
        pushed(Forge::GitHub, &body)
    };
    assert_eq!(github("refs/tags/v1"), []);
    assert_eq!(github("refs/heads/feature/x"), [push(&["https://h/r"], "feature/x")]);
    assert_eq!(github("main"), [push(&["https://h/r"], "main")]);
    let any = Pushed { branch: None, ..push(&["https://h/r"], "") };
    assert_eq!(pushed(Forge::GitHub, r#"{"repository": {"clone_url": "https://h/r"}}"#), [any]);
    assert_eq!(pushed(Forge::GitHub, "{}"), [Pushed::default()]);
}

#[test]
fn hostile_payloads_are_bounded() {
    let changes: Vec<String> =
        (0..20_000).map(|n| format!(r#"{{"ref": {{"id": "refs/heads/b{n}"}}}}"#)).collect();
    let clones: Vec<String> = (0..20_000).map(|n| format!(r#"{{"href": "https://h/{n}"}}"#)).collect();
    let body = format!(
        r#"{{"changes": [{}], "repository": {{"links": {{"clone": [{}]}}}}}}"#,
        changes.join(","),
        clones.join(",")
    );
    assert_eq!(pushed(Forge::Bitbucket, &body), [Pushed::default()]);
    let odd = r#"{"ref": 7, "repository": {"clone_url": ["https://h/r"], "html_url": "https://h/ r", "ssh_url": "\u0000"}}"#;
    assert_eq!(pushed(Forge::GitHub, odd), [Pushed::default()]);
    for forge in [Forge::GitHub, Forge::GitLab, Forge::Gitea, Forge::Bitbucket] {
        for body in [&b"\xff\xfe"[..], b"", b"{\"ref\""] {
            assert!(forge.pushed(&HeaderMap::new(), body).is_err(), "{forge:?} {body:?}");
        }
    }
    for body in [&b"{\"ref\": \"\xc3\x28\"}"[..], b"{\"ref\": 1e999999}"] {
        assert!(Forge::GitHub.pushed(&HeaderMap::new(), body).is_err(), "{body:?}");
    }
    let long = "x".repeat(4096) + "\u{7f}";
    let sent = headers(&[("x-github-event", "push{}\"<b>"), ("x-github-delivery", &long[..4096])]);
    let delivery = recognize(&sent).expect("recognized");
    assert_eq!((delivery.event_name.as_str(), delivery.id.len()), ("pushb", LONGEST_NAME));
}
