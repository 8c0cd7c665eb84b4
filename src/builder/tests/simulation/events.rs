//! What happens in the simulated world beside reconciles: runs end, images appear, and people act.

use super::*;

impl World {
    /// Ends the live run, if there is one, in this way.
    pub fn end_run(&mut self, fate: Fate) {
        let Some(index) = self.runs.iter().position(|run| !run.state.ended()) else {
            return;
        };
        // The dates of images decide which build is newer, and they have a precision of one second.
        self.advance(Duration::from_secs(2));
        let build = self.runs[index].facts.build.clone();
        let state = match fate {
            _ if self.runs[index].state == RunState::Stopping => RunState::Failed(Failure::Cancelled),
            Fate::Success => self.artifacts(&build, &["x86_64"], ImageState::Available),
            Fate::TwoLanes => self.artifacts(&build, &["x86_64", "arm64"], ImageState::Available),
            Fate::TwoResults => self.artifacts(&build, &["x86_64", "x86_64"], ImageState::Available),
            Fate::Forced => {
                self.delete_active();
                RunState::Failed(Failure::Packer { exit: Some(1), errors: Vec::new() })
            }
            Fate::LateImage => self.artifacts(&build, &["x86_64"], ImageState::Pending),
            Fate::BadImage => self.artifacts(&build, &["x86_64"], ImageState::Failed),
            Fate::Failure => RunState::Failed(Failure::Packer { exit: Some(1), errors: Vec::new() }),
            Fate::NoCapacity => {
                let errors = vec!["InsufficientInstanceCapacity: no room".to_owned()];
                RunState::Failed(Failure::Packer { exit: Some(1), errors })
            }
            Fate::Partial => self.partial(index),
            Fate::TaggedActive => self.tagged_active(&build),
            Fate::TimedOut => RunState::Failed(Failure::TimedOut),
            Fate::Lost { image } => {
                if image {
                    self.artifacts(&build, &["x86_64"], ImageState::Available);
                }
                RunState::Lost("killed".into())
            }
        };
        self.runs[index].state = state;
        self.runs[index].ended_at = Some(self.now);
    }

    /// One build of two failed. The image of the other is in two regions, and only the template tagged it.
    fn partial(&mut self, index: usize) -> RunState {
        let elsewhere = Region::parse("eu-west-1").expect("a region written by hand");
        for region in [home(), elsewhere] {
            self.images_made += 1;
            let mut made = image(self.images_made, self.now);
            made.tags.insert("Name".into(), "golden".into());
            let artifact = artifact(&region, self.images_made);
            self.runs[index].details.artifacts.push(artifact);
            self.images.push(SimImage {
                located: Located { region, image: made },
                listed: false,
                before: None,
            });
        }
        RunState::Failed(Failure::Packer { exit: Some(1), errors: vec!["the other source".into()] })
    }

    /// The template tags its image as active, and then a test of the image fails.
    fn tagged_active(&mut self, build: &BuildId) -> RunState {
        self.images_made += 1;
        let mut made = image(self.images_made, self.now);
        made.tags = inputs::build_tags(&subject(), build);
        made.tags.insert(tags::STATUS.into(), tags::ACTIVE.into());
        self.never_promoted.insert(made.id.clone());
        self.images.push(SimImage { located: located(made), listed: false, before: None });
        RunState::Failed(Failure::Packer { exit: Some(1), errors: vec!["the smoke test".into()] })
    }

    /// A person requests another attempt.
    pub fn ask(&mut self) {
        let asked = [(annotations::RECONCILE_AT.to_owned(), self.now.to_string())];
        self.object.metadata.annotations = Some(asked.into());
    }

    fn artifacts(&mut self, build: &BuildId, architectures: &[&str], state: ImageState) -> RunState {
        let mut artifacts = Vec::new();
        for architecture in architectures {
            self.images_made += 1;
            let mut made = image(self.images_made, self.now);
            (*architecture).clone_into(&mut made.architecture);
            made.state = state.clone();
            made.tags.insert(tags::BUILD.into(), build.to_string());
            artifacts.push(artifact(&home(), self.images_made));
            self.images.push(SimImage { located: located(made), listed: false, before: None });
        }
        RunState::Succeeded(artifacts)
    }

    /// Makes lists show every image, and pending images available.
    pub fn settle_images(&mut self) {
        for image in &mut self.images {
            image.listed = true;
            if image.located.image.state == ImageState::Pending {
                image.located.image.state = ImageState::Available;
            }
        }
    }

    /// Loses the status and everything in memory. A build of which no record is left may be started again.
    pub fn lose_status(&mut self) {
        self.versions = vec![PackerBuilderStatus::default()];
        // Its Job is not recorded any more.
        self.kept = None;
        self.forgot = true;
        self.observed_version = 0;
        let remembered = |build: &BuildId| {
            let by_run = self.runs.iter().any(|run| run.facts.build == *build);
            // A stale read may show an image without the tags that were just set.
            let is_settled = |image: &SimImage| {
                image.before.as_ref().is_none_or(|(_, at)| time::between(*at, self.now) >= STALE)
            };
            let ours = |image: &&SimImage| image.listed && image.located.tag(tags::OWNER).is_some();
            let newest = self.images.iter().filter(ours).filter(|image| is_settled(image));
            let newest = newest.max_by_key(|image| image.located.built_at());
            by_run || newest.is_some_and(|image| image.located.build() == Some(build.as_str()))
        };
        self.started = self.started.iter().filter(|build| remembered(build)).cloned().collect();
    }

    /// A person changes the commands.
    pub fn change_spec(&mut self, number: u8) {
        let args = Some(vec![format!("-var=size={number}")]);
        let build = Command { sub_command: Some("build".into()), args, ..Command::default() };
        self.object.spec.builder.as_mut().expect("the example has one").commands = Some(vec![build]);
    }

    /// A person deletes the newest active image, and with it possibly the only record of its build.
    pub fn delete_active(&mut self) {
        let Some(index) = self.images.iter().rposition(|image| image.located.is_active()) else {
            return;
        };
        let deleted = self.images.remove(index).located;
        let recorded = |build: &str| self.status().history.iter().flatten().any(|record| record.id == build);
        let running = |build: &str| self.runs.iter().any(|run| run.facts.build.as_str() == build);
        let forgotten = deleted.build().filter(|build| !recorded(build) && !running(build));
        if let Some(build) = forgotten.and_then(|build| BuildId::parse(build).ok()) {
            self.started.remove(&build);
        }
        self.deleted.insert(deleted.image.id);
    }

    /// A person disables the newest active image: it exists, but cannot be launched.
    pub fn disable_active(&mut self) {
        if let Some(image) = self.images.iter_mut().rev().find(|image| image.located.is_active()) {
            image.located.image.state = ImageState::Disabled;
        }
    }

    pub fn deleted_by_hand(&self, image: &ImageId) -> bool {
        self.deleted.contains(image)
    }

    pub fn new_base(&mut self) {
        let number = 0xba5e_0000 + u32::try_from(self.bases.len()).expect("few bases");
        self.bases.push(image(number, self.now));
    }
}
