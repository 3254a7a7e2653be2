//! Smoke tests: the commands that an image says succeed in it, run in a sandbox over the image's own layers.

use std::collections::BTreeMap;
use std::time::Duration;

use imgforge_oci::Digest;
use imgforge_sandbox::{Command, Exit, Limit, Network, Sandbox, User};
use rayon::prelude::*;

use crate::error::Error;
use crate::limits;
use crate::project::{Finished, Project, Tools};
use crate::rootfs::{Stacked, join};

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The image's name in images.toml.
    pub image: String,
    /// `linux/amd64`.
    pub platform: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How it ended.
    pub exit: Exit,
    /// The limit at which it was stopped.
    pub limit: Option<Limit>,
    /// From its start to the end of its last process.
    pub duration: Duration,
    /// What it printed, in the store; none when that was nothing.
    pub log: Option<Digest>,
    /// Why it could not be started, which counts as failed with the shell's 127; or what raises the limit at which it was
    /// stopped.
    pub problem: Option<String>,
}

impl Outcome {
    /// Whether it succeeded.
    pub fn is_success(&self) -> bool {
        self.exit == Exit::Code(0) && self.limit.is_none()
    }
}

/// Runs the smoke commands of images that are made, in parallel. All of them are run, also when one fails. `on_end` is
/// called as each ends.
///
/// A command has the image's environment and folder. It runs as root where the image's command does, and otherwise as a user
/// without privileges, number 1000, whatever the image calls it.
///
/// # Errors
/// [`Error::Smoke`] when a command can't be run at all; as for fetching layers of a base.
pub fn run(
    project: &Project,
    tools: &Tools<'_>,
    finished: &[Finished],
    on_end: &(dyn Fn(&Outcome) + Sync),
) -> Result<Vec<Outcome>, Error> {
    let tested: Vec<&Finished> = finished
        .iter()
        .filter(|finished| {
            project.config.images.get(&finished.name).is_some_and(|image| !image.smoke.is_empty())
        })
        .collect();
    if tested.is_empty() {
        return Ok(Vec::new());
    }
    project.fetch_base_layers(tools, finished, &|_| true)?;
    let failed = |image: &str, source| Error::Smoke { image: image.to_owned(), source };
    let first = tested.first().map_or("", |finished| finished.name.as_str());
    let sandbox = Sandbox::new(tools.store).map_err(|source| failed(first, source))?.until(tools.stop);
    let mut jobs = Vec::new();
    for finished in tested {
        let Some(table) = project.config.images.get(&finished.name) else { continue };
        let stack = finished.image.layers().iter().map(|layer| Stacked {
            diff_id: layer.diff_id,
            digest: layer.digest,
            media_type: layer.media_type.to_string(),
        });
        let root = join(&sandbox, tools.store, stack).map_err(|source| failed(&finished.name, source))?;
        let root = std::sync::Arc::new(root);
        for arguments in &table.smoke {
            let mut command = command(finished, arguments, table.smoke_network);
            let written = table.smoke_limits.over(&project.config.settings.limits);
            command.limits = limits::of(&sandbox, &written, limits::SMOKE);
            jobs.push((finished, root.clone(), command));
        }
    }
    jobs.into_par_iter()
        .map(|(finished, root, command)| {
            let mut outcome = Outcome {
                image: finished.name.clone(),
                platform: finished.platform.to_string(),
                command: command.arguments.clone(),
                exit: Exit::Code(127),
                limit: None,
                duration: Duration::ZERO,
                log: None,
                problem: None,
            };
            match sandbox.run(&root, &command, &mut |_| {}) {
                Ok(ended) => {
                    outcome.exit = ended.exit;
                    outcome.limit = ended.limit;
                    outcome.problem = ended.limit.map(|limit| {
                        let name = finished.name.split('[').next().unwrap_or_default();
                        let own = format!("[image.{name}]");
                        format!(
                            "it {}",
                            limits::stopped(limit, &command.limits, Some(("smoke-limits", &own)))
                        )
                    });
                    outcome.duration = ended.duration;
                    outcome.log = ended.log;
                }
                Err(error @ imgforge_sandbox::Error::Command { .. }) => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                    outcome.problem = Some(format!("{error}{}", cause.unwrap_or_default()));
                }
                Err(error) => return Err(failed(&finished.name, error)),
            }
            on_end(&outcome);
            Ok(outcome)
        })
        .collect()
}

/// A command as the image would run it.
fn command(finished: &Finished, arguments: &[String], has_network: bool) -> Command {
    let config = finished.image.configuration().config().clone().unwrap_or_default();
    let pairs = config.env().iter().flatten().filter_map(|pair| pair.split_once('='));
    let environment: BTreeMap<_, _> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let user = config.user().as_deref().unwrap_or_default();
    let name = user.split(':').next().unwrap_or_default();
    let folder = config.working_dir().clone().filter(|folder| !folder.is_empty());
    Command {
        environment,
        folder: folder.unwrap_or_else(|| "/".to_owned()),
        user: if matches!(name, "" | "0" | "root") { User::Root } else { User::Build },
        network: if has_network { Network::Host } else { Network::None },
        ..Command::new(arguments.iter().cloned())
    }
}
