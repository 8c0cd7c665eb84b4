//! Packer's arguments and environment, including the differences between Packer versions that matter to
//! a caller. Pure.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::request::{Command, Request, Step};

/// Packer before 1.7 has no `init`. For an unknown command it prints the usage text and exits with this
/// code. Newer versions exit with 1 for every error.
pub const EXIT_UNKNOWN_COMMAND: i32 = 127;
/// This variable marks every process of a run; its value is the directory of the run.
pub const RUN_MARK: &str = "OPSY_RUN_DIR";

/// Packer's plugins listen on Unix sockets in TMPDIR, named `packer-plugin` plus up to ten digits, and
/// the path of a socket is limited to 107 bytes. Every build fails with a longer TMPDIR.
const LONGEST_TMPDIR: usize = 80;

pub type Environment = BTreeMap<OsString, OsString>;

impl Command {
    pub fn name(self) -> &'static str {
        match self {
            Command::Init => "init",
            Command::Validate => "validate",
            Command::Build => "build",
        }
    }
}

/// Returns Packer's arguments for a step. Only `build` accepts `-color`; all commands accept `-machine-readable`.
pub fn arguments(step: &Step) -> Vec<String> {
    let mut arguments = vec![step.command.name().to_owned(), "-machine-readable".to_owned()];
    if step.command == Command::Build {
        arguments.push("-color=false".to_owned());
    }
    arguments.extend(step.args.iter().filter(|argument| !is_ours(argument)).cloned());
    arguments
}

/// Returns whether the runner sets this flag itself. These flags determine the output format, and the
/// parser does not expect colors or timestamps.
fn is_ours(argument: &str) -> bool {
    let flag = argument.trim_start_matches('-').split('=').next().unwrap_or_default();
    argument.starts_with('-') && ["machine-readable", "color", "timestamp-ui"].contains(&flag)
}

/// Returns why a step is skipped, if it is. `init` rejects legacy JSON templates, which have no
/// `required_plugins` to install.
pub fn skipped(step: &Step) -> Option<&'static str> {
    let template = step.args.last()?;
    let legacy = template.ends_with(".json") && !template.ends_with(".pkr.json");
    (step.command == Command::Init && legacy).then_some("a legacy JSON template has no required_plugins")
}

/// Returns Packer's environment for the run directory `dir`: the inherited variables, overridden by those of the
/// request, then the variables that isolate runs and keep Packer quiet. `is_dir` checks the file system.
pub fn environment(
    inherited: Environment,
    request: &Request,
    dir: &Path,
    is_dir: impl Fn(&Path) -> bool,
) -> Environment {
    let asked = |name: &str| request.env.contains_key(name);
    let baked = baked_plugins(&inherited, is_dir);
    let mut env = inherited;
    env.extend(request.env.iter().map(|(name, value)| (name.into(), value.into())));
    let defaults = defaults(&env, request);
    env.extend(defaults);
    for (name, value) in [("CHECKPOINT_DISABLE", "1"), ("PACKER_NO_COLOR", "1")] {
        env.insert(name.into(), value.into());
    }
    env.insert(RUN_MARK.into(), dir.into());
    if !asked("PACKER_CONFIG_DIR") {
        env.insert("PACKER_CONFIG_DIR".into(), config_dir(dir).into());
    }
    let tmp = tmp_dir(dir);
    if !asked("TMPDIR") && tmp.as_os_str().len() <= LONGEST_TMPDIR {
        env.insert("TMPDIR".into(), tmp.into());
    }
    let plugins = request.plugins.as_ref().map(OsString::from).or(baked.map(OsString::from));
    if let Some(plugins) = plugins {
        env.entry("PACKER_PLUGIN_PATH".into()).or_insert(plugins);
    }
    env.entry("HOME".into()).or_insert_with(|| config_dir(dir).into());
    env
}

/// Returns the defaults whose variables are not set. Names are compared case-insensitively, because `https_proxy` and
/// `HTTPS_PROXY` mean the same.
fn defaults(env: &Environment, request: &Request) -> Environment {
    let is_set = |name: &str| env.keys().any(|known| known.eq_ignore_ascii_case(name));
    let unset = request.defaults.iter().filter(|(name, _)| !is_set(name));
    unset.map(|(name, value)| (name.into(), value.into())).collect()
}

/// Packer's configuration directory for one run, which isolates the run from other runs and from the user's home.
pub fn config_dir(dir: &Path) -> PathBuf {
    dir.join("config")
}

/// The directory of Packer's scratch files for one run.
pub fn tmp_dir(dir: &Path) -> PathBuf {
    dir.join("tmp")
}

