//! Paths that a Packer template references, by a simple scan of its text: everything between quotes that looks like a
//! path. A computed path is not found, and what is found may not be a path. Pure.

/// How templates write their own directory, in HCL and in JSON.
const OWN_DIRECTORY: [&str; 4] =
    ["${path.root}/", "{{template_dir}}/", "{{ template_dir }}/", "{{.TemplateDir}}/"];
/// How they write Packer's working directory.
const WORKING_DIRECTORY: [&str; 3] = ["${path.cwd}/", "{{pwd}}/", "./"];
/// Maximum length of a path. Nobody writes a longer one by hand.
const MAX_LENGTH: usize = 200;

/// A string in a template that may be a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Literal {
    pub path: String,
    /// It is relative to the directory of the template, not to Packer's working directory.
    pub from_template: bool,
}

/// Returns the strings in a template that may be paths.
pub fn paths(text: &str) -> Vec<Literal> {
    let lines = text.lines().filter(|line| !is_comment(line));
    // A function call inside a string contains quotes too, so everything between any two quotes may be a path.
    let parts = lines.flat_map(|line| line.split('"'));
    let mut found: Vec<Literal> = parts.filter_map(literal).collect();
    found.sort();
    found.dedup();
    found
}

fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('#') || line.starts_with("//")
}

fn literal(part: &str) -> Option<Literal> {
    let cut = |starts: &[&str]| starts.iter().find_map(|start| part.strip_prefix(start));
    let (path, from_template) = match cut(&OWN_DIRECTORY) {
        Some(rest) => (rest, true),
        None => (cut(&WORKING_DIRECTORY).unwrap_or(part), false),
    };
    let looks_like_one = path.contains(['/', '.']) && path.chars().any(char::is_alphanumeric);
    let is_excluded = path.starts_with('/')
        || path.contains("://")
        || path.contains(['$', '{', '}', '*', '=', '\\', '<', '>', '|', ';'])
        || path.contains(char::is_whitespace)
        || path.len() > MAX_LENGTH;
    (looks_like_one && !is_excluded).then(|| Literal { path: path.to_owned(), from_template })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_both_languages() {
        let hcl = r##"
            # script = "scripts/no.sh"
            provisioner "shell" { script = "scripts/a.sh" }
            source_ami  = "ami-12345678"
            user_data   = "${templatefile("../shared/user.tpl", { name = "x" })}"
            script      = "${path.root}/b.sh"
            url         = "https://example.com/a/b.sh"
            destination = "/etc/motd"
            inline      = ["echo a.b > /tmp/x", "./run.sh"]
        "##;
        let found = |text: &str| -> Vec<(String, bool)> {
            paths(text).into_iter().map(|literal| (literal.path, literal.from_template)).collect()
        };
        let owned = |list: &[(&str, bool)]| -> Vec<(String, bool)> {
            list.iter().map(|(path, from)| ((*path).to_owned(), *from)).collect()
        };
        assert_eq!(
            found(hcl),
            owned(&[
                ("../shared/user.tpl", false),
                ("b.sh", true),
                ("run.sh", false),
                ("scripts/a.sh", false)
            ])
        );
        let json =
            r#"{"script": "{{template_dir}}/../modules/x.sh", "source": "files/", "a": "{{user `x`}}.sh"}"#;
        assert_eq!(found(json), owned(&[("../modules/x.sh", true), ("files/", false)]));
    }
}
