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
    /// Each distinct query once.
    distinct: BTreeSet<Arc<TemplateQuery>>,
}

impl Users {
    /// Records the query of a builder. Returns the shared query.
    pub fn record(&self, builder: &Key, query: &TemplateQuery) -> Arc<TemplateQuery> {
        let mut state = lock(&self.0);
        if let Some(known) = state.queries.get(builder).filter(|known| ***known == *query) {
            return known.clone();
        }
        let shared = state.distinct.get(query).cloned().unwrap_or_else(|| Arc::new(query.clone()));
        state.distinct.insert(shared.clone());
        state.queries.insert(builder.clone(), shared.clone());
        shared
    }

    pub fn forget(&self, builder: &Key) {
        lock(&self.0).queries.remove(builder);
    }

    /// Forgets the builders that do not exist any more, and the queries that no builder has.
    pub fn retain(&self, exists: impl Fn(&Key) -> bool) {
        let mut state = lock(&self.0);
        state.queries.retain(|builder, _| exists(builder));
        state.distinct = state.queries.values().cloned().collect();
    }

    /// Returns each distinct query once.
    pub fn queries(&self) -> BTreeSet<Arc<TemplateQuery>> {
        lock(&self.0).queries.values().cloned().collect()
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
        users.retain(|key| key.name == "c");
        assert_eq!(users.queries().len(), 1);
        assert_eq!(users.of(&users.queries()), [key("c")].into());
    }
}
