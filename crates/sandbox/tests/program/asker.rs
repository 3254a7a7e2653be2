//! Makes the sandboxes that tests ask for: a request in JSON on standard input, or in the file named; what came of it in
//! JSON on standard output.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use imgforge_layer::{Codec, Content, Entry, Kind, Tree, TreePath, write_layer};
use imgforge_oci::{Compression, DiffId, Hasher};
use imgforge_sandbox::{Command, Exit, Joined, Layer, Limit, Limits, Network, Outputs, Sandbox, User};
use imgforge_store::{GcPolicy, Store};
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Request {
    store: PathBuf,
    /// Tars, plain ones unless their names end in `.gz` or `.zst`; the lowest first.
    layers: Vec<PathBuf>,
    /// Files that go on top: path and text.
    files: BTreeMap<String, String>,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    folder: String,
    as_build_user: bool,
    has_network: bool,
    copies: bool,
    memory: Option<u64>,
    processes: Option<u32>,
    file_size: Option<u64>,
    disk: Option<u64>,
    log: Option<u64>,
    tmp: Option<u64>,
    milliseconds: Option<u64>,
    outputs: Option<Vec<String>>,
    difference: bool,
    /// Where the outputs are written as a tar.
    tar: Option<PathBuf>,
    /// How often, for its duration alone.
    repeat: Option<u32>,
    /// A command of the host that is timed in turns with the sandbox.
    compare: Vec<String>,
    /// Collect garbage instead: all that is older than so many seconds.
    collect: Option<u64>,
    /// Unpack, and run nothing.
    unpack: bool,
    /// When the command has failed, this one is run on the terminal, with what the first one wrote.
    shell: Vec<String>,
}

fn main() {
    imgforge_sandbox::init_if_asked();
    let answer = answer().unwrap_or_else(|error| {
        let mut text = error.to_string();
        let hint = error.downcast_ref::<imgforge_sandbox::Error>().and_then(imgforge_sandbox::Error::hint);
        let mut source = error.source();
        while let Some(error) = source {
            text += &format!(": {error}");
            source = error.source();
        }
        json!({ "error": text, "hint": hint })
    });
    let _ = writeln!(io::stdout(), "{answer}");
}

fn answer() -> Result<Value> {
    let mut text = String::new();
    // A request that is not on standard input leaves that to the terminal.
    match std::env::args_os().nth(1) {
        Some(path) => text = std::fs::read_to_string(path)?,
        None => _ = io::stdin().read_to_string(&mut text)?,
    }
    let request: Request = serde_json::from_str(&text)?;
    let store = Store::open(&request.store)?;
    let mut sandbox = Sandbox::new(&store)?;
    if request.copies {
        sandbox = sandbox.with_copies();
    }
    if let Some(seconds) = request.collect {
        let policy = GcPolicy { max_age: Some(Duration::from_secs(seconds)), ..GcPolicy::default() };
        let report = store.gc(&policy, SystemTime::now())?;
        return Ok(
            json!({ "records": report.records, "bytes": report.record_bytes, "removed": sandbox.sweep()? }),
        );
    }
    let layers = request.layers.iter().map(layer).collect::<Result<Vec<_>>>()?;
    let mut root = sandbox.root(&layers, &|_| {})?;
    if !request.files.is_empty() {
        let mut files = Tree::new();
        for (path, text) in &request.files {
            files.insert(TreePath::new(path)?, Entry::bytes(text.as_bytes(), true))?;
        }
        sandbox.add(&mut root, &files)?;
    }
    if request.unpack {
        return Ok(json!({}));
    }
    let command = command(&request);
    if let Some(count) = request.repeat {
        let (mut durations, mut others) = (Vec::new(), Vec::new());
        for _ in 0..count {
            if let Some((program, arguments)) = request.compare.split_first() {
                let began = Instant::now();
                let status =
                    std::process::Command::new(program).args(arguments).stdin(Stdio::null()).status()?;
                others.push(began.elapsed().as_secs_f64() * 1e3);
                if !status.success() {
                    return Err(format!("{program}: {status}").into());
                }
            }
            let began = Instant::now();
            let finished = sandbox.run(&root, &command, &mut |_| {})?;
            if !finished.is_success() {
                return Err(format!("{:?}", finished.exit).into());
            }
            drop(finished);
            durations.push(began.elapsed().as_secs_f64() * 1e3);
        }
        return Ok(json!({ "milliseconds": durations, "other": others }));
    }
    let mut lines = Vec::new();
    let finished =
        sandbox.run(&root, &command, &mut |line| lines.push(String::from_utf8_lossy(line).into_owned()))?;
    if !finished.is_success() && !request.shell.is_empty() {
        let shell = Command { arguments: request.shell.clone(), ..command };
        let finished = sandbox.shell(finished.kept, &root, &shell)?;
        return Ok(json!({ "shell": exit(finished.exit), "lines": lines }));
    }
    if let Some(path) = &request.tar {
        write_layer(&finished.outputs, Codec::None, 0, &mut File::create(path)?)?;
    }
    Ok(json!({
        "exit": exit(finished.exit),
        "limit": finished.limit.map(|limit| match limit {
            Limit::Memory => "memory",
            Limit::Processes => "processes",
            Limit::FileSize => "file size",
            Limit::Disk => "disk",
            Limit::Log => "log",
            Limit::Time => "time",
        }),
        "left_behind": finished.left_behind,
        "milliseconds": finished.duration.as_millis(),
        "joined": match finished.joined { Joined::Overlay => "overlay", Joined::Copy => "copy" },
        "log": finished.log,
        "lines": lines,
        "outputs": finished.outputs.iter().map(|(path, entry)| show(path, entry)).collect::<Vec<_>>(),
    }))
}

