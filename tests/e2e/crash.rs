//! Killed at any point, the program leaves a store that the next run uses without repair.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::project::{Project, check_layout, digests, success};

/// How many builds are killed, and after how many starts the store begins anew: until then, each build begins where
/// the one before was stopped.
const KILLS: u32 = 100;
const STARTS_IN_ONE_STORE: u32 = 4;

#[test]
fn killed_at_random_points_and_run_again() {
    let project = Project::small();
    let start = Instant::now();
    let whole_store = project.beside("whole");
    let expected = digests(&success(&mut project.building(&["--store", whole_store.to_str().unwrap()])));
    let mut whole = start.elapsed();
    let lock = fs::read_to_string(project.path("images.lock")).unwrap();

    let (mut killed, mut round) = (0, 0);
    while killed < KILLS {
        round += 1;
        assert!(
            round <= KILLS,
            "only {killed} builds in {round} stores were still running when they were to be killed"
        );
        let store = project.beside(&format!("store-{round}"));
        let store = store.to_str().unwrap();
        // Every other time, so that images.lock is written under fire as well.
        if round % 2 == 0 {
            fs::remove_file(project.path("images.lock")).unwrap();
        }
        for _ in 0..STARTS_IN_ONE_STORE {
            let delay = whole.mul_f64(random());
            let mut build = project
                .building(&["--store", store])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(delay);
            // One that has finished before can't be killed, and is not counted. The machine has got faster.
            match build.try_wait().unwrap() {
                None => killed += 1,
                Some(_) => whole = whole.min(delay),
            }
            build.kill().unwrap();
            build.wait().unwrap();
        }
        let built = digests(&success(&mut project.building(&["--store", store])));
        assert_eq!(built, expected, "round {round}");
        assert_eq!(fs::read_to_string(project.path("images.lock")).unwrap(), lock, "round {round}");
        check_layout(&project.path("dist"), &built);
        success(&mut project.imgforge(["verify", "--store-blobs", "--store", store]));
        fs::remove_dir_all(store).unwrap();
    }
    println!("{killed} builds killed in {round} stores, the last within {whole:?} of its start");
}

/// 0 to 1. The standard library seeds its hasher anew for each.
fn random() -> f64 {
    RandomState::new().hash_one(Duration::ZERO) as f64 / u64::MAX as f64
}
