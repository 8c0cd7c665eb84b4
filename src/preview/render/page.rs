//! A text with a limit. Parts are added item by item, each as a whole, so that neither a fence nor a tag stays open.

/// Bytes that a remark about what was cut may need.
const REMARK: usize = 120;

/// A text that takes no more than it has room for.
pub struct Page {
    text: String,
    limit: usize,
    has_cut: bool,
}

/// A part of a page: items between a beginning and an end.
pub struct Part<'a> {
    pub head: &'a str,
    pub items: Vec<String>,
    pub foot: &'a str,
    /// Bytes that the part may have, so that room is left for those that follow.
    pub room: usize,
    /// The remark about this number of items that were left out.
    pub more: fn(usize) -> String,
}

impl Page {
    pub fn new(text: String, limit: usize) -> Self {
        Self { text, limit, has_cut: false }
    }

    /// Adds as many items of a part as there is room for, and says how many are left out.
    pub fn add(&mut self, part: &Part<'_>) {
        if part.items.is_empty() {
            return;
        }
        let room = part.room.min(self.limit.saturating_sub(self.text.len()));
        let frame = part.head.len() + part.foot.len() + REMARK;
        if room < frame {
            self.has_cut = true;
            return;
        }
        let mut left = room - frame;
        let fits = |item: &&String| {
            let does = item.len() <= left;
            left = left.saturating_sub(item.len());
            does
        };
        let added: Vec<&String> = part.items.iter().take_while(fits).collect();
        let cut = part.items.len() - added.len();
        self.text.push_str(part.head);
        added.into_iter().for_each(|item| self.text.push_str(item));
        if cut > 0 {
            self.has_cut = true;
            self.text.push_str(&(part.more)(cut));
        }
        self.text.push_str(part.foot);
    }

    /// The text, with this end if anything was left out.
    pub fn finish(mut self, if_cut: &str) -> String {
        if self.has_cut {
            self.text.push_str(if_cut);
        }
        self.text
    }
}
