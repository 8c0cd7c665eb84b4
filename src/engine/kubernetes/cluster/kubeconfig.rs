//! The kubeconfig of kubectl. It may be a list of files, which are merged as kubectl merges them: kube fails if one of
//! them is missing, and an empty current context of one hides that of the next.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kube::config::{Kubeconfig, KubeconfigError};

/// Reads the files of `KUBECONFIG`, else `~/.kube/config`.
pub(super) fn read() -> Result<Kubeconfig, KubeconfigError> {
    merge(paths(variable("KUBECONFIG").as_deref(), std::env::home_dir().as_deref()))
}

/// Whether kubectl has a cluster by default. An unreadable kubeconfig counts: the error of the connection explains it.
pub fn has_kubeconfig() -> bool {
    has_cluster(&read())
}

fn has_cluster(file: &Result<Kubeconfig, KubeconfigError>) -> bool {
    match file {
        Ok(file) => file.current_context.as_ref().is_some_and(|context| !context.is_empty()),
        Err(KubeconfigError::FindPath) => false,
        Err(KubeconfigError::ReadConfig(error, _)) => error.kind() != ErrorKind::NotFound,
        Err(_) => true,
    }
}

/// The files of a list, else the one in the home directory.
fn paths(list: Option<&OsStr>, home: Option<&Path>) -> Vec<PathBuf> {
    let named = list.map(std::env::split_paths).into_iter().flatten();
    let named: Vec<PathBuf> = named.filter(|path| !path.as_os_str().is_empty()).collect();
    match named.is_empty() {
        true => home.map(|home| home.join(".kube/config")).into_iter().collect(),
        false => named,
    }
}

/// Merges the files that exist. Returns the error of the first one if none does.
fn merge(paths: Vec<PathBuf>) -> Result<Kubeconfig, KubeconfigError> {
    let (mut merged, mut missing) = (None, None);
    for path in paths {
        match Kubeconfig::read_from(path) {
            Ok(mut file) => {
                file.current_context = file.current_context.filter(|context| !context.is_empty());
                merged = Some(match merged {
                    Some(earlier) => Kubeconfig::merge(earlier, file)?,
                    None => file,
                });
            }
            Err(KubeconfigError::ReadConfig(error, path)) if error.kind() == ErrorKind::NotFound => {
                missing.get_or_insert(KubeconfigError::ReadConfig(error, path));
            }
            Err(error) => return Err(error),
        }
    }
    merged.ok_or_else(|| missing.unwrap_or(KubeconfigError::FindPath))
}

#[expect(clippy::disallowed_methods, reason = "kubectl's own variable")]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kubeconfig with these clusters, each with a context of its name.
    fn file(dir: &Path, name: &str, current: &str, clusters: &[&str]) -> PathBuf {
        let all = |kind: &str, value: &dyn Fn(&str) -> String| {
            let items = clusters.iter().map(|name| format!("- name: {name}\n  {kind}: {}\n", value(name)));
            items.collect::<String>()
        };
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {current:?}\nclusters:\n{}contexts:\n{}",
            all("cluster", &|name| format!("{{server: https://{name}}}")),
            all("context", &|name| format!("{{cluster: {name}, user: me}}")),
        );
        let path = dir.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    #[test]
    fn files_are_merged_as_kubectl_merges_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing");
        let none = file(dir.path(), "none", "", &["eu"]);
        let prod = file(dir.path(), "prod", "us", &["eu", "us"]);
        let dev = file(dir.path(), "dev", "dev", &["dev"]);
        for (paths, current) in [
            (vec![&missing, &prod], "us"),
            (vec![&prod, &missing], "us"),
            (vec![&none, &prod, &dev], "us"),
            (vec![&dev, &prod], "dev"),
        ] {
            let merged = merge(paths.iter().copied().cloned().collect());
            assert!(has_cluster(&merged), "{paths:?}");
            let merged = merged.expect("merged");
            assert_eq!(merged.current_context.as_deref(), Some(current), "{paths:?}");
            assert!(merged.contexts.iter().any(|context| context.name == current), "{paths:?}");
        }
    }

    #[test]
    fn without_a_file_or_a_current_context_kubectl_has_no_cluster_and_an_invalid_file_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing");
        let none = file(dir.path(), "none", "", &["eu"]);
        assert!(!has_cluster(&merge(Vec::new())));
        assert!(!has_cluster(&merge(vec![missing.clone()])));
        assert!(!has_cluster(&merge(vec![missing.clone(), none.clone()])));
        let error = merge(vec![missing.clone()]).expect_err("it is missing");
        assert!(error.to_string().contains("missing"), "{error}");
        let broken = dir.path().join("broken");
        std::fs::write(&broken, "clusters: {").expect("written");
        let merged = merge(vec![none, broken]);
        assert!(merged.is_err() && has_cluster(&merged), "the connection explains it");
    }

    #[test]
    fn an_empty_list_is_the_file_in_the_home_directory() {
        let of = |list: Option<&str>| paths(list.map(OsStr::new), Some(Path::new("/home/ann")));
        for list in [None, Some(""), Some(":")] {
            assert_eq!(of(list), [Path::new("/home/ann/.kube/config")], "{list:?}");
        }
        assert_eq!(of(Some("/a::/b")), [Path::new("/a"), Path::new("/b")]);
        assert!(paths(None, None).is_empty());
    }
}
