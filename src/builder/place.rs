//! Where Packer runs, and how paths of the repository are written relative to it. Pure.
//!
//! A path in a manifest field is relative to the repository's root; a path in `args` is relative to where
//! Packer runs, as on a command line.

use crate::api::paths::{join, plain};

/// Flags of Packer that take the next argument as their value unless they contain `=`.
const FLAGS_WITH_VALUE: [&str; 6] = ["var", "var-file", "only", "except", "on-error", "parallel-builds"];

/// Returns the directory of a template argument: that of the file, or the directory itself. The root is `""`.
pub fn directory(template: &str) -> String {
    let path = plain(template).unwrap_or_default();
    if !is_file(template) {
        return path;
    }
    path.rsplit_once('/').map_or_else(String::new, |(directory, _)| directory.to_owned())
}

/// Returns where Packer runs with `runFrom: Template`: in `dir` if the template is below it, else in the directory of
/// the template.
pub fn working_directory(dir: Option<&str>, template: &str) -> String {
    let own = directory(template);
    let below = |dir: &String| {
        own.strip_prefix(dir.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let dir = dir.and_then(plain).filter(|dir| !dir.is_empty() && below(dir));
    dir.unwrap_or(own)
}

/// Returns whether a template argument names a file. Packer decides by the extension too.
pub fn is_file(template: &str) -> bool {
    template.ends_with(".json") || template.ends_with(".hcl")
}

/// Converts a path from the root of the repository to one that is relative to a directory of it.
pub fn relative_to(directory: &str, path: &str) -> String {
    let from: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    let to: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", from.len() - shared);
    let path: Vec<&str> = up.chain(to[shared..].iter().copied()).collect();
    if path.is_empty() { ".".to_owned() } else { path.join("/") }
}

/// Returns the variable files that arguments name, as written, each with the index of the argument.
pub fn var_files(args: &[String]) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).unwrap_or_default();
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let takes_next = value.is_none() && FLAGS_WITH_VALUE.contains(&name);
        let next = args.get(at + 1).map(String::as_str).filter(|_| takes_next);
        if name == "var-file" {
            found.extend(value.or(next).map(|file| (at, file)));
        }
        at += if takes_next { 2 } else { 1 };
    }
    found
}

/// Converts a path in an argument to one from the root: `None` if it is absolute, an error if it leaves the repository.
pub fn from_root(directory: &str, path: &str) -> Result<Option<String>, String> {
    if path.starts_with('/') {
        return Ok(None);
    }
    match plain(&join(directory, path)) {
        Some(path) => Ok(Some(path)),
        None => Err(format!("{path:?} leaves the repository")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_template() {
        for (template, expected) in [
            ("packer/web/", "packer/web"),
            ("packer/web", "packer/web"),
            ("packer/web/web.pkr.hcl", "packer/web"),
            ("./web.json", ""),
            (".", ""),
        ] {
            assert_eq!(directory(template), expected, "{template}");
        }
    }

    #[test]
    fn packer_starts_in_dir_or_in_the_templates_folder() {
        for (dir, template, expected) in [
            (Some("images"), "images/packer/web.json", "images"),
            (Some("images/"), "images/", "images"),
            (Some("images"), "images-2/web.json", "images-2"),
            (Some("."), "packer/web.json", "packer"),
            (None, "packer/web.json", "packer"),
        ] {
            assert_eq!(working_directory(dir, template), expected, "{template} with {dir:?}");
        }
    }

    #[test]
    fn paths_as_seen_from_a_folder() {
        for (from, path, expected) in [
            ("", "vars/a.hcl", "vars/a.hcl"),
            ("packer/web", "vars/a.hcl", "../../vars/a.hcl"),
            ("packer/web", "packer/a.hcl", "../a.hcl"),
            ("packer/web", "packer/web/a.hcl", "a.hcl"),
            ("packer/web", "packer/web", "."),
            ("packer/we", "packer/web", "../web"),
            ("", ".", "."),
        ] {
            assert_eq!(relative_to(from, path), expected, "{path} from {from}");
        }
    }

    #[test]
    fn variables_files_are_found_in_every_way_to_write_them() {
        let args = [
            "-var-file=a",
            "--var-file=b",
            "-var-file",
            "c",
            "-var",
            "-var-file=no",
            "-force",
            "--var-file",
            "d",
        ]
        .map(str::to_owned);
        assert_eq!(var_files(&args), [(0, "a"), (1, "b"), (2, "c"), (7, "d")]);
        assert_eq!(var_files(&["-var-file".to_owned()]), []);
    }

    #[test]
    fn arguments_are_relative_to_where_packer_runs() {
        assert_eq!(from_root("packer/web", "../a.hcl"), Ok(Some("packer/a.hcl".to_owned())));
        assert_eq!(from_root("", "./a.hcl"), Ok(Some("a.hcl".to_owned())));
        assert_eq!(from_root("", "/etc/a.hcl"), Ok(None));
        assert!(from_root("packer", "../../a.hcl").is_err());
    }
}
