//! Messages without their changing parts: what a server adds to each response (request IDs, encoded blobs, hosts) and
//! what identifies a single attempt (times, IDs of instances and images). Two messages whose remaining parts are equal
//! mean the same. All edges, status and the notifier compare messages in this way. Pure.

/// Replaces a changing part.
const CHANGES: &str = "…";
/// Hexadecimal tokens with at least this many digits are IDs: no word is as long.
const HEX: usize = 12;
/// Tokens of at least this length with upper case, lower case and digits, but no dot, are encoded data.
const BLOB: usize = 32;
/// Number of digits in the IDs of AWS resources, old and new.
const RESOURCE: [usize; 2] = [8, 17];

/// Which parts of a message are masked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// Request IDs, encoded data, and addresses of hosts.
    Noise,
    /// Also times.
    Times,
    /// Also IDs of resources.
    Ids,
}

/// Returns the response of a server for people: without request IDs, encoded data, addresses of hosts and times, so
/// that the same response always has the same text.
pub fn answer(text: &str) -> String {
    masked(text, Depth::Times)
}

/// Returns a form that is equal for messages without news: they differ at most in request IDs, encoded data and
/// addresses of hosts.
pub fn news(text: &str) -> String {
    masked(text, Depth::Noise)
}

/// Returns a form that is equal for messages with the same cause: they also differ in times and in IDs of resources.
pub fn cause(text: &str) -> String {
    masked(text, Depth::Ids)
}

fn masked(text: &str, depth: Depth) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // A token with digits after a word like "RequestId" is an ID, even a short one.
    let mut named = false;
    while let Some(start) = rest.find(|c| !is_separator(c)) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(is_separator).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        let bare = token.trim_end_matches(['.', ':', '-']);
        if (named && looks_like_id(bare)) || changes(bare, depth) {
            out.push_str(CHANGES);
            out.push_str(&token[bare.len()..]);
        } else {
            out.push_str(token);
        }
        named = names_a_request(bare) || (named && bare.eq_ignore_ascii_case("id"));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '"' | '\'' | '`' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | ',' | ';' | '=')
}

/// Returns whether a word announces a request ID: `RequestID`, `request`, `requestId:`, or `HostId` of S3.
fn names_a_request(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    matches!(
        word.trim_end_matches(':'),
        "requestid"
            | "request_id"
            | "request-id"
            | "x-amzn-requestid"
            | "x-amz-request-id"
            | "request"
            | "hostid"
    )
}

fn looks_like_id(word: &str) -> bool {
    word.chars().any(|c| c.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

fn changes(word: &str, depth: Depth) -> bool {
    let noise = is_hex_id(word) || is_blob(word) || is_address(word);
    noise || (depth >= Depth::Times && is_time(word)) || (depth >= Depth::Ids && is_resource(word))
}

/// Returns whether a word is a UUID or a long hexadecimal number. Twelve decimal digits are an account ID, which is not
/// masked.
fn is_hex_id(word: &str) -> bool {
    let lengths = || word.split('-').map(str::len);
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    let uuid = lengths().eq([8, 4, 4, 4, 12]) && word.chars().all(hex);
    let letters = word.chars().any(|c| c.is_ascii_alphabetic());
    uuid || (word.len() >= HEX
        && word.chars().all(|c| c.is_ascii_hexdigit())
        && (letters || word.len() > HEX))
}

fn is_blob(word: &str) -> bool {
    let any = |of: fn(&char) -> bool| word.chars().any(|c| of(&c));
    let all = word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '_' | '-'));
    word.len() >= BLOB
        && all
        && any(char::is_ascii_uppercase)
        && any(char::is_ascii_lowercase)
        && any(char::is_ascii_digit)
}

/// Returns whether a word is an IPv4 address, with or without a port, or the host name that AWS makes from one.
fn is_address(word: &str) -> bool {
    let host = word.split(':').next().unwrap_or(word).trim_end_matches('-');
    let numbers = |text: &str, by: char| {
        let parts: Vec<&str> = text.split(by).collect();
        parts.len() == 4 && parts.iter().all(|part| part.parse::<u8>().is_ok())
    };
    let named = host.strip_prefix("ip-").map(|rest| rest.split('.').next().unwrap_or(rest));
    numbers(host, '.') || named.is_some_and(|rest| numbers(rest, '-'))
}

