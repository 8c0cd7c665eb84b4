//! Tables: what manifests mean, which are refused, and how Packer's command lines come out.

use super::*;
use crate::api::builder::{Command, FailurePolicy, GitSync};
use crate::builder::commands;

fn with(change: impl FnOnce(&mut PackerBuilderSpec)) -> PackerBuilder {
    let mut object = object();
    change(&mut object.spec);
    object
}

fn with_commands(written: Vec<Command>) -> PackerBuilder {
    with(|spec| spec.builder.as_mut().expect("the example has one").commands = Some(written))
}

fn command(sub: &str) -> Command {
    Command { sub_command: Some(sub.into()), ..Command::default() }
}

/// The command lines of a builder, each as one string.
fn lines(object: &PackerBuilder, injected: &[(&str, &str)]) -> Vec<String> {
    let spec = spec::parse(object).expect("valid");
    let steps = commands::steps(&spec.commands, injected);
    steps.iter().map(|step| format!("{:?} {}", step.command, step.args.join(" ")).to_lowercase()).collect()
}

#[test]
fn missing_commands_are_added_and_all_run_in_packers_order() {
    let none = with(|_| {});
    assert_eq!(lines(&none, &[]), ["init packer/node/", "validate packer/node/", "build packer/node/"]);
    let reversed = with_commands(vec![command("build"), command("init")]);
    assert_eq!(lines(&reversed, &[]), ["init packer/node/", "validate packer/node/", "build packer/node/"]);
}

/// All commands run, in their order, as with the operator.
#[test]
fn each_of_several_builds_is_initialized_and_validated_with_its_own_values() {
    let build = |file: &str, dir: Option<&str>| Command {
        variables_file: Some(file.into()),
        working_dir: dir.map(str::to_owned),
        ..command("build")
    };
    let two = with_commands(vec![build("amd64.hcl", None), build("arm64.hcl", None)]);
    let expected = [
        "init packer/node/",
        "validate -var-file=amd64.hcl packer/node/",
        "validate -var-file=arm64.hcl packer/node/",
        "build -var-file=amd64.hcl packer/node/",
        "build -var-file=arm64.hcl packer/node/",
    ];
    assert_eq!(lines(&two, &[]), expected);
    let apart = with_commands(vec![
        build("a.hcl", Some("packer/a")),
        build("b.hcl", Some("packer/b")),
        Command { working_dir: Some("packer/b".into()), ..command("validate") },
    ]);
    let expected = [
        "init packer/a",
        "init packer/b",
        "validate -var-file=b.hcl packer/b",
        "build -var-file=a.hcl packer/a",
        "build -var-file=b.hcl packer/b",
    ];
    assert_eq!(lines(&apart, &[]), expected);
}

#[test]
fn variables_go_to_validate_and_build_sorted_and_after_injected_ones() {
    let build = Command {
        variables: Some(map(&[("size", "m5"), ("arch", "x86")])),
        variables_file: Some("./vars/prod.pkrvars.hcl".into()),
        args: Some(vec!["-force".into(), "-only=a.b".into(), "-debug".into(), "-var".into(), "x=1".into()]),
        on_error: Some("abort".into()),
        debug: Some(true),
        color: Some(false),
        ..command("build")
    };
    assert_eq!(
        lines(&with_commands(vec![build]), &[("ami_id", "ami-1"), ("region", "us-east-1")]),
        [
            "init packer/node/",
            "validate -var-file=vars/prod.pkrvars.hcl -var ami_id=ami-1 -var region=us-east-1 -var arch=x86 \
             -var size=m5 -only=a.b -var x=1 packer/node/",
            "build -on-error=abort -color=false -var-file=vars/prod.pkrvars.hcl -var ami_id=ami-1 \
             -var region=us-east-1 -var arch=x86 -var size=m5 -force -only=a.b -var x=1 packer/node/",
        ]
    );
}

