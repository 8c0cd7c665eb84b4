//! The generated definitions, compared with the operator's and checked for the pitfalls of structural schemas.

use super::*;

/// The fields of `spec` in the operator's definition: path and type.
const OPERATOR_BUILDER_SPEC: &[(&str, &str)] = &[
    ("amiFilters", "array"),
    ("amiFilters[]", "object"),
    ("amiFilters[].name", "string"),
    ("amiFilters[].values", "array"),
    ("amiFilters[].values[]", "string"),
    ("builder", "object"),
    ("builder.branch", "string"),
    ("builder.commands", "array"),
    ("builder.commands[]", "object"),
    ("builder.commands[].args", "array"),
    ("builder.commands[].args[]", "string"),
    ("builder.commands[].color", "boolean"),
    ("builder.commands[].debug", "boolean"),
    ("builder.commands[].onError", "string"),
    ("builder.commands[].subCommand", "string"),
    ("builder.commands[].variables", "object"),
    ("builder.commands[].variables{}", "string"),
    ("builder.commands[].variablesFile", "string"),
    ("builder.commands[].workingDir", "string"),
    ("builder.debug", "boolean"),
    ("builder.dir", "string"),
    ("builder.image", "string"),
    ("builder.imageType", "string"),
    ("builder.jobServiceAccountName", "string"),
    ("builder.repoURL", "string"),
    ("builder.secret", "string"),
    ("clusterName", "string"),
    ("gitSync", "object"),
    ("gitSync.image", "string"),
    ("gitSync.name", "string"),
    ("gitSync.secret", "string"),
    ("notifier", "object"),
    ("notifier.slack", "object"),
    ("notifier.slack.channelIDs", "array"),
    ("notifier.slack.channelIDs[]", "string"),
    ("notifier.slack.secret", "string"),
    ("region", "string"),
    ("timeOuts", "object"),
    ("timeOuts.controllerTimer", "string"),
    ("timeOuts.expiresIn", "string"),
];

const OPERATOR_BUILDER_STATUS: &[(&str, &str)] = &[
    ("active", "array"),
    ("active[]", "object"),
    ("active[].apiVersion", "string"),
    ("active[].fieldPath", "string"),
    ("active[].kind", "string"),
    ("active[].name", "string"),
    ("active[].namespace", "string"),
    ("active[].resourceVersion", "string"),
    ("active[].uid", "string"),
    ("buildID", "string"),
    ("command", "string"),
    ("conditions", "array"),
    ("conditions[]", "object"),
    ("conditions[].lastTransitionTime", "string date-time"),
    ("conditions[].message", "string"),
    ("conditions[].reason", "string"),
    ("conditions[].status", "string"),
    ("conditions[].type", "string"),
    ("failedJobCount", "integer int32"),
    ("jobID", "string"),
    ("jobName", "string"),
    ("jobStatus", "string"),
    ("lastRun", "string date-time"),
    ("lastRunBaseImageID", "string"),
    ("lastRunBuiltImageID", "string"),
    ("lastRunKeyPair", "string"),
    ("lastRunMessage", "string"),
    ("lastRunSecurityGroupID", "string"),
    ("lastRunStatus", "string"),
    ("lastTransitionTime", "string date-time"),
    ("maxNumberOfFailedJobs", "integer int32"),
    ("state", "string"),
];

const OPERATOR_REFRESHER_SPEC: &[(&str, &str)] = &[
    ("ami", "string"),
    ("amiFilters", "array"),
    ("amiFilters[]", "object"),
    ("amiFilters[].name", "string"),
    ("amiFilters[].values", "array"),
    ("amiFilters[].values[]", "string"),
    ("clusterName", "string"),
    ("exclude", "array"),
    ("exclude[]", "string"),
    ("refreshConfig", "object"),
    ("refreshConfig.enable", "boolean"),
    ("refreshConfig.force", "boolean"),
    ("refreshConfig.maxUnavailable", "integer int32"),
    ("refreshConfig.maxUnavailablePercentage", "integer int32"),
    ("refreshConfig.waitForCompletion", "boolean"),
    ("region", "string"),
    ("timeOuts", "object"),
    ("timeOuts.controllerTimer", "string"),
    ("timeOuts.expiresIn", "string"),
];

const OPERATOR_REFRESHER_STATUS: &[(&str, &str)] = &[
    ("conditions", "array"),
    ("conditions[]", "object"),
    ("conditions[].lastTransitionTime", "string date-time"),
    ("conditions[].message", "string"),
    ("conditions[].reason", "string"),
    ("conditions[].status", "string"),
    ("conditions[].type", "string"),
    ("lastRun", "string date-time"),
    ("lastRunStatus", "string"),
];

/// Keywords of a schema that refuse values.
const VALIDATIONS: [&str; 11] = [
    "enum",
    "maximum",
    "maxItems",
    "maxLength",
    "minimum",
    "minItems",
    "minLength",
    "nullable",
    "pattern",
    "default",
    "x-kubernetes-validations",
];

