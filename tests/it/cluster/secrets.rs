//! Secrets of notifications: they are read by name, with no more rights than the chart's Role.

use opsy::api::Class;
use opsy::engine::SecretReader;
use opsy::engine::kubernetes::objects::ClusterHome;
use opsy::engine::objects::Objects;

use super::{Place, SOON, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_read_by_name_and_what_is_in_the_way_is_told() {
    let place = Place::new().await;
    let manifest =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: slack}\ndata: {token: eG94Yi0x, store: //79}\n";
    place.kubectl(&["create", "-f", "-"], manifest);
    let (cluster, requests) = place.cluster(place.scope()).await;
    let (objects, _queues) = Objects::new();
    let home = ClusterHome::start(cluster, objects, super::lease::tenure("test"));
    let secret = async |name: &str| home.secret(&place.namespace, name).await;

    let values = secret("slack").await.expect("the chart's Role allows it");
    assert_eq!(values.into_iter().collect::<Vec<_>>(), [("token".to_owned(), "xoxb-1".to_owned())]);
    place.kubectl(&["patch", "secret", "slack", "-p", r#"{"stringData":{"token":"xoxb-2"}}"#], "");
    assert_eq!(secret("slack").await.expect("it is read again")["token"], "xoxb-2");

    let error = secret("other").await.expect_err("there is none");
    assert_eq!(error.class, Class::NotFound, "{error}");
    assert!(error.message.contains("kubectl create secret generic other"), "{error}");

    let error = home.secret("kube-system", "slack").await.expect_err("the namespace is not watched");
    assert!(error.class == Class::Denied && error.message.contains("does not watch"), "{error}");

    place.allow(&place.namespace, |(resource, _)| resource != "secrets").await;
    let error = until("the rule to be gone", SOON, async || secret("slack").await.err()).await;
    assert_eq!(error.class, Class::Denied, "{error}");
    assert!(error.message.contains("notifications.secrets"), "{error}");

    let asked: Vec<_> = requests.all().into_iter().filter(|line| line.contains("secrets")).collect();
    let named =
        |line: &String| line.starts_with("GET ") && !line.contains("watch") && !line.ends_with("/secrets");
    assert!(asked.len() >= 4 && asked.iter().all(named), "{asked:#?}");
}
