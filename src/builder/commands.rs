//! Packer's command lines: from the commands of the manifest to the steps of a run. Pure.
//!
//! Commands run in the order init, validate, build, in whatever order they are listed; missing ones are added. The
//! template is an argument. The working directory is the root of the repository, or the directory of the template with
//! `runFrom: Template`.

use crate::api::words::RunFrom;
use std::collections::BTreeMap;

use opsy_runner::request::{Command as SubCommand, Step};

use super::place;
use crate::api::builder::{BuilderRun, Command};
use crate::api::checks::Problems;
use crate::api::ids::digest;

const SUB_COMMANDS: [&str; 3] = ["init", "validate", "build"];
const ON_ERROR: [&str; 3] = ["cleanup", "abort", "run-cleanup-provisioner"];
/// Values of `builder.runFrom`.
const RUN_FROM: [&str; 2] = [RunFrom::Repository.as_str(), RunFrom::Template.as_str()];

/// A Packer command with its defaults filled in. Paths are relative to the root of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackerCommand {
    pub sub: SubCommand,
    pub args: Vec<String>,
    pub variables: BTreeMap<String, String>,
    pub var_file: Option<String>,
    /// Variable files of the repository that `args` name.
    pub arg_files: Vec<String>,
    /// The template argument.
    pub template: String,
    /// Packer's working directory; `None` is the root.
    pub dir: Option<String>,
    pub on_error: Option<String>,
    pub color: Option<bool>,
    /// Packer writes its debug log.
    pub debug: bool,
}

/// Arguments of a build that an added validate needs too. Without them, it would validate something else.
const SHARED_FLAGS: [&str; 4] = ["-var", "-var-file", "-only", "-except"];

/// Returns the commands in the order in which they run. All three kinds are present.
pub fn normalize(run: &BuilderRun, problems: &mut Problems) -> Vec<PackerCommand> {
    let mut commands: Vec<PackerCommand> = Vec::new();
    for (index, command) in run.commands.iter().flatten().enumerate() {
        let path = format!("spec.builder.commands[{index}]");
        commands.extend(read(run, command, &path, problems));
    }
    if !commands.iter().any(|command| command.sub == SubCommand::Build) {
        let template = template(run, None, "", problems);
        commands.push(default_command(SubCommand::Build, dir(run, &template, problems), template));
    }
    share_variables(&mut commands);
    add_missing(&mut commands);
    // The sort is stable, so several commands of one kind keep their order.
    commands.sort_by_key(|command| command.sub);
    commands
}

