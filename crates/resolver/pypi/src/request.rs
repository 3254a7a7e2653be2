//! What is asked of [`crate::resolve()`], and what uv makes of it.

use std::path::Path;
use std::str::FromStr as _;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use uv_configuration::{BuildOptions, Constraints, Excludes, NoBinary, NoBuild, Overrides};
use uv_distribution_types::{Requirement, RequirementSource};
use uv_pep440::Version;
use uv_pypi_types::VerbatimParsedUrl;
use uv_resolver::{
    ExcludeNewer, ExcludeNewerValue, Exclusions, Manifest, Preferences, Prerelease, PrereleaseMode,
};
use uv_types::RequestedRequirements;

use crate::error::{Error, plain, plain_text, without_credentials};
use crate::uv_lock::folder;

/// What is to be resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Requirements (PEP 508): `rich>=13`, `torch[opt]==2.9.0 ; python_version >= "3.10"`, `demo @ https://…/demo-1.0-py3-none-any.whl`.
    pub requirements: Vec<String>,
    /// Requirements that narrow what may be taken and ask for nothing by themselves.
    pub constraints: Vec<String>,
    /// Requirements that stand in for whatever else is required of their packages.
    pub overrides: Vec<String>,
    /// The moment after which nothing may have been uploaded: RFC 3339 (`2025-06-01T00:00:00Z`), or a date, whose whole day is
    /// in (UTC). Files without a time are left out then.
    pub exclude_newer: Option<String>,
    /// What becomes of pre-releases.
    pub prereleases: Prereleases,
    /// Whether versions that have only sources for the target are passed over. Otherwise a source distribution may be chosen, for
    /// somebody to build, as long as it says what it depends on without being built.
    pub no_build: bool,
}

/// What becomes of pre-releases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prereleases {
    /// Taken where nothing else fits: uv's default.
    #[default]
    IfNecessary,
    /// Taken as any other version.
    Allow,
    /// Never taken.
    Disallow,
    /// Taken only where a requirement of the request names one.
    Explicit,
}

/// A request that uv understands.
#[derive(Clone)]
pub(crate) struct Parsed {
    request: Request,
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) constraints: Vec<Requirement>,
    pub(crate) overrides: Vec<Requirement>,
    pub(crate) exclude_newer: ExcludeNewer,
    pub(crate) prerelease: Prerelease,
    pub(crate) build: BuildOptions,
}

impl Request {
    /// All of its text, of which the depth is checked before anything is parsed.
    pub(crate) fn text(&self) -> String {
        [self.requirements.join("\n"), self.constraints.join("\n"), self.overrides.join("\n")].join("\n")
    }

    /// `file` is where the requirements come from; paths in them are relative to its folder.
    pub(crate) fn parse(&self, file: &Path) -> Result<Parsed, Error> {
        let folder = folder(file)?;
        let all = |texts: &[String]| -> Result<Vec<Requirement>, Error> {
            texts.iter().map(|text| requirement(text, file, &folder)).collect()
        };
        let exclude_newer = self.exclude_newer.as_deref().map(exclude_newer).transpose()?;
        let mode = match self.prereleases {
            Prereleases::IfNecessary => PrereleaseMode::IfNecessary,
            Prereleases::Allow => PrereleaseMode::Allow,
            Prereleases::Disallow => PrereleaseMode::Disallow,
            Prereleases::Explicit => PrereleaseMode::Explicit,
        };
        Ok(Parsed {
            request: self.clone(),
            requirements: all(&self.requirements)?,
            constraints: all(&self.constraints)?,
            overrides: all(&self.overrides)?,
            exclude_newer: exclude_newer.map(ExcludeNewer::global).unwrap_or_default(),
            prerelease: Prerelease { global: mode, ..Prerelease::default() },
            build: BuildOptions::new(
                NoBinary::None,
                if self.no_build { NoBuild::All } else { NoBuild::None },
            ),
        })
    }
}

impl Parsed {
    /// The same request in uv's words, whose paths mean the same from anywhere.
    pub(crate) fn absolute(&self) -> Request {
        let texts = |requirements: &[Requirement]| requirements.iter().map(ToString::to_string).collect();
        Request {
            requirements: texts(&self.requirements),
            constraints: texts(&self.constraints),
            overrides: texts(&self.overrides),
            ..self.request.clone()
        }
    }

