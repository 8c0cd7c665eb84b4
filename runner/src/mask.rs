//! Masks secrets in text before it is written anywhere. Pure.

/// Shorter values are not masked: they are easy to guess, and masking "1" or "no" would make the
/// output unreadable.
const SHORTEST_VALUE: usize = 4;
/// Each line of a multi-line secret is also masked on its own if it has at least this length, because
/// Packer prints line by line. Shorter lines of a JSON or PEM secret are brackets and padding.
const SHORTEST_LINE: usize = 8;
/// Variables whose values are masked even if the request does not name them.
pub const ALWAYS: [&str; 2] = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Variables that contain a proxy address. The user and password in it are masked.
pub const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

const MASKED: &str = "***";

/// Returns `user:password` and `password` if the URL contains them.
pub fn user_info(url: &str) -> Vec<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let Some((both, _)) = rest.rsplit_once('@') else { return Vec::new() };
    let password = both.split_once(':').map(|(_, password)| password);
    [Some(both), password].into_iter().flatten().map(str::to_owned).collect()
}

/// The strings to mask, longest first, so that a secret that contains another secret is masked completely.
#[derive(Debug, Default)]
pub struct Mask(Vec<String>);

impl Mask {
    /// Masks every value, each of its lines, and its form inside a JSON string.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut texts: Vec<String> = values.into_iter().flat_map(forms).collect();
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        texts.dedup();
        Self(texts)
    }

    /// Returns `text` with all secrets masked.
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), MASKED) } else { text }
        })
    }

    /// Like [`Mask::apply`], for truncated text: the beginning of a secret at the very end is
    /// masked too.
    pub fn apply_to_cut(&self, text: &str) -> String {
        let text = self.apply(text);
        match self.0.iter().filter_map(|secret| begun_at_end(&text, secret)).max() {
            Some(begun) => format!("{}{MASKED}", &text[..text.len() - begun]),
            None => text,
        }
    }
}

fn forms(value: &str) -> Vec<String> {
    let trimmed = value.trim();
    if trimmed.len() < SHORTEST_VALUE {
        return Vec::new();
    }
    let quoted = serde_json::Value::from(trimmed).to_string();
    let mut forms = vec![trimmed.to_owned(), quoted[1..quoted.len() - 1].to_owned()];
    if trimmed.contains('\n') {
        let lines = trimmed.lines().map(str::trim);
        forms.extend(lines.filter(|line| line.len() >= SHORTEST_LINE).map(str::to_owned));
    }
    forms
}

/// Returns how many bytes at the end of `text` are the beginning of `secret`.
fn begun_at_end(text: &str, secret: &str) -> Option<usize> {
    let lengths = secret.char_indices().map(|(at, _)| at).skip(1);
    lengths.filter(|&at| text.ends_with(&secret[..at])).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_values_wherever_they_stand() {
        let mask = Mask::new(["hunter22", "hunter22-and-more"]);
        assert_eq!(mask.apply("a hunter22-and-more b hunter22"), "a *** b ***");
        assert_eq!(mask.apply("nothing here"), "nothing here");
    }

    #[test]
    fn hides_the_credentials_of_a_proxy_and_not_its_address() {
        let hidden = user_info("http://ann:hunter22@proxy:3128");
        let mask = Mask::new(hidden.iter().map(String::as_str));
        assert_eq!(
            mask.apply("HTTPS_PROXY=http://ann:hunter22@proxy:3128"),
            "HTTPS_PROXY=http://***@proxy:3128"
        );
        assert_eq!(mask.apply("-U ann:hunter22, or hunter22"), "-U ***, or ***");
        assert!(user_info("http://proxy:3128").is_empty());
    }

    #[test]
    fn leaves_short_values_alone() {
        assert_eq!(Mask::new(["", "1", "yes"]).apply("1 yes"), "1 yes");
        assert_eq!(Mask::new(["1234"]).apply("pin 1234"), "pin ***");
    }

    #[test]
    fn hides_each_line_and_the_quoted_form_of_a_long_secret() {
        let key = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\n==\n-----END KEY-----\n";
        let mask = Mask::new([key]);
        assert_eq!(mask.apply("    build: MIIEowIBAAKCAQEA"), "    build: ***");
        let quoted = format!("k = {}", serde_json::Value::from(key.trim()));
        assert_eq!(mask.apply(&quoted), "k = \"***\"");
        assert_eq!(Mask::new(["pass\"word"]).apply(r#"{"p":"pass\"word"}"#), r#"{"p":"***"}"#);
    }

    #[test]
    fn hides_a_secret_that_a_cut_went_through() {
        let mask = Mask::new(["hunter22", "grüße-an-alle"]);
        assert_eq!(mask.apply_to_cut("pw hunter"), "pw ***");
        assert_eq!(mask.apply_to_cut("pw grü"), "pw ***");
        assert_eq!(mask.apply_to_cut("pw hunter22"), "pw ***");
        assert_eq!(mask.apply_to_cut("plain"), "plain");
    }
}