#[test]
fn debugging_lets_packer_tell_all_it_does_and_never_makes_it_wait() {
    let env = |build: Command| {
        let spec = spec::parse(&with_commands(vec![build])).expect("valid");
        let lines =
            commands::steps(&spec.commands, &[]).iter().map(|step| step.args.join(" ")).collect::<String>();
        assert!(!lines.contains("debug"), "{lines}");
        spec.debug
    };
    let with_args = |arg: &str| Command { args: Some(vec![arg.to_owned()]), ..command("build") };
    assert!(env(Command { debug: Some(true), ..command("build") }));
    assert!(env(with_args("-debug")) && env(with_args("--debug=true")));
    assert!(!env(with_args("-debug=false")) && !env(command("build")));
}

#[test]
fn the_template_argument_is_the_working_dir_else_the_dir_else_the_root() {
    let template = |dir: Option<&str>, working_dir: Option<&str>| {
        let mut object =
            with_commands(vec![Command { working_dir: working_dir.map(str::to_owned), ..command("build") }]);
        object.spec.builder.as_mut().expect("one").dir = dir.map(str::to_owned);
        spec::parse(&object).expect("valid").commands[2].template.clone()
    };
    assert_eq!(template(Some("packer/node/"), None), "packer/node/");
    assert_eq!(template(Some("packer"), Some("./packer/node")), "packer/node");
    assert_eq!(template(None, None), ".");
    assert_eq!(template(Some("./"), None), ".");
}

#[test]
fn null_fields_and_empty_texts_mean_nothing_written() {
    let object = with(|spec| {
        let builder = spec.builder.as_mut().expect("one");
        builder.repo_url = Some(String::new());
        builder.secret = Some(String::new());
        builder.commands =
            Some(vec![Command { args: None, on_error: Some(String::new()), ..command("build") }]);
        spec.git_sync = Some(GitSync { image: Some(String::new()), ..GitSync::default() });
    });
    let spec = spec::parse(&object).expect("valid");
    assert_eq!((spec.repo_url, spec.secret, spec.template.whole), (None, None, false));
}

#[test]
fn the_template_query_names_everything_a_build_reads() {
    let object = with(|spec| {
        let builder = spec.builder.as_mut().expect("one");
        builder.inputs = Some(vec!["scripts/**".into()]);
        builder.commands = Some(vec![
            Command {
                variables_file: Some("b.hcl".into()),
                working_dir: Some("other".into()),
                ..command("validate")
            },
            Command { variables_file: Some("a.hcl".into()), ..command("build") },
        ]);
        spec.git_sync = Some(GitSync { image: Some("git-sync:v4".into()), ..GitSync::default() });
    });
    let query = spec::parse(&object).expect("valid").template;
    assert_eq!(query.template, "packer/node");
    assert_eq!(query.var_files, ["a.hcl", "b.hcl"]);
    assert_eq!((query.others, query.dir), (vec!["other".to_owned()], None));
    assert_eq!(query.inputs, ["scripts/**"]);
    assert!(query.whole);
}

/// A builder with a variable file in the arguments of its build, and with this `runFrom`.
fn build_from(run_from: Option<&str>, working_dir: Option<&str>, var_file: &str) -> PackerBuilder {
    let mut object = with_commands(vec![Command {
        args: Some(vec![format!("-var-file={var_file}"), "-only=a.b".into()]),
        variables_file: Some("vars/prod.hcl".into()),
        working_dir: working_dir.map(str::to_owned),
        ..command("build")
    }]);
    object.spec.builder.as_mut().expect("one").run_from = run_from.map(str::to_owned);
    object
}

#[test]
fn variables_files_in_arguments_count() {
    let query = |object: &PackerBuilder| spec::parse(object).expect("valid").template;
    let from_root = query(&build_from(None, None, "vars/1.31.hcl"));
    assert_eq!(from_root.var_files, ["vars/1.31.hcl", "vars/prod.hcl"]);
    let from_template = query(&build_from(Some("Template"), None, "../1.31.hcl"));
    assert_eq!(
        from_template.var_files,
        ["packer/1.31.hcl", "vars/prod.hcl"],
        "relative to the working directory"
    );
    assert_eq!(query(&build_from(None, None, "/etc/packer/1.31.hcl")).var_files, ["vars/prod.hcl"]);
    let problems = spec::parse(&build_from(None, None, "../1.31.hcl")).expect_err("it is elsewhere");
    assert_eq!(problems[0].0, "spec.builder.commands[0].args[0]");
}

