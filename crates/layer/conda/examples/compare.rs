//! Holds what imgforge makes of conda packages against what rattler's installer leaves of them:
//! `compare PREFIX PACKAGE…`, each package by itself and then all in one environment. Prints what differs and ends with 1
//! when something does.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

#[path = "../tests/common/rattler.rs"]
mod reference;

use std::path::PathBuf;
use std::process::ExitCode;

use imgforge_layer::TreePath;
use rattler_conda_types::{PackageRecord, RepoDataRecord};
use reference::{apply, differences, install, plan_all, records, stack};

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(prefix), packages) = (arguments.next(), arguments.map(PathBuf::from).collect::<Vec<_>>())
    else {
        eprintln!("usage: compare PREFIX PACKAGE…");
        return ExitCode::from(2);
    };
    let prefix = TreePath::new(&prefix).unwrap();
    let all: Vec<(PathBuf, RepoDataRecord)> =
        packages.iter().cloned().zip(records(&packages).await).collect();
    let python = all.iter().find(|(_, record)| record.package_record.name.as_normalized() == "python");
    let mut failed = false;
    let is_python = |record: &RepoDataRecord| record.package_record.noarch.is_python();
    for one in &all {
        // A package of modules is nothing without a Python.
        let with_python = python.filter(|_| is_python(&one.1));
        failed |= !same(&prefix, one.1.identifier.to_string(), with_python.into_iter().chain([one])).await;
    }
    failed |= !same(&prefix, "all in one environment".to_owned(), &all).await;
    ExitCode::from(u8::from(failed))
}

async fn same<'a>(
    prefix: &TreePath,
    title: String,
    packages: impl IntoIterator<Item = &'a (PathBuf, RepoDataRecord)>,
) -> bool {
    let (paths, records): (Vec<_>, Vec<_>) = packages.into_iter().cloned().unzip();
    // Sorting needs pairs.
    let mut pairs: Vec<_> = paths.into_iter().zip(records).collect();
    let order: Vec<_> =
        PackageRecord::sort_topologically(pairs.iter().map(|(_, record)| record.clone()).collect())
            .into_iter()
            .map(|record| record.identifier.to_string())
            .collect();
    pairs.sort_by_key(|(_, record)| order.iter().position(|name| *name == record.identifier.to_string()));
    let (paths, records): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();

    let folder = tempfile::tempdir().unwrap();
    let expected = match install(&records, &prefix.to_string(), folder.path()).await {
        Ok(listing) => listing,
        Err(error) => {
            println!("{title}: rattler refuses: {error}");
            return false;
        }
    };
    let planned = match plan_all(&paths, &records, prefix, folder.path()) {
        Ok(planned) => planned,
        Err(error) => {
            println!("{title}: {error}");
            return false;
        }
    };
    let ours = apply(&stack(&planned, prefix), prefix);
    let differences = differences(&expected, &ours);
    println!("{title}: {} paths, {} differ", expected.len(), differences.len());
    for difference in &differences {
        println!("{difference}");
    }
    differences.is_empty()
}