fn exit(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => -signal,
    }
}

fn layer(path: &PathBuf) -> Result<Layer<'_>> {
    let compression = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Compression::Gzip,
        Some("zst") => Compression::Zstd,
        _ => Compression::None,
    };
    let diff_id = match compression {
        Compression::None => {
            let mut hasher = Hasher::new();
            io::copy(&mut File::open(path)?, &mut hasher)?;
            DiffId(hasher.finish())
        }
        // Beside it, since the program has no decoder of its own.
        _ => DiffId(std::fs::read_to_string(path.with_extension("diffid"))?.trim().parse()?),
    };
    Ok(Layer { diff_id, compression, open: Box::new(move || File::open(path)) })
}

fn command(request: &Request) -> Command {
    let defaults = Limits::default();
    Command {
        environment: request.environment.clone(),
        folder: if request.folder.is_empty() { "/".to_owned() } else { request.folder.clone() },
        user: if request.as_build_user { User::Build } else { User::Root },
        network: if request.has_network { Network::Host } else { Network::None },
        limits: Limits {
            memory: request.memory,
            processes: request.processes.unwrap_or(defaults.processes),
            file_size: request.file_size,
            disk: request.disk,
            log: request.log.unwrap_or(defaults.log),
            tmp: request.tmp.unwrap_or(defaults.tmp),
            time: request.milliseconds.map(Duration::from_millis),
            ..defaults
        },
        outputs: match (&request.outputs, request.difference) {
            (Some(paths), _) => Outputs::Paths(paths.clone()),
            (None, true) => Outputs::Difference,
            (None, false) => Outputs::None,
        },
        ..Command::new(request.arguments.iter().cloned())
    }
}

/// `mode uid:gid kind /path …`, as it is in the tree.
fn show(path: &TreePath, entry: &Entry) -> String {
    let what = match &entry.kind {
        Kind::Directory => format!("d {path}"),
        Kind::File(file) => format!("f {path} {}", text(&file.content)),
        Kind::Symlink(target) => format!("l {path} {target}"),
        Kind::Hardlink(target) => format!("h {path} {target}"),
    };
    let xattrs: Vec<_> = entry.xattrs.keys().map(String::as_str).collect();
    let owner = format!("{:04o} {}:{}", entry.mode, entry.uid, entry.gid);
    let all = [owner, what.trim_end().to_owned(), xattrs.join(",")];
    all.join(" ").trim_end().to_owned()
}

/// A small file's text, and of others the size.
fn text(content: &Content) -> String {
    let Content::Range { source, offset, len, .. } = content else { return String::new() };
    let mut bytes = vec![0; usize::try_from(*len).unwrap_or(0).min(100)];
    match source.read_exact_at(&mut bytes, *offset) {
        Ok(()) if *len <= 100 => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Ok(()) => format!("[{len}]"),
        Err(error) => error.to_string(),
    }
}
