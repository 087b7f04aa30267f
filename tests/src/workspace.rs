//! Reads the workspace's own source tree, for the rules that a machine can check.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The workspace's root folder.
///
/// # Panics
/// Never: this package is one of its folders.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is a folder of the workspace")
}

/// One package of the workspace and what it depends on.
#[derive(Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Names of its normal and build dependencies, optional ones included.
    pub dependencies: Vec<String>,
    /// Names of its dependencies that only a feature brings.
    pub optional: Vec<String>,
    /// Names of its development dependencies.
    pub dev_dependencies: Vec<String>,
}

/// All packages of the workspace, as cargo sees them.
///
/// # Panics
/// When cargo cannot read the workspace.
pub fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(Package::read)
        .collect()
}

impl Package {
    fn read(package: &Value) -> Self {
        let names = |wanted: &dyn Fn(&Value) -> bool| {
            let all = package["dependencies"].as_array().expect("dependencies");
            let mut names: Vec<String> = all
                .iter()
                .filter(|dependency| wanted(dependency))
                .map(|dependency| dependency["name"].as_str().expect("a name").to_owned())
                .collect();
            names.sort();
            names.dedup();
            names
        };
        Self {
            name: package["name"].as_str().expect("a name").to_owned(),
            dependencies: names(&|dependency| dependency["kind"] != "dev"),
            optional: names(&|dependency| dependency["optional"] == true),
            dev_dependencies: names(&|dependency| dependency["kind"] == "dev"),
        }
    }
}

/// One Rust file of the workspace.
#[derive(Debug)]
pub struct SourceFile {
    /// Its path below the root.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    is_test_module: bool,
}

/// The name in a line that declares or opens a module.
fn module_name(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("mod ")?;
    Some(rest.trim_end_matches([';', '{', ' ']))
}

impl SourceFile {
    /// Whether the file is compiled into a library or a program, not only into tests, benches and examples.
    pub fn is_product(&self) -> bool {
        let mut parts = self.path.iter();
        let first = parts.next().unwrap_or_default();
        let is_shipped = first == "crates" || first == "bins" || first == "signaling";
        is_shipped && self.path.iter().any(|part| part == "src") && !self.is_test_module
    }

    /// The lines before the file's own tests, with their numbers.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let own = self
            .test_only()
            .into_iter()
            .find(|(_, declaration)| declaration.ends_with('{'));
        let end = own.map_or(usize::MAX, |(line, _)| line);
        self.text
            .lines()
            .take(end)
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// Declarations of modules for tests alone, each with the index of the line that says so.
    fn test_only(&self) -> Vec<(usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_mark = |line: &str| line == "#[cfg(test)]" || line.starts_with("#[cfg(all(test,");
        let marked = (0..lines.len()).filter(|index| is_mark(lines[*index].trim()));
        marked
            .filter_map(|index| {
                // Other attributes, over a few lines, may stand between.
                let item = lines[index + 1..].iter().take(6);
                let mut item =
                    item.filter(|line| line.starts_with("mod ") || line.contains(") mod "));
                Some((index, *item.next()?))
            })
            .collect()
    }

    /// The files, or folders, of modules that this file declares for tests alone.
    fn test_modules(&self) -> Vec<PathBuf> {
        let folder = self.path.parent().unwrap_or_else(|| Path::new(""));
        let stem = self.path.file_stem().unwrap_or_default();
        let below = if ["lib", "main", "mod"].iter().any(|name| stem == *name) {
            folder.to_owned()
        } else {
            folder.join(stem)
        };
        self.test_only()
            .into_iter()
            .filter(|(_, declaration)| declaration.ends_with(';'))
            .filter_map(|(_, declaration)| module_name(declaration))
            .map(|name| below.join(name))
            .collect()
    }

    /// Finds lines of `lines` that hold `needle` outside comments, as `path:line: text`.
    pub fn places<'a>(
        &self,
        lines: impl Iterator<Item = (usize, &'a str)>,
        needle: &str,
    ) -> Vec<String> {
        lines
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .filter(|(_, line)| line.contains(needle))
            .map(|(number, line)| format!("{}:{number}: {}", self.path.display(), line.trim()))
            .collect()
    }
}

/// Every Rust file of the workspace, in order of path.
///
/// # Panics
/// When a folder or file cannot be read.
pub fn sources() -> Vec<SourceFile> {
    let mut files = Vec::new();
    for folder in [
        "benches",
        "bins",
        "crates",
        "examples",
        "signaling",
        "tests",
    ] {
        collect(&root().join(folder), &mut files);
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    let for_tests: Vec<PathBuf> = files.iter().flat_map(SourceFile::test_modules).collect();
    for file in &mut files {
        let module = file.path.with_extension("");
        file.is_test_module = for_tests.iter().any(|tests| module.starts_with(tests));
    }
    files
}

fn collect(folder: &Path, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is UTF-8");
            let path = path
                .strip_prefix(root())
                .expect("below the root")
                .to_owned();
            files.push(SourceFile {
                path,
                text,
                is_test_module: false,
            });
        }
    }
}
