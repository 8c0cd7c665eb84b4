//! Packer's command lines: from the manifest's commands to the steps of a run. Pure.
//!
//! Commands run as init, validate, build whatever their order; missing ones are added. The
//! template is an argument; the working directory is the repository's root, or the template's folder with
//! `runFrom: Template`.

use std::collections::BTreeMap;

use opsy_runner::request::{Command as Sub, Step};

use super::place;
use super::spec::Problems;
use crate::api::builder::{BuilderRun, Command};
use crate::api::ids::digest;

const SUB_COMMANDS: [&str; 3] = ["init", "validate", "build"];
const ON_ERROR: [&str; 3] = ["cleanup", "abort", "run-cleanup-provisioner"];
/// Where Packer runs: `builder.runFrom`.
const RUN_FROM: [&str; 2] = ["Repository", "Template"];

/// One Packer command as it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackerCommand {
    pub sub: Sub,
    pub args: Vec<String>,
    pub variables: BTreeMap<String, String>,
    pub var_file: Option<String>,
    /// Variables files of the repository that `args` name, from the root.
    pub arg_files: Vec<String>,
    /// The template argument, from the root.
    pub template: String,
    /// Packer's working directory, from the root; absent means the root.
    pub dir: Option<String>,
    pub on_error: Option<String>,
    pub color: Option<bool>,
    /// Packer is to tell all it does.
    pub debug: bool,
}

/// Arguments of a build that an added validate needs as well, or it would judge another template.
const SHARED_FLAGS: [&str; 4] = ["-var", "-var-file", "-only", "-except"];

/// The commands in the order they run, all three present.
pub fn normalise(run: &BuilderRun, problems: &mut Problems) -> Vec<PackerCommand> {
    let mut commands: Vec<PackerCommand> = Vec::new();
    for (index, command) in run.commands.iter().flatten().enumerate() {
        let path = format!("spec.builder.commands[{index}]");
        commands.extend(read(run, command, &path, problems));
    }
    if !commands.iter().any(|command| command.sub == Sub::Build) {
        let template = template(run, None, "", problems);
        commands.push(added(Sub::Build, dir(run, &template, problems), template));
    }
    share_variables(&mut commands);
    add_missing(&mut commands);
    // Stable: several commands of a kind keep their order.
    commands.sort_by_key(|command| command.sub);
    commands
}

/// Each build is initialized and validated, where the manifest does not say how.
fn add_missing(commands: &mut Vec<PackerCommand>) {
    let builds: Vec<PackerCommand> =
        commands.iter().filter(|command| command.sub == Sub::Build).cloned().collect();
    for sub in [Sub::Validate, Sub::Init] {
        if commands.iter().any(|command| command.sub == sub) {
            continue;
        }
        for build in &builds {
            let mut command = added(sub, build.dir.clone(), build.template.clone());
            if sub == Sub::Validate {
                command.args = shared_args(&build.args);
                command.arg_files.clone_from(&build.arg_files);
                command.variables.clone_from(&build.variables);
                command.var_file.clone_from(&build.var_file);
            }
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
    }
}

/// Does Packer run in its template's folder?
fn runs_from_template(run: &BuilderRun, problems: &mut Problems) -> bool {
    let Some(word) = run.run_from.as_deref().filter(|word| !word.is_empty()) else { return false };
    problems.word("spec.builder.runFrom", word, &RUN_FROM);
    word == "Template"
}

/// Where a command runs, from the root; absent means the root.
fn dir(run: &BuilderRun, template: &str, problems: &mut Problems) -> Option<String> {
    let start = || place::start(run.dir.as_deref(), template);
    runs_from_template(run, problems).then(start).filter(|folder| !folder.is_empty())
}

/// Variables files of the repository that arguments name. One with an absolute path is the machine's.
fn arg_files(args: &[String], dir: Option<&str>, path: &str, problems: &mut Problems) -> Vec<String> {
    let mut files = Vec::new();
    for (index, file) in place::var_files(args) {
        let read = place::from_root(dir.unwrap_or_default(), file);
        files.extend(problems.read(&format!("{path}.args[{index}]"), read).flatten());
    }
    files
}

fn read(run: &BuilderRun, command: &Command, path: &str, problems: &mut Problems) -> Option<PackerCommand> {
    let sub = match command.sub_command.as_deref() {
        Some("init") => Sub::Init,
        Some("validate") => Sub::Validate,
        Some("build") => Sub::Build,
        None | Some("") => {
            problems.add(format!("{path}.subCommand"), "is missing: say init, validate or build");
            return None;
        }
        Some(other) => {
            problems.word(format!("{path}.subCommand"), other, &SUB_COMMANDS);
            return None;
        }
    };
    if command.variables.iter().flatten().any(|(name, _)| name.is_empty() || name.contains('=')) {
        problems.add(format!("{path}.variables"), "a variable's name is empty or holds '='");
    }
    let var_file = command.variables_file.as_deref().filter(|file| !file.is_empty());
    let template = template(run, command.working_dir.as_deref(), &format!("{path}.workingDir"), problems);
    let dir = dir(run, &template, problems);
    let written = command.args.clone().unwrap_or_default();
    let arg_files = arg_files(&written, dir.as_deref(), path, problems);
    let (debugging, args) = written.into_iter().partition::<Vec<_>, _>(|arg| is_debug(arg));
    Some(PackerCommand {
        sub,
        args,
        arg_files,
        variables: command.variables.clone().unwrap_or_default(),
        var_file: var_file.map(|file| problems.path(&format!("{path}.variablesFile"), file)),
        template,
        dir,
        on_error: on_error(command.on_error.as_deref(), &format!("{path}.onError"), problems),
        color: command.color,
        debug: command.debug.unwrap_or(false) || debugging.iter().any(|arg| !arg.ends_with("=false")),
    })
}

/// Packer's own debugging waits for a person at every step, and leaves the key to the machine in a file.
fn is_debug(arg: &str) -> bool {
    let flag = arg.trim_start_matches('-').split('=').next();
    arg.starts_with('-') && flag == Some("debug")
}

fn on_error(word: Option<&str>, path: &str, problems: &mut Problems) -> Option<String> {
    match word {
        None | Some("") => return None,
        Some("ask") => {
            problems.add(path, format!("ask needs a person at a terminal: write {}", ON_ERROR.join(", ")))
        }
        Some(word) => problems.word(path, word, &ON_ERROR),
    }
    word.map(str::to_owned)
}

/// `workingDir`, else `dir/`, else `.`.
fn template(run: &BuilderRun, working_dir: Option<&str>, path: &str, problems: &mut Problems) -> String {
    let written = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(folder) = written(working_dir) {
        return problems.path(path, &folder);
    }
    match written(run.dir.as_deref()).map(|dir| problems.path("spec.builder.dir", &dir)) {
        Some(dir) if dir != "." => format!("{dir}/"),
        _ => ".".to_owned(),
    }
}

/// A command the manifest leaves out.
fn added(sub: Sub, dir: Option<String>, template: String) -> PackerCommand {
    PackerCommand {
        sub,
        args: Vec::new(),
        arg_files: Vec::new(),
        variables: BTreeMap::new(),
        var_file: None,
        dir,
        template,
        on_error: None,
        color: None,
        debug: false,
    }
}

/// Those arguments of a build that say which template with which values, with their values.
fn shared_args(args: &[String]) -> Vec<String> {
    let mut shared = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = arg.split('=').next().unwrap_or(arg).replacen("--", "-", 1);
        if !SHARED_FLAGS.contains(&name.as_str()) {
            continue;
        }
        shared.push(arg.clone());
        if !arg.contains('=') {
            shared.extend(args.next().cloned());
        }
    }
    shared
}