#[test]
fn packer_runs_in_the_templates_folder_where_it_is_asked_to() {
    let steps = |object: &PackerBuilder| commands::steps(&spec::parse(object).expect("valid").commands, &[]);
    let at_root = steps(&build_from(Some("Repository"), None, "x.hcl"));
    assert!(at_root.iter().all(|step| step.dir.is_none() && step.args.last().unwrap() == "packer/node/"));
    for (working_dir, dir, argument, var_file) in [
        (None, Some("packer/node"), ".", "../../vars/prod.hcl"),
        (Some("packer/node/web.json"), Some("packer/node"), "web.json", "../../vars/prod.hcl"),
        (Some("packer/node/ami/web.json"), Some("packer/node"), "ami/web.json", "../../vars/prod.hcl"),
        (Some("vars"), Some("vars"), ".", "prod.hcl"),
        (Some("web.json"), None, "web.json", "vars/prod.hcl"),
    ] {
        let steps = steps(&build_from(Some("Template"), working_dir, "x.hcl"));
        assert_eq!(steps.len(), 3);
        for step in &steps {
            assert_eq!((step.dir.as_deref(), step.args.last().map(String::as_str)), (dir, Some(argument)));
        }
        let expected = format!("-var-file={var_file}");
        assert!(steps[1..].iter().all(|step| step.args.contains(&expected)), "{steps:?}");
    }
    let problems = spec::parse(&build_from(Some("template"), None, "x.hcl")).expect_err("a typo");
    assert_eq!(problems[0].0, "spec.builder.runFrom");
    assert!(problems[0].1.contains("did you mean Template?"), "{}", problems[0].1);
}

#[test]
fn the_base_query_takes_its_owners_from_the_filters() {
    let query = valid().base.expect("filters are written");
    assert_eq!(query.owners, ["602401143452"]);
    assert_eq!(query.filters.len(), 1);
    let unowned = with(|spec| {
        spec.ami_filters =
            Some(vec![AmiFilter { name: Some("name".into()), values: Some(vec!["a*".into()]) }]);
    });
    assert_eq!(spec::parse(&unowned).expect("valid").base.expect("asked for").owners, ["amazon", "self"]);
    for none in [None, Some(Vec::new())] {
        assert_eq!(spec::parse(&with(|spec| spec.ami_filters = none)).expect("valid").base, None);
    }
}

#[test]
fn defaults_are_filled_in() {
    let spec = spec::parse(&with(|spec| spec.time_outs = None)).expect("valid");
    assert_eq!(spec.expires_in, None, "absent means never");
    assert_eq!(spec.timer, HOUR / 6);
    assert_eq!(spec.limit, HOUR * 2);
    assert_eq!(
        (spec.failures.limit, spec.failures.backoff, spec.failures.max_backoff),
        (5, HOUR / 12, HOUR * 6)
    );
    let on = spec.rebuild_on;
    assert!(on.expired && on.base_image && on.template && on.spec && !on.explicit);
}

