//! Which builders have which query: equal queries are stored and compared once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::TemplateQuery;
use crate::api::Key;
use crate::api::lock::lock;

/// The queries of builders. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Users(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    queries: BTreeMap<Key, Arc<TemplateQuery>>,
    /// Each distinct query once, with the number of builders that have it.
    distinct: BTreeMap<Arc<TemplateQuery>, usize>,
}

impl State {
    fn remove(&mut self, builder: &Key) {
        let Some(query) = self.queries.remove(builder) else { return };
        let left = self.distinct.get_mut(&query).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            self.distinct.remove(&query);
        }
    }
}

impl Users {
    /// Records the query of a builder. Returns the shared query.
    pub fn record(&self, builder: &Key, query: &TemplateQuery) -> Arc<TemplateQuery> {
        let mut state = lock(&self.0);
        if let Some(known) = state.queries.get(builder).filter(|known| ***known == *query) {
            return known.clone();
        }
        state.remove(builder);
        let shared = state.distinct.get_key_value(query).map(|(query, _)| query.clone());
        let shared = shared.unwrap_or_else(|| Arc::new(query.clone()));
        *state.distinct.entry(shared.clone()).or_default() += 1;
        state.queries.insert(builder.clone(), shared.clone());
        shared
    }

    pub fn forget(&self, builder: &Key) {
        lock(&self.0).remove(builder);
    }

    /// Forgets the builders that do not exist any more, if there are more than the `count` that exist: to look for them
    /// with every commit would cost more than to compare their queries.
    pub fn retain(&self, count: usize, exists: impl Fn(&Key) -> bool) {
        let mut state = lock(&self.0);
        if state.queries.len() > count {
            let gone: Vec<Key> = state.queries.keys().filter(|builder| !exists(builder)).cloned().collect();
            gone.iter().for_each(|builder| state.remove(builder));
        }
    }

    /// Returns each distinct query once.
    pub fn queries(&self) -> BTreeSet<Arc<TemplateQuery>> {
        lock(&self.0).distinct.keys().cloned().collect()
    }

    /// Returns the builders that have one of these queries.
    pub fn of(&self, queries: &BTreeSet<Arc<TemplateQuery>>) -> BTreeSet<Key> {
        if queries.is_empty() {
            return BTreeSet::new();
        }
        let state = lock(&self.0);
        let has = |(_, query): &(&Key, &Arc<TemplateQuery>)| queries.contains(*query);
        state.queries.iter().filter(has).map(|(builder, _)| builder.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "default".to_owned(), name: name.to_owned() }
    }

    fn query(template: &str) -> TemplateQuery {
        TemplateQuery { template: template.to_owned(), ..TemplateQuery::default() }
    }

    #[test]
    fn builders_are_found_by_their_query() {
        let users = Users::default();
        for (name, template) in [("a", "x"), ("b", "x"), ("c", "y")] {
            users.record(&key(name), &query(template));
        }
        assert_eq!(users.queries().len(), 2);
        let x = BTreeSet::from([Arc::new(query("x"))]);
        assert_eq!(users.of(&x), [key("a"), key("b")].into());
        users.record(&key("a"), &query("y"));
        users.forget(&key("b"));
        assert_eq!(users.of(&x), BTreeSet::new());
        users.retain(2, |key| key.name == "c");
        assert_eq!(users.queries().len(), 1, "both have the same query");
        users.retain(1, |key| key.name == "c");
        assert_eq!(users.queries().len(), 1);
        assert_eq!(users.of(&users.queries()), [key("c")].into());
    }
}
