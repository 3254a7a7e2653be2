//! The JSON schema of images.toml: what it accepts is what the program accepts.

#![allow(clippy::expect_used, reason = "a test that can not go on has failed")]

use imgforge::config::Config;

/// Validates a text with the schema and with the program, and asserts that both say the same.
#[track_caller]
fn check(text: &str, good: bool) {
    let schema = Config::schema();
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let value: toml::Value = toml::from_str(text).expect("TOML");
    let value = serde_json::to_value(value).expect("JSON");
    let problems: Vec<_> = validator.iter_errors(&value).map(|problem| problem.to_string()).collect();
    assert_eq!(problems.is_empty(), good, "schema: {problems:?}");
    assert_eq!(Config::parse(text).is_ok(), good, "program: {:?}", Config::parse(text).err());
}

#[test]
fn the_repositorys_own_file() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("images.toml");
    check(&std::fs::read_to_string(path).expect("images.toml"), true);
}

#[test]
fn the_examples() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let folders: Vec<_> =
        std::fs::read_dir(examples).expect("examples/").map(|entry| entry.expect("entry").path()).collect();
    assert!(folders.len() >= 2);
    for folder in folders {
        check(&std::fs::read_to_string(folder.join("images.toml")).expect("images.toml"), true);
    }
}

#[test]
fn every_kind_of_table() {
    check(
        r#"
        version = 1
        [settings]
        platforms = ["linux/amd64", "linux/arm64"]
        source-date-epoch = 7
        layer-budget = 40
        compression = "zstd"
        mirrors = ["https://example.org/{sha256}"]
        [base.none]
        scratch = true
        [base.debian]
        debian = "bookworm"
        packages = ["python3-minimal"]
        mirror = ["https://example.org/debian bookworm bookworm-updates"]
        [env.serve]
        lock = "locks/one"
        kind = "uv"
        prefix = "/opt/venv"
        python = "3.12"
        interpreter = "/usr/bin/python3.12"
        glibc = "2.36"
        extras = ["a"]
        on-conflict = "error"
        [image.app]
        base = "debian"
        envs = ["serve"]
        files = [{ src = "app", dest = "/app", exclude = ["*.md"] }]
        env = { A = "b" }
        users = [{ name = "app", uid = 7, home = "/home/app" }]
        user = "app"
        expose = ["80"]
        stop-signal = "SIGINT"
        [image.more]
        extends = "app"
        "#,
        true,
    );
}

#[test]
fn what_is_refused() {
    check("version = 1\nother = 1", false);
    check("version = 1\n[image.a]\nbas = \"b\"", false);
    check("version = 1\n[settings]\ncompression = \"lzma\"", false);
    check("version = 1\n[base.a]\nscratch = \"yes\"", false);
}
