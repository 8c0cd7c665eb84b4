//! Tables: what a start of a build carries, and what its run is called.

use super::*;
use crate::api::tags;
use crate::api::words::RunResult;

#[test]
fn a_start_carries_everything_the_run_needs() {
    let mut observed = observed();
    let builder = spec_of(&mut observed);
    (builder.secret, builder.debug) = (Some("packer-env".into()), true);
    let Step::Start { request, query } = step(&observed) else { panic!("a start") };
    assert_eq!(request.name.as_str(), format!("node-{}", request.facts.build));
    assert_eq!(request.facts.inputs, wanted());
    assert_eq!((request.facts.why.as_str(), request.facts.created_at), ("Missing", observed.now));
    assert_eq!(request.secret.as_deref(), Some("packer-env"));
    assert_eq!(query, valid().template);
    assert_eq!(request.env["PACKER_LOG"], "1");
    let tags: BTreeMap<String, String> =
        serde_json::from_str(&request.env["PKR_VAR_opsy_build_tags"]).expect("tags are JSON");
    let build = request.facts.build.to_string();
    assert_eq!(
        tags,
        map(&[
            ("cluster-name", "demo"),
            ("opsy.dev/build", &build),
            ("opsy.dev/builder", "default/node"),
            ("opsy.dev/owner", "agent-1"),
        ])
    );
    let build = request.steps.last().expect("three steps");
    assert_eq!(build.args, ["-var", "ami_id=ami-0000ba5e", "-var", "region=us-east-1", "packer/node/"]);
    // Without a base image, no variable is passed that the template may not declare.
    spec_of(&mut observed).base = None;
    observed.base = Seen::Is(Base::default());
    let Step::Start { request, .. } = step(&observed) else { panic!("a start") };
    assert!(request.steps.iter().all(|step| step.args == ["packer/node/"]));
}

#[test]
fn a_build_id_depends_on_the_run_before_it() {
    let id = |observed: &Observed| match step(observed) {
        Step::Start { request, .. } => request.facts.build,
        other => panic!("expected a start, got {other:?}"),
    };
    let first = id(&observed());
    assert_eq!(first, id(&observed()), "the same observation gives the same ID");
    let after = |record: RunRecord| {
        altered(observed(), |observed| {
            observed.status.history = Some(vec![record]);
            observed.now = at_hour(9);
        })
    };
    let second = id(&after(record(1, RunResult::Failed, at_hour(1))));
    assert_ne!(first, second);
    let by_tag = altered(observed(), |observed| {
        let image = tagged(active(1, at_hour(1)), tags::STATUS, tags::DEPRECATED);
        observed.images = Seen::Is(vec![image]);
    });
    assert_eq!(second, id(&by_tag), "with a lost status, the image tags contain it");
}

#[test]
fn names_of_runs_are_labels_whatever_the_builder_is_called() {
    let build = BuildId::of(&["a"]);
    for name in ["node", "a.b_c", &"x".repeat(200), "-", "Ümlaut", &format!("{}-", "y".repeat(45))] {
        let run = crate::builder::inputs::run_name(name, &build);
        assert!(run.as_str().len() <= 63 && run.as_str().ends_with(build.as_str()), "{run}");
        assert_eq!(
            run.prefix(),
            Some(&*crate::api::ids::run_prefix(name)),
            "an engine recognizes its builder"
        );
    }
}