/// Adds an init and a validate for each build if the manifest contains none.
fn add_missing(commands: &mut Vec<PackerCommand>) {
    let builds: Vec<PackerCommand> =
        commands.iter().filter(|command| command.sub == SubCommand::Build).cloned().collect();
    for sub in [SubCommand::Validate, SubCommand::Init] {
        if commands.iter().any(|command| command.sub == sub) {
            continue;
        }
        for build in &builds {
            let mut command = default_command(sub, build.dir.clone(), build.template.clone());
            if sub == SubCommand::Validate {
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

/// Returns whether Packer runs in the directory of its template.
fn runs_from_template(run: &BuilderRun, problems: &mut Problems) -> bool {
    let Some(word) = run.run_from.as_deref().filter(|word| !word.is_empty()) else { return false };
    problems.word("spec.builder.runFrom", word, &RUN_FROM);
    RunFrom::parse(word) == Some(RunFrom::Template)
}

/// Returns the working directory of a command; `None` is the root.
fn dir(run: &BuilderRun, template: &str, problems: &mut Problems) -> Option<String> {
    let start = || place::working_directory(run.dir.as_deref(), template);
    runs_from_template(run, problems).then(start).filter(|folder| !folder.is_empty())
}

/// Returns the variable files of the repository that arguments name. A file with an absolute path is not in the
/// repository.
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
        Some("init") => SubCommand::Init,
        Some("validate") => SubCommand::Validate,
        Some("build") => SubCommand::Build,
        None | Some("") => {
            problems.add(format!("{path}.subCommand"), "is required: must be init, validate or build");
            return None;
        }
        Some(other) => {
            problems.word(format!("{path}.subCommand"), other, &SUB_COMMANDS);
            return None;
        }
    };
    if command.variables.iter().flatten().any(|(name, _)| name.is_empty() || name.contains('=')) {
        problems.add(format!("{path}.variables"), "a variable name must not be empty or contain '='");
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

/// Returns whether an argument is Packer's debug flag, which is never passed on: it makes Packer wait for a person at
/// every step and write the private key of the machine to a file.
fn is_debug(arg: &str) -> bool {
    let flag = arg.trim_start_matches('-').split('=').next();
    arg.starts_with('-') && flag == Some("debug")
}

fn on_error(word: Option<&str>, path: &str, problems: &mut Problems) -> Option<String> {
    match word {
        None | Some("") => return None,
        Some("ask") => problems
            .add(path, format!("ask needs a person at a terminal: must be one of {}", ON_ERROR.join(", "))),
        Some(word) => problems.word(path, word, &ON_ERROR),
    }
    word.map(str::to_owned)
}

/// Returns the template argument: `workingDir`, else `dir/`, else `.`.
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

/// Returns a command that the manifest does not contain.
fn default_command(sub: SubCommand, dir: Option<String>, template: String) -> PackerCommand {
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

/// Returns those arguments of a build, with their values, that select sources and set variables.
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

/// Gives each validate the variables of the build: without them, it would reject what the build accepts. Of several
/// builds, those with the same template are used.
fn share_variables(commands: &mut [PackerCommand]) {
    let builds: Vec<PackerCommand> =
        commands.iter().filter(|command| command.sub == SubCommand::Build).cloned().collect();
    for validate in commands.iter_mut().filter(|command| command.sub == SubCommand::Validate) {
        let same = builds.iter().any(|build| build.template == validate.template);
        for build in builds.iter().filter(|build| !same || build.template == validate.template) {
            for (name, value) in &build.variables {
                validate.variables.entry(name.clone()).or_insert_with(|| value.clone());
            }
            validate.var_file = validate.var_file.take().or_else(|| build.var_file.clone());
        }
    }
}

/// Returns the steps of a run. `injected` variables come first, so that those of the manifest override them.
pub fn steps(commands: &[PackerCommand], injected: &[(&str, &str)]) -> Vec<Step> {
    let step = |command: &PackerCommand| Step {
        command: command.sub,
        args: command.arguments(injected),
        dir: command.dir.clone(),
    };
    commands.iter().map(step).collect()
}

impl PackerCommand {
    /// Returns everything after the subcommand. The template argument is the last one.
    fn arguments(&self, injected: &[(&str, &str)]) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.sub == SubCommand::Build {
            arguments.extend(self.on_error.iter().map(|word| format!("-on-error={word}")));
            arguments.extend(self.color.iter().map(|on| format!("-color={on}")));
        }
        if self.sub != SubCommand::Init {
            let injected = injected.iter().map(|(name, value)| format!("{name}={value}"));
            let own = self.variables.iter().map(|(name, value)| format!("{name}={value}"));
            arguments.extend(self.var_file.iter().map(|file| format!("-var-file={}", self.relative(file))));
            arguments.extend(injected.chain(own).flat_map(|pair| ["-var".to_owned(), pair]));
        }
        arguments.extend(self.args.iter().cloned());
        arguments.push(self.template_argument());
        arguments
    }

    /// Returns a path of the repository relative to Packer's working directory.
    fn relative(&self, path: &str) -> String {
        self.dir.as_deref().map_or_else(|| path.to_owned(), |dir| place::relative_to(dir, path))
    }

    /// Returns the template argument relative to Packer's working directory.
    fn template_argument(&self) -> String {
        self.relative(&self.template)
    }

    /// Returns all variable files of the repository, relative to its root.
    pub fn var_files(&self) -> impl Iterator<Item = &String> {
        self.var_file.iter().chain(&self.arg_files)
    }

    /// Returns a digest of everything in a command that affects the image. Error handling, color and debugging do not.
    pub fn identity(&self) -> String {
        let mut parts = vec![format!("{:?}", self.sub), self.template.trim_end_matches('/').to_owned()];
        parts.extend(self.var_file.iter().map(|file| format!("file {file}")));
        parts.extend(self.variables.iter().map(|(name, value)| format!("var {name}={value}")));
        parts.extend(self.args.iter().map(|arg| format!("arg {arg}")));
        parts.extend(self.dir.iter().map(|dir| format!("in {dir}")));
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        digest(&parts)
    }

    /// Returns whether a failed build retains its machine, as `onError` requests.
    pub fn retains_machine(&self) -> bool {
        self.sub == SubCommand::Build && self.on_error.as_deref().is_some_and(|word| word != "cleanup")
    }
}
