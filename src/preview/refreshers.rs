//! The item of a refresher: which node groups are moved, in which order, and what they wait for. Pure.

use super::report::{Action, GroupMove, Item};
use super::words::{count, list, seconds, short};
use crate::api::{Key, Kind, ObjectKey};
use crate::refresher::preview::{Group, GroupState, Intent, Preview, Wave};

/// The item for a decision; `None` if nothing happens. `builds` are the builders whose next image becomes the target.
pub fn item(preview: &Preview, builds: &[&Key]) -> Option<Item> {
    let groups = if builds.is_empty() { drifted(preview) } else { after(preview, builds) };
    let (action, what, why) = verdict(preview, &groups, builds)?;
    let details = if groups.is_empty() { Vec::new() } else { details(preview) };
    Some(Item {
        object: short(&object(&preview.key)),
        file: None,
        action,
        what,
        why,
        usual_seconds: None,
        groups,
        fields: Vec::new(),
        details,
    })
}

pub fn object(key: &Key) -> ObjectKey {
    ObjectKey { kind: Kind::AMIRefresher, key: key.clone() }
}

fn verdict(preview: &Preview, groups: &[GroupMove], builds: &[&Key]) -> Option<(Action, String, String)> {
    let moves = || moved(groups);
    Some(match &preview.intent {
        Intent::Stalled { message, .. } => {
            (Action::NeedsAttention, "no node group is moved".to_owned(), message.clone())
        }
        Intent::Paused { message, .. } if !drifted(preview).is_empty() => (
            Action::Drift,
            format!("{} not on the target", count(drifted(preview).len(), "node group")),
            message.clone(),
        ),
        Intent::Paused { .. } => return None,
        _ if !builds.is_empty() && groups.is_empty() => return None,
        _ if !builds.is_empty() => {
            let why = format!(
                "the new image of {}",
                list(builds.iter().map(|key| short(&super::builders::object(key))))
            );
            (Action::Rollout, format!("{} after the build", moves()), why)
        }
        Intent::Move { message } => (Action::Rollout, moves(), message.clone()),
        Intent::Hold { message, .. } => (Action::Wait, format!("{}, but not yet", moves()), message.clone()),
        Intent::Unknown { message } => (Action::Unknown, "the effect is unknown".to_owned(), message.clone()),
        Intent::Keep { .. } | Intent::Wait { .. } => return None,
    })
}

/// The groups that do not run the target.
fn drifted(preview: &Preview) -> Vec<GroupMove> {
    let to = |group: &Group| match &group.state {
        GroupState::Drifted(image) => {
            Some(image.clone().or_else(|| preview.target.clone()).unwrap_or_default())
        }
        _ => None,
    };
    in_order(preview, to)
}

/// The groups that a new image is rolled out to: all that can be moved.
fn after(preview: &Preview, builds: &[&Key]) -> Vec<GroupMove> {
    let image =
        format!("the new image of {}", list(builds.iter().map(|key| short(&super::builders::object(key)))));
    in_order(preview, |group| is_movable(group).then(|| image.clone()))
}

fn in_order(preview: &Preview, to: impl Fn(&Group) -> Option<String>) -> Vec<GroupMove> {
    let moved = |group: &Group| {
        Some(GroupMove {
            to: to(group)?,
            name: group.name.clone(),
            wave: group.wave.clone(),
            nodes: group.nodes,
            from: group.current.clone(),
        })
    };
    let mut moves: Vec<GroupMove> = preview.groups.iter().filter_map(moved).collect();
    let place = |wave: &Option<String>| {
        preview.waves.iter().position(|one| Some(&one.name) == wave.as_ref()).unwrap_or(usize::MAX)
    };
    moves.sort_by(|a, b| (place(&a.wave), &a.name).cmp(&(place(&b.wave), &b.name)));
    moves
}

fn moved(groups: &[GroupMove]) -> String {
    let nodes: u32 = groups.iter().filter_map(|group| group.nodes).sum();
    let groups =
        format!("{} {}", count(groups.len(), "node group"), if groups.len() == 1 { "rolls" } else { "roll" });
    if nodes == 0 { groups } else { format!("{groups}, {}", count(nodes as usize, "node")) }
}

/// What a reader should know of the rollout besides its groups.
fn details(preview: &Preview) -> Vec<String> {
    let mut details = waves(preview);
    details.extend(preview.closed.clone());
    if preview.rolls_back {
        details.push("if it fails, the node groups are rolled back".to_owned());
    }
    let unsupported = preview.groups.iter().filter_map(|group| match &group.state {
        GroupState::Unsupported(why) => Some(format!("{} is not moved: it {why}", group.name)),
        _ => None,
    });
    details.extend(unsupported);
    details
}

/// The waves that have groups, with what ends each of them.
pub fn waves(preview: &Preview) -> Vec<String> {
    let groups = |wave: &Wave| {
        let of_wave = preview.groups.iter().filter(|group| group.wave.as_ref() == Some(&wave.name));
        let names: Vec<&str> =
            of_wave.filter(|group| is_movable(group)).map(|group| group.name.as_str()).collect();
        names
    };
    let line = |wave: &Wave| {
        let names = groups(wave);
        if names.is_empty() {
            return None;
        }
        let mut line = format!("wave {}: {}", wave.name, list(names));
        if wave.needs_approval {
            line.push_str("; starts when it is approved");
        }
        if let Some(most) = wave.max_parallel.filter(|most| *most > 1) {
            line.push_str(&format!("; {most} groups at once"));
        }
        if wave.soak > 0 {
            line.push_str(&format!("; then soaks for {}", seconds(wave.soak)));
        }
        Some(line)
    };
    preview.waves.iter().filter_map(line).collect()
}

fn is_movable(group: &Group) -> bool {
    matches!(group.state, GroupState::OnTarget | GroupState::Drifted(_))
}

/// The groups whose wave differs between two versions of the spec.
pub fn moved_waves(before: &Preview, after: &Preview) -> Vec<String> {
    let none = || "no wave".to_owned();
    let changed = after.groups.iter().filter(|group| is_movable(group)).filter_map(|group| {
        let old = before.groups.iter().find(|old| old.name == group.name)?;
        let (old, new) = (old.wave.clone().unwrap_or_else(none), group.wave.clone().unwrap_or_else(none));
        (old != new).then(|| format!("{}: {old} → {new}", group.name))
    });
    changed.collect()
}