    /// What the resolver is given: the project that has the requirements, or the requirements themselves.
    pub(crate) fn manifest(&self, project: Option<Requirement>, preferences: Preferences) -> Manifest {
        // What a project requires is allowed what a requirement of one's own is: a pre-release, a URL, a yanked version.
        let first_hand = project.iter().map(|project| {
            let (name, version) = (project.name.clone(), Version::new([0]));
            RequestedRequirements::new(name, version, Box::default(), self.requirements.clone().into(), true)
        });
        let first_hand = first_hand.collect();
        let members = project.iter().map(|project| project.name.clone()).collect();
        let name = project.as_ref().map(|project| project.name.clone());
        Manifest::new(
            project.map_or_else(|| self.requirements.clone(), |project| vec![project]),
            Constraints::from_requirements(self.constraints.iter().cloned()),
            Overrides::from_requirements(self.overrides.clone()),
            Excludes::default(),
            preferences,
            name,
            members,
            Exclusions::default(),
            first_hand,
        )
    }
}

fn requirement(text: &str, file: &Path, folder: &Path) -> Result<Requirement, Error> {
    let wrong = |message: String| Error::Requirement {
        file: file.to_owned(),
        requirement: without_credentials(&plain_text(text)),
        message: without_credentials(&plain_text(&message)),
    };
    let parsed = uv_pep508::Requirement::<VerbatimParsedUrl>::parse(text, folder)
        .map_err(|error| wrong(plain(&error.message)))?;
    let requirement = Requirement::from(parsed);
    let unsupported = match &requirement.source {
        RequirementSource::Registry { .. }
        | RequirementSource::Url { .. }
        | RequirementSource::Path { .. } => return Ok(requirement),
        RequirementSource::GitDirectory { .. } | RequirementSource::GitPath { .. } => "a git repository",
        RequirementSource::Directory { .. } => "a folder",
    };
    Err(wrong(format!(
        "it is {unsupported}, which has to be built: build a wheel of it and require that by its path or URL"
    )))
}

/// As uv reads it, but for what depends on this machine's time zone or clock.
fn exclude_newer(text: &str) -> Result<ExcludeNewerValue, Error> {
    let moment = Timestamp::from_str(text).ok().or_else(|| {
        // The whole day is in.
        let next = Date::from_str(text).ok()?.tomorrow().ok()?;
        Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
    });
    moment.map(ExcludeNewerValue::absolute).ok_or_else(|| Error::Date {
        text: plain_text(text),
        message: "write a moment with its time zone, such as 2025-06-01T00:00:00Z, or a date".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_date(text: &str, expect: Option<&str>) {
        let found = exclude_newer(text).ok().map(|value| value.timestamp().to_string());
        assert_eq!(found.as_deref(), expect, "{text}");
    }

    #[test]
    fn moments() {
        check_date("2025-06-01T00:00:00Z", Some("2025-06-01T00:00:00Z"));
        check_date("2025-06-01T02:00:00+02:00", Some("2025-06-01T00:00:00Z"));
        check_date("2025-06-01", Some("2025-06-02T00:00:00Z"));
        check_date("2025-13-01", None);
        check_date("3 days", None);
        check_date("P3D", None);
        check_date("yesterday", None);
    }

    #[track_caller]
    fn refused(text: &str, expect: &str) {
        let error = requirement(text, Path::new("images.toml"), Path::new("/project")).expect_err(text);
        let error = error.to_string();
        assert!(error.contains(expect), "{text}: {error}");
        assert!(!error.contains("secret") && !error.contains('\u{1b}'), "{error:?}");
    }

    #[test]
    fn what_is_no_requirement() {
        refused("rich >=", "images.toml: `rich >=`");
        refused("", "images.toml: ``");
        refused("rich\u{1b}[31m", "images.toml: `rich`");
        refused("demo @ git+https://me:secret@example.org/demo", "it is a git repository");
        refused("demo @ git+https://me:secret@example.org/demo", "example.org/demo");
        refused("demo @ file:///", "it is a folder");
        refused("-r other.txt", "`-r other.txt`");
        refused("https://me:secret@example.org/demo-1.0-py3-none-any.whl", "`https://example.org/demo");
    }
}
