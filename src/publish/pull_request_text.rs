//! The title and the text of the pull request. Pure.

use super::change::Files;
use super::message;
use crate::api::text::one_line;

/// Maximum number of files that the text lists.
const FILES: usize = 50;
/// Maximum number of characters of an item.
const ITEM: usize = 200;
const REST: &str = "Merge this pull request to publish this state. Opsy updates it while it is open, and closes it when \
                    nothing differs. If you close it without merging, Opsy opens another one only when the changes are \
                    different. If someone else pushes a commit to this branch, Opsy stops updating it.";

/// Returns the title for the files that differ from the target.
pub(super) fn title(paths: &[String], files: &Files) -> String {
    message::title(&paths.iter().filter_map(|path| files.get(path)).collect::<Vec<_>>())
}

/// Returns the text: what happened to which object, and which other files differ.
pub(super) fn text(paths: &[String], files: &Files, target: &str) -> String {
    let item = |path: &String| match files.get(path) {
        Some(file) => match (&file.resource, &file.summary) {
            (Some(resource), Some(summary)) => format!("- {}: {}", code(resource), code(summary)),
            (Some(resource), None) => format!("- {}", code(resource)),
            (None, _) => format!("- {}", code(path)),
        },
        None => format!("- {}", code(path)),
    };
    let mut lines: Vec<String> = paths.iter().take(FILES).map(item).collect();
    if paths.len() > FILES {
        lines.push(format!("- and {} more files", paths.len() - FILES));
    }
    format!("Opsy proposes these changes to the branch {}:\n\n{}\n\n{REST}\n", code(target), lines.join("\n"))
}

/// Returns a text as code, in which a forge finds no markup, no mentions and no links.
fn code(text: &str) -> String {
    let line = one_line(text).replace('`', "'");
    match line.char_indices().nth(ITEM) {
        Some((end, _)) => format!("`{}…`", &line[..end]),
        None => format!("`{line}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::commit::Edit;
    use crate::publish::Rendered;

    fn file(path: &str, resource: Option<&str>, summary: Option<&str>) -> (String, Rendered) {
        let rendered = Rendered {
            path: path.to_owned(),
            edit: Edit::Remove,
            resource: resource.map(str::to_owned),
            summary: summary.map(str::to_owned),
            trailers: Vec::new(),
            version: None,
        };
        (path.to_owned(), rendered)
    }

    #[test]
    fn the_text_lists_what_differs_and_has_no_markup_of_others() {
        let files = [
            file("status/a", Some("PackerBuilder/default/a"), Some("a built `ami-1`\n@everyone <!-- x -->")),
            file("status/amis.json", None, None),
        ];
        let files = Files::new(files.into());
        let paths = ["infra/prod.tfvars", "status/a", "status/amis.json"].map(str::to_owned);
        let text = text(&paths, &files, "main");
        let due = "Opsy proposes these changes to the branch `main`:\n\n- `infra/prod.tfvars`\n\
                   - `PackerBuilder/default/a`: `a built 'ami-1' @everyone <!-- x -->`\n- `status/amis.json`\n\n";
        assert!(text.starts_with(due), "{text}");
        assert_eq!(title(&paths, &files), "opsy: a built `ami-1` @everyone <!-- x -->");
    }

    #[test]
    fn a_long_list_is_cut() {
        let paths: Vec<String> = (0..60).map(|number| format!("{number}/{}", "x".repeat(300))).collect();
        let text = text(&paths, &Files::default(), "main");
        assert!(text.contains("- and 10 more files\n") && text.len() < 60_000, "{text}");
    }
}
