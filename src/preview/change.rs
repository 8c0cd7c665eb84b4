//! What the change means for one object of the head: its item, and the part of the report to which it belongs. Pure.

use super::effect::{Effect, Matters};
use super::report::{Action, Item, Report};
use super::words::{list, short};
use super::{Side, fields, refreshers};
use crate::api::builder::InputsRecord;
use crate::api::{Kind, ObjectKey};
use crate::builder::preview as builder;
use crate::refresher::preview as refresher;

/// An object that the head declares, in both trees.
pub struct Change<'a> {
    pub object: &'a ObjectKey,
    pub base: &'a Side,
    pub head: &'a Side,
    /// The base does not have it.
    pub is_new: bool,
    /// What happens to it without the change.
    pub old: Option<&'a Effect>,
    /// What happens to it with the change.
    pub new: Option<&'a Effect>,
}

impl Change<'_> {
    /// Adds what happens to the object to the report.
    pub fn place(&self, report: &mut Report) {
        let Some(new) = self.new else {
            match self.applied() {
                Some(item) => report.because.push(item),
                None => report.unchanged.push(short(self.object)),
            }
            return;
        };
        let item = Item { file: self.head.file(self.object), ..new.item.clone() };
        let part = match new.item.action {
            Action::Unknown => {
                report.unknown.push(Item { fields: self.fields(), ..item });
                return;
            }
            Action::Drift => &mut report.drift,
            _ if self.old.is_some_and(|old| old.matters == new.matters) => &mut report.anyway,
            _ => {
                report.because.push(self.caused(new, item));
                return;
            }
        };
        part.push(item);
        report.because.extend(self.applied());
    }

    /// What happens because of the change, with what would happen without it.
    fn caused(&self, new: &Effect, item: Item) -> Item {
        let cause = self.cause(new);
        let without = self.old.map(|old| match old.item.action {
            Action::Unknown => "what would happen without this change is unknown".to_owned(),
            _ if old.item.what != item.what => without_change(&old.item),
            _ if old.item.why != cause => format!("due without this change as well: {}", old.item.why),
            _ => "due without this change as well, with other images".to_owned(),
        });
        let why: Vec<String> = [cause].into_iter().chain(without).collect();
        let further = self.details().into_iter().filter(|detail| !item.details.contains(detail));
        let details = item.details.iter().cloned().chain(further).collect();
        Item { why: why.join("; "), fields: self.fields(), details, ..item }
    }

    /// The reason of the effect. If the base is due for another build, it is what differs between the two.
    fn cause(&self, new: &Effect) -> String {
        let differing = match (self.old.map(|old| &old.matters), &new.matters) {
            (Some(Matters::Build { inputs: before, .. }), Matters::Build { inputs: after, .. }) => {
                differing_inputs(before, after)
            }
            _ => Vec::new(),
        };
        if differing.is_empty() { new.item.why.clone() } else { differing.join(", and ") }
    }

    /// The item of an object whose manifest is new or differs, or to which nothing happens any more.
    fn applied(&self) -> Option<Item> {
        let fields = self.fields();
        let gone = self.old.filter(|old| self.is_gone(old));
        if fields.is_empty() && !self.is_new && gone.is_none() && !self.was_broken() {
            return None;
        }
        let mut what = Vec::new();
        if self.is_new {
            what.push("created");
        } else if !fields.is_empty() || self.was_broken() {
            what.push("updated");
        }
        what.extend(gone.map(|gone| match gone.item.action {
            Action::Build => "no longer builds",
            Action::NeedsAttention => "no longer needs attention",
            _ => "no longer rolls out",
        }));
        let mut why = Vec::new();
        if self.is_new {
            why.push("it is new".to_owned());
        }
        if self.was_broken() {
            why.push("its manifest is valid again".to_owned());
        }
        if !fields.is_empty() {
            why.push(format!("changed: {}", list(&fields)));
        }
        why.extend(self.state());
        why.extend(gone.map(|gone| without_change(&gone.item)));
        let item = Item::new(short(self.object), Action::Apply, what.join(", "), why.join("; "));
        Some(Item { file: self.head.file(self.object), fields, details: self.details(), ..item })
    }

    /// Whether the manifest of the base is invalid.
    fn was_broken(&self) -> bool {
        !self.is_new && !self.base.set.declares(self.object)
    }

    /// Whether the head does not do what the base would.
    fn is_gone(&self, old: &Effect) -> bool {
        let acts = |action| !matches!(action, Action::Unknown | Action::Drift);
        acts(old.item.action) && !self.new.is_some_and(|new| acts(new.item.action))
    }

    /// Why nothing happens to the object for now.
    fn state(&self) -> Option<String> {
        let key = &self.object.key;
        match self.object.kind {
            Kind::PackerBuilder => match &self.head.builders.get(key)?.intent {
                builder::Intent::Wait { message } => Some(message.clone()),
                _ => None,
            },
            Kind::AMIRefresher => match &self.head.refreshers.get(key)?.intent {
                refresher::Intent::Wait { message } => Some(message.clone()),
                refresher::Intent::Paused { message } => Some(format!("no node group is moved: {message}")),
                _ => None,
            },
        }
    }

    /// The waves of a refresher if they change, and what changes about its groups.
    fn details(&self) -> Vec<String> {
        let key = &self.object.key;
        let both = (self.base.refreshers.get(key), self.head.refreshers.get(key));
        let ((Some(before), Some(after)), Kind::AMIRefresher) = (both, self.object.kind) else {
            return Vec::new();
        };
        let waves = if before.waves == after.waves { Vec::new() } else { refreshers::waves(after) };
        waves.into_iter().chain(refreshers::changed_groups(before, after)).collect()
    }

    fn fields(&self) -> Vec<String> {
        match (self.base.set.documents.get(self.object), self.head.set.documents.get(self.object)) {
            (Some(before), Some(after)) if before.json != after.json => {
                fields::differing(&before.json.value(), &after.json.value())
            }
            _ => Vec::new(),
        }
    }
}

fn without_change(item: &Item) -> String {
    format!("without this change: {} ({})", item.what, item.why)
}

/// What differs between the inputs of two builds.
fn differing_inputs(before: &InputsRecord, after: &InputsRecord) -> Vec<String> {
    let mut differing = Vec::new();
    if before.template != after.template {
        differing.push("the template changed".to_owned());
    }
    if before.spec != after.spec {
        differing.push("the builder's commands or region changed".to_owned());
    }
    if before.base_ami != after.base_ami {
        let name = |base: &Option<String>| base.clone().unwrap_or_else(|| "none".to_owned());
        let (before, after) = (name(&before.base_ami), name(&after.base_ami));
        differing.push(format!("the base image is {after} instead of {before}"));
    }
    differing
}
