//! Opsy keeps machine images, and the nodes that run them, in the state declared in a Git repository.
//!
//! ```text
//!  Git remote ─fetch─> git ─files─> manifest (pure) ─documents─> sync ──> loader: prune, load
//!                                                                           │
//!                                          engine: objects and status, one loop for both kinds
//!                  ┌────────────────────────────────────────────────────────┤
//!  builder: observe → plan (pure) → one step → report     refresher: observe → plan (pure) → one step → report
//!                  │ runs of Packer (engine, runner/)                        │ launch template versions, updates
//!                  └───────────────── aws ───────────────────────────────────┘
//!  Git remote <─push─ git <─one commit per batch─ publish <─files─ publish::render (pure) <─status─ engine
//! ```
//!
//! # The way of a commit to a node group
//!
//! A person merges a change of a Packer template. What happens, and where:
//!
//! 1. [`sync`] compares the refs of the remote with the last synced commit, fetches, and verifies signatures ([`git`]). It
//!    reads the files of the commit from Git objects; [`manifest`] turns them into documents and problems. The result is
//!    one value, `Synced`, in a watch channel.
//! 2. [`loader`] decides what is pruned, what is retained, and which objects the commit concerns: those whose template
//!    differs, or all if the settings do. It hands the documents to the [`engine`]. In a cluster the engine applies what
//!    differs from the live objects and watches them; on one machine the documents are the objects.
//! 3. `engine::drive` reconciles the objects whose document differs, or that the commit concerns. [`builder`] observes
//!    AWS, Git and its runs. Its `plan` compares the inputs of the active image with the desired ones, finds another
//!    template, and returns the step `Start` with the reason `Template`. `act` starts a run: a Job, or a process. The
//!    report becomes the status.
//! 4. The run ends, which wakes the builder. `builder::collect` reads the result, `promote` tags the new image as active
//!    and demotes the old one, and the step `Record` writes the result into status. Each is a reconcile of its own.
//! 5. A new active image wakes the refreshers. [`refresher`] chooses the target, begins a rollout in its status, and moves one
//!    node group after the other: a launch template version with the new image, then an update by EKS, observed until it ends.
//! 6. [`publish`] renders the status that the branch does not have into files and pushes one commit. [`notifications`] turns the status
//!    into stories ([`announce`], pure) and gives them to the desks of [`notify`], which send them to Slack and others.
//!
//! # Modules
//!
//! | module | what it owns | may use |
//! |---|---|---|
//! | [`api`] | the contract: both kinds, conditions, IDs, error classes, and every shared word, tag and reason | nothing |
//! | [`task`] | background tasks: one that panics ends the process | nothing |
//! | [`wait`] | the one sleep, and random numbers that spread waits | nothing |
//! | [`settings`] | flags, environment variables, `opsy.yaml` | `api` |
//! | [`manifest`] | YAML → documents and problems; status → files; pure | `api`, `settings` |
//! | [`git`] | edge: clones, fetch, read, verify, commit, push, template repositories | `api`, `wait` |
//! | [`aws`] | edge: EC2, EKS and STS, with paging, shared responses and one error table | `api` |
//! | [`engine`] | edge: where objects and status are stored and where builds run, on one machine and in a cluster; the loop | `api`, `manifest`, `task` |
//! | [`announce`] | status → stories and messages for people, the same for every sink; pure | `api` |
//! | [`resolve`] | edge: the HTTP client for addresses that other people chose, without those of the machine itself | `api` |
//! | [`probe`] | edge: asks the servers that health checks of rollouts name | `api`, `resolve` |
//! | [`forge`] | edge: pull requests of GitHub, GitLab and Gitea: the one comment with a plan, commit statuses, and pull requests by Opsy | `api`, `resolve`, `wait` |
//! | [`notify`] | edge: which message is sent next, and one file per sink | `api`, `announce`, `resolve`, `task` |
//! | [`builder`] | what to do with a builder and why, one step at a time | `api`, `aws`, `engine`, `git`, `manifest`, `sync` |
//! | [`refresher`] | what to do with a refresher and why, one step at a time | `api`, `aws`, `engine`, `probe`, `sync` |
//! | [`sync`] | the Git loop that reads: from a tip to the synced commit | `api`, `git`, `manifest`, `settings`, `wait` |
//! | [`publish`] | the Git loop that writes: from status to a commit or a pull request | `api`, `forge`, `git`, `manifest`, `settings`, `sync`, `wait` |
//! | [`loader`] | loads the synced commit into the engine: the confirmed owner, what is pruned and what is retained | `api`, `engine`, `manifest`, `publish`, `settings`, `sync`, `telemetry`, `wait` |
//! | [`notifications`] | who is notified of which status, and what the messages need besides it: commits, origins of images | `announce`, `api`, `engine`, `git`, `manifest`, `notify`, `sync`, `task` |
//! | [`repository`] | the repository as an object of its own: observe → judge (pure) → report; the daily digest | `announce`, `api`, `engine`, `loader`, `manifest`, `notifications`, `publish`, `sync`, `wait` |
//! | [`preview`] | what a change to the repository would do: the decisions for two trees, compared, and the report; pure | `api`, `builder`, `manifest`, `refresher`, `settings`, `sync` |
//! | [`webhook`] | edge: deliveries of push webhooks, their proof, and what was pushed | `api`, `telemetry` |
//! | [`telemetry`] | logs, metrics, health endpoints | `api` |
//! | [`agent`] | wiring: makes the parts, connects them, starts and stops them; decides nothing | anything |
//! | [`cli`] | one file per subcommand: prints, decides nothing | anything |
//!
//! `tests/it/map.rs` checks the sources against this table, and that no two sibling modules use each other.

// They end the program if standard output is closed; `telemetry::out` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod agent;
pub mod announce;
pub mod api;
pub mod aws;
pub mod builder;
pub mod cli;
pub mod engine;
pub mod forge;
pub mod git;
pub mod loader;
pub mod manifest;
pub mod notifications;
pub mod notify;
pub mod preview;
pub mod probe;
pub mod publish;
pub mod refresher;
pub mod repository;
pub mod resolve;
pub mod settings;
pub mod sync;
pub mod task;
pub mod telemetry;
pub mod wait;
pub mod webhook;
