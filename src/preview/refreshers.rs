//! The effect on a refresher: which node groups are moved, in which order, and what they wait for. Pure.

use super::effect::{Effect, Matters};
use super::report::{Action, GroupMove, Item};
use super::words::{count, list, seconds, short, verb};
use crate::api::builder::InputsRecord;
use crate::api::{Key, Kind, ObjectKey};
use crate::refresher::preview::{Group, GroupState, Intent, Next, Preview, Wave};

/// What happens before a refresher decides, to the builders of its images.
#[derive(Clone, Debug, Default)]
pub struct Upstream<'a> {
    /// The builds whose images become the target.
    pub builds: Vec<Built<'a>>,
    /// The builders of which it is not known whether they build.
    pub unknown: Vec<&'a Key>,
    /// Why the facts of the decision may not be right.
    pub doubt: Option<String>,
}

/// A build that starts.
#[derive(Clone, Copy, Debug)]
pub struct Built<'a> {
    pub builder: &'a Key,
    pub inputs: &'a InputsRecord,
}

/// The effect of a decision; `None` if nothing happens.
pub fn effect(preview: &Preview, upstream: &Upstream<'_>) -> Option<Effect> {
    let object = || short(&object(&preview.key));
    let attention = |why: String| {
        Some(Effect::of_message(object(), Action::NeedsAttention, "no node group is moved", why))
    };
    match &preview.intent {
        Intent::Paused { message } => return drift(preview, message),
        Intent::Stalled { message, until_next_image: false } => return attention(message.clone()),
        _ => {}
    }
    if let Some(doubt) = &upstream.doubt {
        return Some(Effect::unknown(object(), doubt.clone()));
    }
    if !upstream.builds.is_empty() {
        let inputs: Vec<&InputsRecord> = upstream.builds.iter().map(|built| built.inputs).collect();
        return match preview.next(&inputs) {
            Next::RollsOut => rollout_of_builds(preview, upstream),
            Next::Stays(why) => attention(format!("the new image of {} is held: {why}", names(upstream))),
            Next::Unknown(why) => Some(Effect::unknown(object(), why)),
        };
    }
    match &preview.intent {
        Intent::Move { message } => Some(rollout(preview, Action::Rollout, message)),
        Intent::Hold { message } => Some(rollout(preview, Action::Wait, message)),
        Intent::Unknown { message } => Some(Effect::unknown(object(), message.clone())),
        Intent::Stalled { message, .. } => attention(message.clone()),
        Intent::Keep { .. } | Intent::Wait { .. } | Intent::Paused { .. } => {
            match upstream.unknown.as_slice() {
                [] => None,
                builders => {
                    let builders = list(builders.iter().map(|key| short(&super::builders::object(key))));
                    Some(Effect::unknown(
                        object(),
                        format!("whether {builders} builds a new image is unknown"),
                    ))
                }
            }
        }
    }
}

pub fn object(key: &Key) -> ObjectKey {
    ObjectKey { kind: Kind::AMIRefresher, key: key.clone() }
}

fn drift(preview: &Preview, why: &str) -> Option<Effect> {
    let groups = drifted(preview);
    let what = match groups.len() {
        0 => return None,
        1 => "1 node group does not run the target".to_owned(),
        many => format!("{many} node groups do not run the target"),
    };
    let item = Item::new(short(&object(&preview.key)), Action::Drift, what, why.to_owned());
    Some(Effect { matters: matters(Action::Drift, &groups, &[], None), item: Item { groups, ..item } })
}

/// Groups are moved to the target.
fn rollout(preview: &Preview, action: Action, message: &str) -> Effect {
    let groups = drifted(preview);
    let (what, waits) = match action {
        Action::Wait => (format!("{}, but not yet", rolls(&groups)), Some(message.to_owned())),
        _ => (rolls(&groups), None),
    };
    let why = [message.to_owned()].into_iter().chain(unreadable(preview)).collect::<Vec<_>>().join("; ");
    let item = Item::new(short(&object(&preview.key)), action, what, why);
    Effect {
        matters: matters(action, &groups, &[], waits),
        item: Item { groups, details: details(preview), ..item },
    }
}

