//! Jobs that are kept for the log of a failed build outside the namespace of its builder. No owner reference reaches across
//! namespaces, so they are deleted here after the builder is deleted, by a person or because its manifest is gone. Which
//! Jobs these are is known from the status of the builder, not from what others can write into Jobs. After a restart it is
//! known again, unless the builder was deleted before: such a Job is deleted by its TTL.

use super::cache::Cache;
use super::client::RunClient;
use super::observed::RunKey;
use crate::api::{Class, Key};
use crate::engine::kubernetes::error::Refusal;

/// Deletes the Jobs that are kept for builders that do not exist any more. `has` returns whether the agent knows a builder.
pub async fn delete_of_gone(client: &RunClient<'_>, cache: &Cache, has: impl Fn(&Key) -> bool) {
    for (job, builder) in cache.kept().into_iter().filter(|(_, builder)| !has(builder)) {
        match delete_if_gone(client, &job, &builder).await {
            // An event will remove it too, but not if the Job did not exist any more.
            Ok(()) => cache.release(&job),
            Err(refusal) if matches!(refusal.class, Class::Denied | Class::Invalid) => {
                tracing::warn!(job = %job.name, "the log of a build of the deleted {builder} remains: {refusal}");
                cache.release(&job);
            }
            Err(refusal) => tracing::debug!(job = %job.name, error = %refusal, "trying again soon"),
        }
    }
}

/// Asks the API server first: a builder that the agent does not know may belong to another one now.
async fn delete_if_gone(client: &RunClient<'_>, job: &RunKey, builder: &Key) -> Result<(), Refusal> {
    if client.is_gone(builder).await? { client.delete(job).await } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use k8s_openapi::api::batch::v1::Job;
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::engine::kubernetes::Scope;
    use crate::engine::kubernetes::runs::place::places;
    use crate::engine::kubernetes::runs::recorded::Recorded;

    /// An API server that responds to requests about builders with this code, and records the others.
    fn server(code: u16) -> (Client, Arc<Mutex<Vec<String>>>) {
        let sent = Arc::<Mutex<Vec<String>>>::default();
        let requests = sent.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path().to_owned();
            let (code, body) = match path.contains("/packerbuilders/") {
                true if code == 200 => (
                    200,
                    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "node", "namespace": "team"}}),
                ),
                true => (
                    code,
                    json!({"kind": "Status", "status": "Failure", "code": code, "reason": "x", "message": "no", "metadata": {}}),
                ),
                false => (200, json!({"kind": "Status", "status": "Success", "metadata": {}})),
            };
            if !path.contains("/packerbuilders/") {
                requests.lock().expect("no panic").push(format!("{} {path}", request.method()));
            }
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            std::future::ready(Ok::<_, Infallible>(response.expect("a response")))
        });
        (Client::new(service, "default"), sent)
    }

    fn builder() -> Key {
        Key { namespace: "team".into(), name: "node".into() }
    }

    fn job(namespace: &str) -> Job {
        let labels = json!({"ami.opsy.dev/run": "node-1"});
        let metadata = json!({"name": "node-1", "namespace": namespace, "uid": "j1", "labels": labels});
        serde_json::from_value(json!({ "metadata": metadata })).expect("a Job")
    }

    /// A cache that keeps a Job in this namespace.
    fn keeping(namespace: &str) -> (Cache, RunKey) {
        let scope = places(&Scope::Namespaces(vec!["team".into()]), Some("builds"));
        let cache = Cache::new(scope, Box::new(|_| Recorded::default()));
        let key = super::super::observed::key_of(&job(namespace).metadata);
        cache.put(job(namespace));
        cache.forget(&key);
        cache.keep(&key, &builder());
        (cache, key)
    }

    const DELETED: [&str; 2] = [
        "DELETE /apis/batch/v1/namespaces/builds/jobs/node-1",
        "DELETE /api/v1/namespaces/builds/configmaps/node-1",
    ];

    #[tokio::test]
    async fn the_log_of_a_deleted_builder_is_deleted_once_and_that_of_no_other() {
        for (code, known, requests, is_left) in [
            (404, false, &DELETED[..], false),
            (404, true, &[], true),
            (200, false, &[], false),
            (403, false, &[], false),
            (500, false, &[], true),
        ] {
            let ((client, sent), (cache, _)) = (server(code), keeping("builds"));
            for _ in 0..2 {
                delete_of_gone(&RunClient::new(&client), &cache, |_| known).await;
            }
            assert_eq!(*sent.lock().expect("no panic"), requests, "{code} {known}");
            assert_eq!(!cache.kept().is_empty(), is_left, "{code} {known}");
        }
    }

    #[test]
    fn only_a_job_in_another_namespace_is_followed_until_it_is_gone() {
        assert!(keeping("team").0.kept().is_empty(), "its owner is the builder");
        let (cache, key) = keeping("builds");
        assert_eq!(cache.kept(), [(key, builder())].into());
        cache.job_deleted(&job("builds"));
        assert!(cache.kept().is_empty());
        let (cache, _) = keeping("builds");
        let jobs = places(&Scope::Namespaces(vec!["team".into()]), Some("builds")).remove(0);
        cache.end_jobs(&jobs, &BTreeSet::new());
        assert!(cache.kept().is_empty(), "its end was missed");
    }
}