/// Returns whether a word is a date, a time of day, both, or a duration (`1m2.5s`).
fn is_time(word: &str) -> bool {
    let digit = |c: char| c.is_ascii_digit();
    let parts = |text: &str, by: char| {
        let parts: Vec<&str> = text.split(by).collect();
        parts.len() >= 3 && parts.iter().all(|part| part.starts_with(digit))
    };
    let date = word.split(['T', 't']).next().is_some_and(|day| parts(day, '-') && day.len() >= 8);
    let time = parts(word, ':');
    let units = word.chars().all(|c| digit(c) || matches!(c, '.' | 'h' | 'm' | 's' | 'µ' | 'n'));
    let length = word.starts_with(digit) && word.ends_with('s') && units;
    date || time || length
}

/// Returns whether a word is the ID of a resource, such as `i-0123456789abcdef0`, `ami-…` or `snap-…`. It may be at the
/// end of an ARN.
fn is_resource(word: &str) -> bool {
    let last = word.rsplit(['/', ':']).next().unwrap_or(word);
    last.rsplit_once('-').is_some_and(|(kind, id)| {
        let kind_is_plain = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        let id_is_hex = id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        kind_is_plain && id_is_hex && RESOURCE.contains(&id.len()) && id.chars().any(|c| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_same_words_whatever_the_server_adds() {
        let raw = |id: &str, host: &str, time: &str, blob: &str, word: &str| {
            format!(
                "Service failure [RequestID={id}, host={host}.ec2.internal], at {time}; trace: {blob}== ({word})"
            )
        };
        let one = raw(
            "5f8a7c1e-0b57-4d6e-9a3f-2d1c0e9b8a76",
            "ip-10-0-3-17",
            "2026-11-28T19:04:05.123456",
            "Qk9YRkxJQ0tFUlNBTkRTT01FTE9OR0JMT0Ib1xyzA9+/Zz",
            "abcfedabcdef",
        );
        let two = raw(
            "0c0ffee0-1111-4222-8333-444455556666",
            "ip-10-0-200-4",
            "2026-11-28T19:06:00.5",
            "8kQzYRkxJQ0tFUlNBTkRTT01FTE9OR0JMT0Ib1xyzA9Zq",
            "fedcbafedcba",
        );
        assert_eq!(answer(&one), answer(&two));
        assert_eq!(answer(&one), "Service failure [RequestID=…, host=…], at …; trace: …== (…)");
    }

    #[test]
    fn each_depth_masks_its_own() {
        let text = "dial tcp 127.0.0.1:45123->10.0.0.2:53: i/o timeout after 30.1s for i-0123456789abcdef0 at 12:30:01";
        assert_eq!(news(text), "dial tcp …->…: i/o timeout after 30.1s for i-0123456789abcdef0 at 12:30:01");
        assert_eq!(answer(text), "dial tcp …->…: i/o timeout after … for i-0123456789abcdef0 at …");
        assert_eq!(cause(text), "dial tcp …->…: i/o timeout after … for … at …");
    }

    #[test]
    fn what_says_something_stays() {
        for text in [
            "User: arn:aws:iam::123456789012:user/opsy is not authorized to perform: ec2:RunInstances",
            "packer/AL2023/eks-node-Template.pkr.hcl:3: Unsupported argument",
            "failure 1 of 2; try t3.large in us-east-1a, 30 nodes, Kubernetes 1.31",
            "the request was refused",
            "Script exited with non-zero exit status: 127",
            "sha1 of the file; version 1.16.0; m6i.2xlarge",
        ] {
            assert_eq!(cause(text), text);
        }
    }

    #[test]
    fn what_is_named_an_id_is_one() {
        assert_eq!(cause("Denied (Request ID: 4442587FB7D0A2F9)"), "Denied (Request ID: …)");
        assert_eq!(cause("RequestId: AB12, code 7"), "RequestId: …, code 7");
        assert_eq!(
            news("image ami-0abc1234 of arn:aws:ec2:us-east-1::image/ami-0123456789abcdef0"),
            "image ami-0abc1234 of arn:aws:ec2:us-east-1::image/ami-0123456789abcdef0"
        );
        assert_eq!(cause("image ami-0abc1234 is gone"), "image … is gone");
    }
}