/// Groups are moved to images that are built first: all groups that can be moved.
fn rollout_of_builds(preview: &Preview, upstream: &Upstream<'_>) -> Option<Effect> {
    let object = short(&object(&preview.key));
    let image = format!("the new image of {}", names(upstream));
    let groups = in_order(preview, |group| group.is_movable().then(|| image.clone()));
    if groups.is_empty() {
        return unreadable(preview).map(|why| Effect::unknown(object, why));
    }
    let why = [Some(image), preview.closed.clone(), unreadable(preview)];
    let why: Vec<String> = why.into_iter().flatten().collect();
    let what = format!("{}, after the build", rolls(&groups));
    let item = Item::new(object, Action::Rollout, what, why.join("; "));
    let built_from: Vec<&InputsRecord> = upstream.builds.iter().map(|built| built.inputs).collect();
    Some(Effect {
        matters: matters(Action::Rollout, &groups, &built_from, None),
        item: Item { groups, details: details(preview), ..item },
    })
}

fn names(upstream: &Upstream<'_>) -> String {
    list(upstream.builds.iter().map(|built| short(&super::builders::object(built.builder))))
}

fn matters(
    action: Action,
    groups: &[GroupMove],
    built_from: &[&InputsRecord],
    waits: Option<String>,
) -> Matters {
    let one = |group: &GroupMove| (group.name.clone(), group.wave.clone(), group.to.clone());
    Matters::Rollout {
        action,
        moves: groups.iter().map(one).collect(),
        built_from: built_from.iter().map(|inputs| (*inputs).clone()).collect(),
        waits,
    }
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

/// `3 node groups roll (5 nodes)`.
fn rolls(groups: &[GroupMove]) -> String {
    let nodes: u32 = groups.iter().filter_map(|group| group.nodes).sum();
    let nodes = if nodes == 0 { String::new() } else { format!(" ({})", count(nodes as usize, "node")) };
    format!("{} {}{nodes}", count(groups.len(), "node group"), verb(groups.len(), "roll"))
}

/// The groups of which it is not known whether they are moved.
fn unreadable(preview: &Preview) -> Option<String> {
    let why = |group: &Group| match &group.state {
        GroupState::Unreadable(why) => Some(format!("{} could not be read: {why}", group.name)),
        _ => None,
    };
    let all: Vec<String> = preview.groups.iter().filter_map(why).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// What a reader should know of the rollout besides its groups.
fn details(preview: &Preview) -> Vec<String> {
    let mut details = waves(preview);
    if preview.rolls_back {
        details.push("if it fails, the node groups are rolled back".to_owned());
    }
    if let Some(newer) = &preview.followed_by {
        details.push(format!("{newer} is rolled out when this rollout has ended"));
    }
    let excluded = preview.groups.iter().filter(|group| group.state == GroupState::Excluded);
    let excluded: Vec<&str> = excluded.map(|group| group.name.as_str()).collect();
    if !excluded.is_empty() {
        details.push(format!("excluded: {}", list(excluded)));
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
            of_wave.filter(|group| group.is_movable()).map(|group| group.name.as_str()).collect();
        names
    };
    let line = |wave: &Wave| {
        let names = groups(wave);
        if names.is_empty() {
            return None;
        }
        let mut line = format!("wave {}: {}", wave.name, list(names));
        if wave.needs_approval {
            line.push_str("; requires approval");
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

/// What changes about the groups of a refresher: their waves, and which of them are excluded.
pub fn changed_groups(before: &Preview, after: &Preview) -> Vec<String> {
    let wave = |group: &Group| match &group.wave {
        Some(wave) => format!("wave {wave}"),
        None => "no wave".to_owned(),
    };
    let change = |group: &Group| {
        let old = before.groups.iter().find(|old| old.name == group.name)?;
        let is_excluded = |group: &Group| group.state == GroupState::Excluded;
        match (is_excluded(old), is_excluded(group)) {
            (false, true) => Some(format!("{} is excluded from now on", group.name)),
            (true, false) => Some(format!("{} is no longer excluded", group.name)),
            (false, false) if group.is_movable() && old.wave != group.wave => {
                Some(format!("{} moves from {} to {}", group.name, wave(old), wave(group)))
            }
            _ => None,
        }
    };
    after.groups.iter().filter_map(change).collect()
}