fn field<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |schema, step| {
        let name = step.trim_end_matches("[]").trim_end_matches("{}");
        let mut found = schema["properties"].get(name)?;
        if step.ends_with("[]") {
            found = found.get("items")?;
        }
        if step.ends_with("{}") {
            found = found.get("additionalProperties")?;
        }
        Some(found)
    })
}

fn kind_of(schema: &Value) -> String {
    let words = [schema["type"].as_str(), schema["format"].as_str()];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_field_of_the_operator_is_there_and_refuses_nothing_new() {
    for (kind, part, fields) in [
        (Kind::PackerBuilder, "spec", OPERATOR_BUILDER_SPEC),
        (Kind::PackerBuilder, "status", OPERATOR_BUILDER_STATUS),
        (Kind::AMIRefresher, "spec", OPERATOR_REFRESHER_SPEC),
        (Kind::AMIRefresher, "status", OPERATOR_REFRESHER_STATUS),
    ] {
        let schema = &object(kind)["properties"][part];
        for (path, kind_due) in fields {
            let found = field(schema, path).unwrap_or_else(|| panic!("{kind} {part}.{path} is missing"));
            assert_eq!(kind_of(found), *kind_due, "{kind} {part}.{path}");
            for word in VALIDATIONS {
                assert!(found.get(word).is_none(), "{kind} {part}.{path} has {word}");
            }
        }
    }
}

/// Collects all required fields, by path.
fn required(schema: &Value, path: &str, all: &mut Vec<String>) {
    for name in schema["required"].as_array().into_iter().flatten() {
        all.push(format!("{path}.{}", name.as_str().unwrap()));
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        required(inner, &format!("{path}.{name}"), all);
    }
    if schema["items"].is_object() {
        required(&schema["items"], &format!("{path}[]"), all);
    }
}

#[test]
fn a_manifest_must_have_what_the_operator_demands_and_no_more() {
    for (kind, due) in
        [(Kind::PackerBuilder, vec![]), (Kind::AMIRefresher, vec!["spec.clusterName", "spec.region"])]
    {
        let mut all = Vec::new();
        required(spec(kind), "spec", &mut all);
        all.sort();
        assert_eq!(all, due, "{kind}");
        assert!(object(kind).get("required").is_none(), "{kind}");
    }
}

#[test]
fn names_and_columns_are_the_operators_first() {
    let [(_, builder), (_, refresher)] = crds();
    let columns = |crd: &Value| -> Vec<String> {
        let columns =
            crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().cloned().unwrap_or_default();
        columns.iter().map(|column| column["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(
        columns(builder),
        ["State", "Base Image", "Built Image", "Age", "Ready", "Reason", "Suspended", "Message"]
    );
    assert_eq!(
        columns(refresher),
        ["Cluster", "Target", "Drifted", "Age", "Ready", "Reason", "Suspended", "Message"]
    );
    for (crd, plural, short) in [(builder, "packerbuilders", "pb"), (refresher, "amirefreshers", "ar")] {
        assert_eq!(crd["metadata"]["name"], format!("{plural}.{GROUP}"));
        let names = &crd["spec"]["names"];
        assert_eq!((&names["plural"], &names["shortNames"]), (&json!(plural), &json!([short])));
        assert!(names.get("categories").is_none());
        assert_eq!(crd["spec"]["scope"], "Namespaced");
        assert_eq!(crd["spec"]["versions"][0]["subresources"], json!({"status": {}}));
    }
}

/// Calls `look` with every schema and its path.
fn walk(schema: &Value, path: &str, look: &mut dyn FnMut(&str, &Value)) {
    look(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(inner, &format!("{path}.{name}"), look);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}.{inner}"), look);
        }
    }
}

#[test]
fn schemas_are_structural_and_without_traps() {
    for (kind, _) in crds() {
        walk(object(*kind), "", &mut |path, schema| {
            let amount = schema["x-kubernetes-int-or-string"] == true;
            assert!(amount || schema["type"].is_string(), "{kind}{path} has no type");
            for word in ["nullable", "default", "anyOf", "oneOf", "allOf", "$ref", "not"] {
                assert!(schema.get(word).is_none(), "{kind}{path} has {word}");
            }
            let format = schema["format"].as_str().unwrap_or("int32");
            assert!(["int32", "int64", "date-time"].contains(&format), "{kind}{path} has format {format}");
            let name = path.rsplit('.').next().unwrap_or_default().to_lowercase();
            let booleans = ["y", "n", "yes", "no", "on", "off", "true", "false"];
            assert!(
                !booleans.contains(&name.as_str()),
                "{kind}{path}: YAML 1.1 reads this name as a boolean"
            );
        });
    }
}

#[test]
fn every_field_is_described() {
    for (kind, _) in crds() {
        walk(object(*kind), "", &mut |path, schema| {
            let inner = path.ends_with(".items")
                || path.ends_with(".additionalProperties")
                || path.contains(".active.");
            assert!(inner || schema["description"].is_string(), "{kind} {path} has no description");
        });
    }
}
