//! An outline: lines below each other, drawn as a tree. Pure.

use crate::api::text::without_line_breaks;

/// A line, and the lines that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    pub text: String,
    pub children: Vec<Outline>,
}

impl Outline {
    pub fn line(text: impl Into<String>) -> Self {
        Self { text: text.into(), children: Vec::new() }
    }

    pub fn with(self, children: impl IntoIterator<Item = Self>) -> Self {
        Self { children: children.into_iter().collect(), ..self }
    }

    /// Draws the tree, one line for each text. A line break in a text becomes a space.
    pub fn draw(&self) -> String {
        let mut drawn = without_line_breaks(&self.text);
        drawn.push('\n');
        self.draw_children("", &mut drawn);
        drawn
    }

    fn draw_children(&self, margin: &str, drawn: &mut String) {
        for (at, child) in self.children.iter().enumerate() {
            let is_last = at + 1 == self.children.len();
            let (branch, next) = if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
            drawn.push_str(&format!("{margin}{branch}{}\n", without_line_breaks(&child.text)));
            child.draw_children(&format!("{margin}{next}"), drawn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_below_the_one_that_it_belongs_to() {
        let first = Outline::line("a\nb").with([Outline::line("c")]);
        let tree = Outline::line("root").with([first, Outline::line("d").with([Outline::line("e")])]);
        assert_eq!(tree.draw(), "root\n├── a b\n│   └── c\n└── d\n    └── e\n");
    }
}
