//! What the response of a Prometheus to an instant query means. Pure.
//!
//! The query states the condition, as in a rule for alerts, but for what is good: `error_rate < 0.01` returns no sample
//! if it does not hold, and `error_rate < bool 0.01` returns 0.

use serde_json::Value;

use super::Verdict;

/// Characters of a number or an error that are shown.
const SHOWN: usize = 60;

/// `code` is the HTTP status in words.
pub fn judge(code: &str, body: &[u8]) -> Verdict {
    let Ok(response) = serde_json::from_slice::<Value>(body) else {
        return Verdict::bad(format!("no response of a Prometheus ({code})"));
    };
    if response["status"] != "success" {
        let kind = response["errorType"].as_str().filter(|kind| is_word(kind));
        return Verdict::bad(format!("the query failed: {} ({code})", kind.unwrap_or("no error type")));
    }
    let result = &response["data"]["result"];
    let samples: Vec<&str> = match response["data"]["resultType"].as_str() {
        Some("scalar") => result[1].as_str().into_iter().collect(),
        Some("vector") => result
            .as_array()
            .into_iter()
            .flatten()
            .map(|sample| sample["value"][1].as_str().unwrap_or("NaN"))
            .collect(),
        _ => return Verdict::bad("the query must return numbers: an instant vector or a scalar"),
    };
    let is_bad = |sample: &&&str| sample.parse::<f64>().is_ok_and(|number| number == 0.0 || number.is_nan());
    match (samples.as_slice(), samples.iter().find(is_bad)) {
        ([], _) => Verdict::bad("the query returned no sample"),
        (_, Some(bad)) => Verdict::bad(format!("the query returned {}", short(bad))),
        ([first, ..], None) => Verdict::good(format!("the query returned {}", short(first))),
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= SHOWN && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn short(number: &str) -> String {
    number.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-')).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(data: Value) -> (bool, String) {
        let body = json!({"status": "success", "data": data}).to_string();
        let Verdict { is_good, response } = judge("HTTP 200", body.as_bytes());
        (is_good, response)
    }

    fn vector(values: &[&str]) -> Value {
        let samples: Vec<Value> =
            values.iter().map(|value| json!({"metric": {}, "value": [1.0, value]})).collect();
        json!({"resultType": "vector", "result": samples})
    }

    #[test]
    fn a_result_is_good_if_it_has_samples_and_none_is_zero() {
        for (data, is_good, words) in [
            (vector(&["0.004"]), true, "the query returned 0.004"),
            (vector(&["1", "1"]), true, "the query returned 1"),
            (vector(&[]), false, "the query returned no sample"),
            (vector(&["1", "0"]), false, "the query returned 0"),
            (vector(&["NaN"]), false, "the query returned NaN"),
            (json!({"resultType": "scalar", "result": [1.0, "2"]}), true, "the query returned 2"),
            (json!({"resultType": "scalar", "result": [1.0, "0"]}), false, "the query returned 0"),
            (
                json!({"resultType": "matrix", "result": []}),
                false,
                "the query must return numbers: an instant vector or a scalar",
            ),
        ] {
            assert_eq!(judged(data), (is_good, words.to_owned()));
        }
    }

    #[test]
    fn what_a_server_wrote_is_not_repeated() {
        let error =
            json!({"status": "error", "errorType": "bad_data", "error": "password: hunter2"}).to_string();
        assert_eq!(judge("HTTP 400", error.as_bytes()).response, "the query failed: bad_data (HTTP 400)");
        let page = judge("HTTP 200", b"<html>hunter2</html>");
        assert_eq!(page, Verdict::bad("no response of a Prometheus (HTTP 200)"));
        let odd = json!({"status": "error", "errorType": "Hunter 2"}).to_string();
        assert_eq!(judge("HTTP 500", odd.as_bytes()).response, "the query failed: no error type (HTTP 500)");
    }
}
