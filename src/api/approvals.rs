//! The annotation `ami.opsy.dev/approve`, with which a person lets a wave of a rollout start: `<wave>=<ami>`, several
//! separated by commas. In a manifest, a pull request approves; on a live object, `opsy approve` does. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::ImageId;
use super::annotations::{APPROVE, value};

/// Maximum length of the name of a wave: that of a Kubernetes label.
const NAME_LIMIT: usize = 63;

/// One image that is approved for one wave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    pub wave: String,
    pub image: ImageId,
}

/// Parses the value of the annotation.
///
/// # Errors
/// Returns what is wrong with the first invalid part.
pub fn parse(text: &str) -> Result<Vec<Approval>, String> {
    parts(text).map(one).collect()
}

/// Returns the approvals of an object. A part that is invalid approves nothing, and the other parts count:
/// on a live object, no commit can correct it.
pub fn of(metadata: &ObjectMeta) -> Vec<Approval> {
    parts(value(metadata, APPROVE).unwrap_or_default()).filter_map(|part| one(part).ok()).collect()
}

/// Returns the value of the annotation that approves these images for a wave, in addition to what it approves for other
/// waves, and to the images of the current target that it approves for this one. Invalid parts are removed.
pub fn with(text: &str, wave: &str, images: &[ImageId], target: &[ImageId]) -> String {
    let remains = |approval: &Approval| {
        approval.wave != wave || (target.contains(&approval.image) && !images.contains(&approval.image))
    };
    let earlier = parts(text).filter_map(|part| one(part).ok()).filter(remains);
    let added = images.iter().map(|image| Approval { wave: wave.to_owned(), image: image.clone() });
    let all = earlier.chain(added).map(|Approval { wave, image }| format!("{wave}={image}"));
    all.collect::<Vec<_>>().join(",")
}

/// Returns whether this may be the name of a wave. It is a part of the annotation, so `=` and `,` are not allowed.
pub fn is_wave_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=NAME_LIMIT).contains(&name.len()) && name.chars().all(allowed)
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn one(part: &str) -> Result<Approval, String> {
    let shape = || format!("{part:?} must be <wave>=<ami>, such as prod=ami-0123456789abcdef0");
    let (wave, image) = part.split_once('=').ok_or_else(shape)?;
    let (wave, image) = (wave.trim(), image.trim());
    if !is_wave_name(wave) {
        return Err(shape());
    }
    let image = ImageId::parse(image).map_err(|error| format!("{part:?}: {error}"))?;
    Ok(Approval { wave: wave.to_owned(), image })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_waves_and_images_are_approved_by_one_value() {
        let approvals = parse("prod=ami-00000001, prod=ami-00000002,,batch = ami-00000001,").expect("valid");
        let all: Vec<_> = approvals.iter().map(|it| format!("{}:{}", it.wave, it.image)).collect();
        assert_eq!(all, ["prod:ami-00000001", "prod:ami-00000002", "batch:ami-00000001"]);
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_an_approval_is_named_and_approves_nothing() {
        for bad in ["prod", "prod=", "=ami-00000001", "prod=newest", "a b=ami-00000001"] {
            assert!(parse(bad).expect_err("invalid").contains(bad), "{bad}");
            let annotations = [(APPROVE.to_owned(), format!("{bad},ok=ami-00000001"))].into();
            let found = of(&ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() });
            assert_eq!(found.len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_further_approval_replaces_those_of_the_same_wave_for_other_targets() {
        let [old, new, arm] = ["ami-00000001", "ami-00000002", "ami-00000003"]
            .map(|image| ImageId::parse(image).expect("an ID"));
        let new_only = [new.clone()];
        let text = "canary=ami-00000001,prod=ami-00000001,broken";
        assert_eq!(with(text, "prod", &new_only, &new_only), "canary=ami-00000001,prod=ami-00000002");
        assert_eq!(with("", "prod", &new_only, &new_only), "prod=ami-00000002");
        // A target with an image per architecture, of which each is approved by itself.
        let target = [new.clone(), arm.clone()];
        let first = with(&format!("prod={old}"), "prod", &new_only, &target);
        assert_eq!(first, "prod=ami-00000002");
        let second = with(&first, "prod", &[arm], &target);
        assert_eq!(second, "prod=ami-00000002,prod=ami-00000003");
        assert_eq!(with(&second, "prod", &new_only, &target), "prod=ami-00000003,prod=ami-00000002");
    }
}
