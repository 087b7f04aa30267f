//! Writes the seeds into `fuzz/corpus`, one file each, named by what they hold. What is there stays.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use stunfwd_fuzz::target::TARGETS;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for target in TARGETS {
        let folder = corpus.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for seed in (target.seeds)() {
            // The hasher's keys are fixed, so that a seed keeps its name.
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            std::fs::write(folder.join(format!("seed-{:016x}", hasher.finish())), seed)?;
        }
    }
    Ok(())
}