/// A validate without the build's variables would refuse what the build accepts. Of several builds, those of the
/// same template count.
fn share_variables(commands: &mut [PackerCommand]) {
    let builds: Vec<PackerCommand> =
        commands.iter().filter(|command| command.sub == Sub::Build).cloned().collect();
    for validate in commands.iter_mut().filter(|command| command.sub == Sub::Validate) {
        let same = builds.iter().any(|build| build.template == validate.template);
        for build in builds.iter().filter(|build| !same || build.template == validate.template) {
            for (name, value) in &build.variables {
                validate.variables.entry(name.clone()).or_insert_with(|| value.clone());
            }
            validate.var_file = validate.var_file.take().or_else(|| build.var_file.clone());
        }
    }
}

/// The steps of a run. `injected` variables come first, so that the manifest's own win.
pub fn steps(commands: &[PackerCommand], injected: &[(&str, &str)]) -> Vec<Step> {
    let step = |command: &PackerCommand| Step {
        command: command.sub,
        args: command.line(injected),
        dir: command.dir.clone(),
    };
    commands.iter().map(step).collect()
}

impl PackerCommand {
    /// Everything after the sub-command, template argument last.
    fn line(&self, injected: &[(&str, &str)]) -> Vec<String> {
        let mut line = Vec::new();
        if self.sub == Sub::Build {
            line.extend(self.on_error.iter().map(|word| format!("-on-error={word}")));
            line.extend(self.color.iter().map(|on| format!("-color={on}")));
        }
        if self.sub != Sub::Init {
            let injected = injected.iter().map(|(name, value)| format!("{name}={value}"));
            let own = self.variables.iter().map(|(name, value)| format!("{name}={value}"));
            line.extend(self.var_file.iter().map(|file| format!("-var-file={}", self.seen(file))));
            line.extend(injected.chain(own).flat_map(|pair| ["-var".to_owned(), pair]));
        }
        line.extend(self.args.iter().cloned());
        line.push(self.argument());
        line
    }

    /// A path from the root, as Packer finds it.
    fn seen(&self, path: &str) -> String {
        self.dir.as_deref().map_or_else(|| path.to_owned(), |dir| place::seen_from(dir, path))
    }

    /// The template argument, as Packer gets it.
    fn argument(&self) -> String {
        self.seen(&self.template)
    }

    /// All variables files of the repository, from the root.
    pub fn var_files(&self) -> impl Iterator<Item = &String> {
        self.var_file.iter().chain(&self.arg_files)
    }

    /// What of a command goes into an image: not how it fails, is coloured or debugged.
    pub fn identity(&self) -> String {
        let mut parts = vec![format!("{:?}", self.sub), self.template.trim_end_matches('/').to_owned()];
        parts.extend(self.var_file.iter().map(|file| format!("file {file}")));
        parts.extend(self.variables.iter().map(|(name, value)| format!("var {name}={value}")));
        parts.extend(self.args.iter().map(|arg| format!("arg {arg}")));
        parts.extend(self.dir.iter().map(|dir| format!("in {dir}")));
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        digest(&parts)
    }

    /// Does a failed build keep its machine, as asked?
    pub fn keeps_machine(&self) -> bool {
        self.sub == Sub::Build && self.on_error.as_deref().is_some_and(|word| word != "cleanup")
    }
}
