//! Who else is likely to write a node group, by the tags of the group. Pure.

use crate::aws::Tags;

/// Set by CloudFormation on all that a stack makes.
const STACK: &str = "aws:cloudformation:stack-name";
/// Set by eksctl.
const EKSCTL: &str = "alpha.eksctl.io/";
/// Tools that people name in tags of their own.
const TOOLS: [(&str, &str); 5] = [
    ("terraform", "Terraform"),
    ("opentofu", "OpenTofu"),
    ("terragrunt", "Terragrunt"),
    ("pulumi", "Pulumi"),
    ("crossplane", "Crossplane"),
];

/// Who it likely is, and what to change there.
pub fn likely(tags: &Tags) -> String {
    let stack = tags.get(STACK);
    let eksctl = tags.keys().any(|key| key.starts_with(EKSCTL))
        || stack.is_some_and(|stack| stack.starts_with("eksctl-"));
    match (stack, eksctl) {
        (Some(stack), true) => {
            format!(
                "likely by eksctl (CloudFormation stack {stack}): take the launch template version out of it"
            )
        }
        (None, true) => {
            "likely by eksctl: take the launch template version out of its configuration".to_owned()
        }
        (Some(stack), false) => {
            format!("likely by CloudFormation stack {stack}: take the launch template version out of it")
        }
        (None, false) => by_tool(tags),
    }
}

fn by_tool(tags: &Tags) -> String {
    const IGNORE: &str =
        "let it ignore the version (lifecycle { ignore_changes = [launch_template[0].version] })";
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
            likely(&tags)
        };
        let said = of(&[("aws:cloudformation:stack-name", "nodes")]);
        assert!(said.starts_with("likely by CloudFormation stack nodes"), "{said}");
        let said =
            of(&[("alpha.eksctl.io/nodegroup-name", "web"), ("aws:cloudformation:stack-name", "eksctl-x")]);
        assert!(said.starts_with("likely by eksctl (CloudFormation stack eksctl-x)"), "{said}");
        let said = of(&[("ManagedBy", "Terraform")]);
        assert!(said.starts_with("likely by Terraform (tag ManagedBy=Terraform)"), "{said}");
        assert!(said.contains("ignore_changes = [launch_template[0].version]"), "{said}");
        assert!(of(&[]).starts_with("likely by Terraform or by a person"));
    }
}
