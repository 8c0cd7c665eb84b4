//! Reads strings at known places of a JSON document and skips everything else without storing it. Any body takes time
//! in proportion to its length, and a bounded amount of memory. Pure.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::api::pushed::LONGEST;

/// A path of field names; `*` is every item of an array.
pub type Place = &'static [&'static str];

/// Maximum number of strings from one document. A push has some addresses, and seldom more than one branch.
const MOST_TEXTS: usize = 64;

/// The strings at the places.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order of the document.
    pub texts: Vec<Text>,
    /// Some strings were not kept: there were too many, or one was too long.
    pub is_cut: bool,
}

/// A string at a place.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    /// Index of the place.
    pub place: usize,
    /// Index in the innermost array that contains it.
    pub item: usize,
    pub text: String,
}

impl Found {
    /// The strings at one place.
    pub fn at(&self, place: usize) -> impl Iterator<Item = &Text> {
        self.texts.iter().filter(move |text| text.place == place)
    }
}

/// Reads a document. A value of another type at a place is skipped.
///
/// # Errors
/// The body is not JSON.
pub fn read(body: &[u8], places: &[Place]) -> Result<Found, String> {
    let mut found = Found::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let places = places.iter().copied().enumerate().collect();
    let walk = Walk { places, item: 0, found: &mut found };
    let read = walk.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    read.map_err(|error| error.to_string())?;
    Ok(found)
}

/// The places below the current value, each with the rest of its path.
struct Walk<'a> {
    places: Vec<(usize, Place)>,
    item: usize,
    found: &'a mut Found,
}

impl Walk<'_> {
    fn beyond(&self, step: &str) -> Vec<(usize, Place)> {
        let ahead = self.places.iter().filter(|(_, way)| way.first() == Some(&step));
        ahead.map(|(place, way)| (*place, &way[1..])).collect()
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        for (place, _) in self.places.iter().filter(|(_, way)| way.is_empty()) {
            if self.found.texts.len() >= MOST_TEXTS || text.len() > LONGEST {
                self.found.is_cut = true;
            } else {
                self.found.texts.push(Text { place: *place, item: self.item, text: text.to_owned() });
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let places = self.beyond(&name);
            if places.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Walk { places, item: self.item, found: self.found })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let places = self.beyond("*");
        if places.is_empty() {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let mut item = 0;
        while items.next_element_seed(Walk { places: places.clone(), item, found: self.found })?.is_some() {
            item += 1;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: &[Place] = &[&["repository", "url"], &["ref"], &["changes", "*", "name"]];

    fn texts(body: &str) -> Vec<(usize, usize, String)> {
        let found = read(body.as_bytes(), PLACES).expect("JSON");
        found.texts.into_iter().map(|text| (text.place, text.item, text.text)).collect()
    }

    #[test]
    fn strings_at_the_places_are_found_and_others_are_not() {
        let body = r#"{"x": {"repository": {"url": "no"}}, "repository": {"url": "yes", "name": "no"},
            "changes": [{"name": "a"}, 3, {"name": {"name": "no"}}, {"name": "b"}], "ref": "r"}"#;
        let expected = [(0, 0, "yes"), (2, 0, "a"), (2, 3, "b"), (1, 0, "r")];
        assert_eq!(texts(body), expected.map(|(place, item, text)| (place, item, text.to_owned())));
        for other in
            ["null", "[]", "3", "\"ref\"", "{\"ref\": [\"x\"], \"repository\": null, \"changes\": true}"]
        {
            assert_eq!(texts(other), [], "{other}");
        }
    }

    #[test]
    fn hostile_documents_are_skipped_or_refused() {
        let deep = |open: &str, close: &str| format!("{}{}", open.repeat(200_000), close.repeat(200_000));
        assert_eq!(
            texts(&format!("{{\"x\": {}, \"ref\": \"r\"}}", deep("[", "]"))),
            [(1, 0, "r".to_owned())]
        );
        assert!(read(deep("[", "]").as_bytes(), &[&["*", "*"]]).is_ok());
        assert!(read("{\"ref\":".repeat(100_000).as_bytes(), PLACES).is_err());
        let number = "9".repeat(500_000);
        assert_eq!(texts(&format!("{{\"x\": {number}, \"y\": 1e999999, \"ref\": \"r\"}}")).len(), 1);
        for broken in ["", "{", "{\"ref\": \"x\"} {}", "{\"ref\": \"\u{1}\"}", "{\"ref\": \"\\ud800\"}"] {
            assert!(read(broken.as_bytes(), PLACES).is_err(), "{broken:?}");
        }
        assert!(read(b"{\"ref\": \"\xff\"}", PLACES).is_err());
        assert!(read(b"\xff\xfe{\x00", PLACES).is_err());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many: Vec<String> = (0..100_000).map(|n| format!("{{\"name\": \"https://h/{n}\"}}")).collect();
        let found = read(format!("{{\"changes\": [{}]}}", many.join(",")).as_bytes(), PLACES).expect("JSON");
        assert!(found.is_cut && found.texts.len() == MOST_TEXTS);
        let long = format!("{{\"ref\": \"{}\"}}", "x".repeat(LONGEST + 1));
        let found = read(long.as_bytes(), PLACES).expect("JSON");
        assert!(found.is_cut && found.texts.is_empty());
    }
}
