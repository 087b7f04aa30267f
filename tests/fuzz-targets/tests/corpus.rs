//! Runs the committed corpus through every target, without cargo-fuzz.

use std::path::{Path, PathBuf};

use stunfwd_fuzz::target::TARGETS;

/// A file of a corpus: small, so that mutation stays quick and the repository light.
const FILE_BYTES_MAX: usize = 8 * 1024;
/// Files of one target.
const FILES_MAX: usize = 250;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    files.sort();
    files
}

/// One test for each target, so that they run side by side and a failure names it.
macro_rules! replay {
    ($($name:ident),* $(,)?) => {
        mod every_file_of_the_corpus_holds_for {
            $(#[test] fn $name() { super::replay(stringify!($name)); })*
        }

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($name)),*];
            let targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(targets, replayed);
        }
    };
}

replay!(
    stun,
    turn,
    channel_data,
    flow_records,
    control_frames,
    signaling_json,
    configuration,
    carrier_frames,
);

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("every name of `replay!` is a target's");
    let files = files(&folder(name));
    assert!(
        !files.is_empty() && files.len() <= FILES_MAX,
        "{} files",
        files.len()
    );
    for file in files {
        let bytes = std::fs::read(&file).expect("it can be read");
        assert!(
            bytes.len() <= FILE_BYTES_MAX,
            "{}: {} bytes",
            file.display(),
            bytes.len()
        );
        // Shown with a failure: the panic itself does not know the file.
        eprintln!("{}", file.display());
        (target.run)(&bytes);
    }
    (target.run)(b"");
}

#[test]
fn the_seeds_hold_and_reach_what_they_are_meant_for() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(seeds.len() >= 3, "{}", target.name);
        for seed in seeds {
            (target.run)(&seed);
        }
    }
}

#[test]
fn every_target_has_its_binary() {
    let binaries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let found: Vec<String> = files(&binaries)
        .iter()
        .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    targets.sort_unstable();
    assert_eq!(found, targets);
}