#[test]
fn all_problems_are_named_at_once_with_their_fields() {
    let object = with(|spec| {
        spec.region = Some("nowhere".into());
        spec.rebuild_on = Some(vec!["Expired".into(), "Sunday".into()]);
        spec.failure_policy =
            Some(FailurePolicy { limit: Some(11), backoff: Some("1x".into()), max_backoff: None });
        spec.time_outs = Some(BuilderTimeOuts {
            expires_in: Some("1 month".into()),
            controller_timer: Some("0".into()),
            ..BuilderTimeOuts::default()
        });
        let builder = spec.builder.as_mut().expect("one");
        builder.dir = Some("../elsewhere".into());
        builder.repo_url = Some("https://me:secret@git.example/x.git".into());
        spec.notifier = serde_json::from_value(serde_json::json!({"discord": {}, "slack": {}})).ok();
        builder.commands = Some(vec![
            command("fmt"),
            Command { on_error: Some("ask".into()), working_dir: Some("/etc".into()), ..command("build") },
        ]);
    });
    let problems = spec::parse(&object).expect_err("much is wrong");
    let mut fields: Vec<&str> = problems.iter().map(|(field, _)| field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "spec.builder.commands[0].subCommand",
            "spec.builder.commands[1].onError",
            "spec.builder.commands[1].workingDir",
            "spec.builder.dir",
            "spec.builder.repoURL",
            "spec.failurePolicy.backoff",
            "spec.failurePolicy.limit",
            "spec.notifier.discord.secret",
            "spec.rebuildOn[1]",
            "spec.region",
            "spec.timeOuts.controllerTimer",
            "spec.timeOuts.expiresIn",
        ]
    );
    assert!(problems.iter().all(|(_, message)| !message.contains("secret")), "no credential is repeated");
}

#[test]
fn a_build_holds_its_slot_for_a_limited_time() {
    let problems = |build: &str, pending: &str| {
        let times = BuilderTimeOuts {
            build: Some(build.to_owned()),
            pending: Some(pending.to_owned()),
            ..BuilderTimeOuts::default()
        };
        let spec = spec::parse(&with(|spec| spec.time_outs = Some(times)));
        spec.err().unwrap_or_default().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
    };
    assert_eq!(problems("24h", "1h"), Vec::<String>::new());
    assert_eq!(problems("25h", "61m"), ["spec.timeOuts.build", "spec.timeOuts.pending"]);
}

#[test]
fn filters_that_would_list_every_image_are_refused() {
    let owner = AmiFilter { name: Some("owner-alias".into()), values: Some(vec!["amazon".into()]) };
    let nameless = AmiFilter { name: None, values: Some(vec!["x".into()]) };
    let empty = AmiFilter { name: Some("name".into()), values: Some(Vec::new()) };
    for (filters, field) in [
        (vec![owner], "spec.amiFilters"),
        (vec![nameless], "spec.amiFilters[0].name"),
        (vec![empty], "spec.amiFilters[0].values"),
    ] {
        let problems = spec::parse(&with(|spec| spec.ami_filters = Some(filters))).expect_err("refused");
        assert_eq!(problems[0].0, field);
    }
    assert!(spec::parse(&with(|spec| spec.builder = None)).is_err());
}

#[test]
fn the_spec_tag_changes_with_what_goes_into_an_image_and_with_nothing_else() {
    let tag = |object: &PackerBuilder| spec::parse(object).expect("valid").tag;
    let before = tag(&object());
    let build = |change: &dyn Fn(&mut Command)| {
        let mut build = command("build");
        change(&mut build);
        with_commands(vec![build])
    };
    let same = [
        build(&|_| {}),
        build(&|build| build.on_error = Some("abort".into())),
        build(&|build| (build.debug, build.color) = (Some(true), Some(true))),
        with(|spec| spec.suspend = Some(true)),
        with(|spec| {
            spec.notifier = serde_json::from_value(serde_json::json!({"slack": {"secret": "s"}})).ok()
        }),
        with(|spec| spec.time_outs = None),
        with(|spec| spec.cluster_name = None),
        with(|spec| spec.builder.as_mut().expect("one").secret = Some("aws".into())),
        with(|spec| spec.builder.as_mut().expect("one").debug = Some(true)),
        with(|spec| spec.builder.as_mut().expect("one").branch = Some("main".into())),
        with(|spec| spec.builder.as_mut().expect("one").run_from = Some("Repository".into())),
        with(|spec| spec.rebuild_on = Some(vec!["Spec".into()])),
    ];
    for object in same {
        assert_eq!(tag(&object), before, "{:?}", object.spec);
    }
    let other = [
        with(|spec| spec.region = Some("eu-west-1".into())),
        with(|spec| spec.builder.as_mut().expect("one").image = Some("packer:1.11".into())),
        with(|spec| spec.builder.as_mut().expect("one").repo_url = Some("https://git.example/a".into())),
        build(&|build| build.args = Some(vec!["-force".into()])),
        build(&|build| build.variables = Some(map(&[("a", "b")]))),
        build(&|build| build.variables_file = Some("a.hcl".into())),
        build(&|build| build.working_dir = Some("packer/other".into())),
        with(|spec| spec.builder.as_mut().expect("one").run_from = Some("Template".into())),
    ];
    for object in other {
        assert_ne!(tag(&object), before, "{:?}", object.spec);
    }
    assert!(before.starts_with("v2-"));
}

