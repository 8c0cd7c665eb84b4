//! The likely other writer of a node group, by the tags of the group. Named by `plan` when a move was undone. Pure.

use crate::aws::Tags;

/// The tag that CloudFormation sets on the resources of a stack.
const STACK: &str = "aws:cloudformation:stack-name";
/// The prefix of the tags that eksctl sets.
const EKSCTL: &str = "alpha.eksctl.io/";
/// Tools that people name in tags of their own.
const TOOLS: [(&str, &str); 5] = [
    ("terraform", "Terraform"),
    ("opentofu", "OpenTofu"),
    ("terragrunt", "Terragrunt"),
    ("pulumi", "Pulumi"),
    ("crossplane", "Crossplane"),
];
/// How to make Terraform and its relatives ignore the launch template version.
const IGNORE: &str =
    "let it ignore the version (lifecycle { ignore_changes = [launch_template[0].version] })";

/// The likely writer, and what to change there.
pub fn likely_writer(tags: &Tags) -> String {
    let stack = tags.get(STACK);
    let eksctl = tags.keys().any(|key| key.starts_with(EKSCTL))
        || stack.is_some_and(|stack| stack.starts_with("eksctl-"));
    match (stack, eksctl) {
        (Some(stack), true) => format!(
            "likely by eksctl (CloudFormation stack {stack}): remove the launch template version from the stack"
        ),
        (None, true) => {
            "likely by eksctl: remove the launch template version from its configuration".to_owned()
        }
        (Some(stack), false) => format!(
            "likely by CloudFormation stack {stack}: remove the launch template version from the stack"
        ),
        (None, false) => by_tool(tags),
    }
}

fn by_tool(tags: &Tags) -> String {
    let named = tags.iter().find_map(|(key, value)| {
        let text = format!("{key}={value}").to_lowercase();
        let tool = TOOLS.iter().find(|(word, _)| text.contains(word));
        tool.map(|(_, tool)| format!("likely by {tool} (tag {key}={value}): {IGNORE}"))
    });
    named.unwrap_or_else(|| format!("likely by Terraform or by a person: with Terraform, {IGNORE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_of_a_group_name_its_writer() {
        let of = |tags: &[(&str, &str)]| {
            let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            likely_writer(&tags)
        };
        let text = of(&[("aws:cloudformation:stack-name", "nodes")]);
        assert!(text.starts_with("likely by CloudFormation stack nodes"), "{text}");
        let text =
            of(&[("alpha.eksctl.io/nodegroup-name", "web"), ("aws:cloudformation:stack-name", "eksctl-x")]);
        assert!(text.starts_with("likely by eksctl (CloudFormation stack eksctl-x)"), "{text}");
        let text = of(&[("ManagedBy", "Terraform")]);
        assert!(text.starts_with("likely by Terraform (tag ManagedBy=Terraform)"), "{text}");
        assert!(text.contains("ignore_changes = [launch_template[0].version]"), "{text}");
        assert!(of(&[]).starts_with("likely by Terraform or by a person"));
    }
}
