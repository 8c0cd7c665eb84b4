//! Paths that a Packer template names, by a simple reading of its text: whatever is between quotes and looks like
//! one. What is computed is not found, and what is found need not be a path. Pure.

/// How templates write their own folder, in HCL and in JSON.
const OWN_FOLDER: [&str; 4] =
    ["${path.root}/", "{{template_dir}}/", "{{ template_dir }}/", "{{.TemplateDir}}/"];
/// How they write where Packer runs.
const WORKING_FOLDER: [&str; 3] = ["${path.cwd}/", "{{pwd}}/", "./"];
/// No path that a person writes is longer.
const LONGEST: usize = 200;

/// A text that may be a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Literal {
    pub path: String,
    /// It is relative to the template's folder, whatever Packer's working directory is.
    pub from_template: bool,
}

/// What may be a path in a template.
pub fn paths(text: &str) -> Vec<Literal> {
    let lines = text.lines().filter(|line| !is_comment(line));
    // A function in a string has quotes of its own: what is between two quotes, whichever, may be a path.
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
    let (path, from_template) = match cut(&OWN_FOLDER) {
        Some(rest) => (rest, true),
        None => (cut(&WORKING_FOLDER).unwrap_or(part), false),
    };
    let looks_like_one = path.contains(['/', '.']) && path.chars().any(char::is_alphanumeric);
    let odd = path.starts_with('/')
        || path.contains("://")
        || path.contains(['$', '{', '}', '*', '=', '\\', '<', '>', '|', ';'])
        || path.contains(char::is_whitespace)
        || path.len() > LONGEST;
    (looks_like_one && !odd).then(|| Literal { path: path.to_owned(), from_template })
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