#[test]
fn how_a_pod_runs_changes_no_image() {
    let plain = spec::parse(&object()).expect("valid");
    let pod = with(|spec| {
        let run = spec.builder.as_mut().expect("the example has one");
        run.job_service_account_name = Some("packer".into());
        run.pod = serde_json::from_value(serde_json::json!({"nodeSelector": {"pool": "builds"}})).ok();
        spec.git_sync = Some(GitSync {
            image: Some("git-sync".into()),
            name: Some(String::new()),
            secret: Some("git".into()),
        });
    });
    let read = spec::parse(&pod).expect("valid");
    assert_eq!(read.tag, plain.tag);
    assert_eq!(read.pod.service_account.as_deref(), Some("packer"));
    assert!(read.pod.settings.node_selector.is_some());
    let sync = read.pod.git_sync.expect("it is asked for");
    assert_eq!((sync.container.as_str(), sync.secret.as_deref()), ("git-sync", Some("git")));
}

/// The tag `opsy.dev/spec` of a builder with a change.
fn tag_of(change: impl FnOnce(&mut BuilderRun)) -> String {
    let object = with(|spec| change(spec.builder.as_mut().expect("one")));
    spec::parse_in(&object, |url| url.contains("own.example")).expect("valid").tag
}

#[test]
fn spelling_makes_no_other_input() {
    let dir = |dir: &str| tag_of(|run| run.dir = Some(dir.into()));
    for same in ["packer/node/", "./packer/node", "packer//node", "packer/./node/"] {
        assert_eq!(dir(same), dir("packer/node"), "{same}");
    }
    assert_ne!(dir("packer/other"), dir("packer/node"));
    let url = |url: Option<&str>| tag_of(|run| run.repo_url = url.map(str::to_owned));
    assert_eq!(
        url(Some("https://own.example/a.git")),
        url(None),
        "the agent's own repository is the default"
    );
    assert_eq!(url(Some("https://git.example/A.git/")), url(Some("git@git.example:a")));
    assert_ne!(url(Some("https://git.example/a")), url(None));
    let command_in = |dir: &str| {
        let build = Command { working_dir: Some(dir.into()), ..command("build") };
        tag_of(|run| run.commands = Some(vec![build]))
    };
    assert_eq!(command_in("./packer/node/"), command_in("packer/node"));
    // An upgrade that changes how the tag is computed changes its version, so that older values are not compared.
    assert!(dir("packer/node").starts_with("v2-"));
}

#[test]
fn what_is_longer_than_a_tag_is_refused() {
    let named = |namespace: usize, name: usize| {
        let mut object = object();
        object.metadata.namespace = Some("n".repeat(namespace));
        object.metadata.name = Some("c".repeat(name));
        spec::parse(&object).err()
    };
    assert_eq!(named(55, 200), None, "256 characters with the slash");
    let problems = named(60, 200).expect("too long");
    assert_eq!(problems[0].0, "metadata.name");
    assert!(
        problems[0].1.contains("261 characters") && problems[0].1.contains("at most 256"),
        "{}",
        problems[0].1
    );
    let cluster = spec::parse(&with(|spec| spec.cluster_name = Some("c".repeat(257))));
    assert_eq!(cluster.expect_err("too long")[0].0, "spec.clusterName");
}