/// Returns the directory of the plugins that are installed in a Packer image. The runner's own PACKER_CONFIG_DIR
/// hides them, so their directory must be passed explicitly. The search order is that of Packer.
fn baked_plugins(inherited: &Environment, is_dir: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let under = |name: &str, path: &str| {
        inherited.get(OsStr::new(name)).filter(|v| !v.as_bytes().is_empty()).map(|v| Path::new(v).join(path))
    };
    let places = [
        under("PACKER_CONFIG_DIR", ".packer.d/plugins"),
        under("XDG_CONFIG_HOME", "packer/plugins"),
        under("HOME", ".packer.d/plugins"),
        under("HOME", ".config/packer/plugins"),
    ];
    places.into_iter().flatten().find(|place| is_dir(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(command: Command, args: &[&str]) -> Step {
        Step { command, args: args.iter().map(|a| (*a).to_owned()).collect(), dir: None }
    }

    fn request() -> Request {
        serde_json::from_str(r#"{"packer":"packer","steps":[],"limit_seconds":1,"grace_seconds":1}"#)
            .expect("a minimal request")
    }

    fn text(env: &Environment, name: &str) -> Option<String> {
        env.get(OsStr::new(name)).map(|v| v.to_string_lossy().into_owned())
    }

    #[test]
    fn only_build_knows_color() {
        assert_eq!(arguments(&step(Command::Init, &["t"])), ["init", "-machine-readable", "t"]);
        assert_eq!(arguments(&step(Command::Validate, &["t"])), ["validate", "-machine-readable", "t"]);
        assert_eq!(
            arguments(&step(Command::Build, &["t"])),
            ["build", "-machine-readable", "-color=false", "t"]
        );
    }

    #[test]
    fn flags_that_change_the_output_are_dropped_and_others_kept() {
        let build = step(
            Command::Build,
            &[
                "-color=true",
                "--color",
                "-machine-readable",
                "-timestamp-ui",
                "-var",
                "color=red",
                "-force",
                ".",
            ],
        );
        let expected = ["build", "-machine-readable", "-color=false", "-var", "color=red", "-force", "."];
        assert_eq!(arguments(&build), expected);
    }

    #[test]
    fn init_is_left_out_for_legacy_templates_only() {
        assert!(skipped(&step(Command::Init, &["web.json"])).is_some());
        assert!(skipped(&step(Command::Init, &["web.pkr.json"])).is_none());
        assert!(skipped(&step(Command::Init, &["templates/web/"])).is_none());
        assert!(skipped(&step(Command::Build, &["web.json"])).is_none());
        assert!(skipped(&step(Command::Init, &[])).is_none());
    }

    #[test]
    fn environment_keeps_runs_apart() {
        let mut request = request();
        request.env.insert("PKR_VAR_x".into(), "new".into());
        let inherited =
            Environment::from([("PKR_VAR_x".into(), "old".into()), ("PATH".into(), "/bin".into())]);
        let env = environment(inherited, &request, Path::new("/runs/a"), |_| false);
        assert_eq!(text(&env, "PKR_VAR_x").as_deref(), Some("new"));
        assert_eq!(text(&env, "PATH").as_deref(), Some("/bin"));
        assert_eq!(text(&env, "CHECKPOINT_DISABLE").as_deref(), Some("1"));
        assert_eq!(text(&env, "PACKER_NO_COLOR").as_deref(), Some("1"));
        assert_eq!(text(&env, "PACKER_CONFIG_DIR").as_deref(), Some("/runs/a/config"));
        assert_eq!(text(&env, "TMPDIR").as_deref(), Some("/runs/a/tmp"));
        assert_eq!(text(&env, "HOME").as_deref(), Some("/runs/a/config"));
        assert_eq!(text(&env, RUN_MARK).as_deref(), Some("/runs/a"));
        assert_eq!(text(&env, "PACKER_PLUGIN_PATH"), None);
    }

    #[test]
    fn defaults_count_only_where_nothing_sets_the_variable() {
        let mut request = request();
        let defaults = [
            ("HTTPS_PROXY", "agent"),
            ("https_proxy", "agent"),
            ("NO_PROXY", "agent"),
            ("SSL_CERT_FILE", "agent"),
            ("AWS_EC2_METADATA_DISABLED", "agent"),
        ];
        request.defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        request.env.insert("SSL_CERT_FILE".into(), "request".into());
        let inherited = [("https_proxy", "secret"), ("no_proxy", "")];
        let inherited = inherited.map(|(name, value)| (name.into(), value.into())).into();
        let env = environment(inherited, &request, Path::new("/runs/a"), |_| false);
        let expected = [
            ("https_proxy", Some("secret")),
            ("HTTPS_PROXY", None),
            ("no_proxy", Some("")),
            ("NO_PROXY", None),
            ("SSL_CERT_FILE", Some("request")),
            ("AWS_EC2_METADATA_DISABLED", Some("agent")),
        ];
        for (name, value) in expected {
            assert_eq!(text(&env, name).as_deref(), value, "{name}");
        }
    }

    #[test]
    fn plugins_come_from_the_environment_then_the_request_then_the_image() {
        let home = || Environment::from([("HOME".into(), "/root".into())]);
        let baked = |path: &Path| path == Path::new("/root/.config/packer/plugins");
        let plugins = |inherited, request: &Request| {
            text(&environment(inherited, request, Path::new("/r"), baked), "PACKER_PLUGIN_PATH")
        };
        assert_eq!(plugins(home(), &request()).as_deref(), Some("/root/.config/packer/plugins"));
        let shared = Request { plugins: Some("/shared".into()), ..request() };
        assert_eq!(plugins(home(), &shared).as_deref(), Some("/shared"));
        let mut set = home();
        set.insert("PACKER_PLUGIN_PATH".into(), "/set".into());
        assert_eq!(plugins(set, &shared).as_deref(), Some("/set"));
    }

    #[test]
    fn a_folder_too_deep_for_sockets_keeps_the_inherited_tmpdir() {
        let dir = format!("/{}", "d".repeat(LONGEST_TMPDIR));
        let env = environment(Environment::new(), &request(), Path::new(&dir), |_| false);
        assert_eq!(text(&env, "TMPDIR"), None);
    }
}
