//! Rules about the source text that a machine can check and a compiler does not.

use stunfwd_tests::workspace;

/// Above this a second question has crept into a file.
const LINES_MAX: usize = 700;

/// Names that say nothing, so that everything fits.
const GRAB_BAGS: [&str; 10] = [
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "misc",
    "manager",
    "constants",
    "shared",
    "stuff",
];

#[test]
fn nothing_is_left_open() {
    // Put together here, so that this file is not found.
    let open = [concat!("to", "do!("), concat!("unimple", "mented!(")];
    let mut places = Vec::new();
    for file in workspace::sources() {
        for word in open {
            places.extend(file.places(numbered(&file.text), word));
        }
        let marks = [
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("XX", "X"),
        ];
        for (number, line) in numbered(&file.text) {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            if marks.iter().any(|mark| {
                comment
                    .split(|c: char| !c.is_alphanumeric())
                    .any(|word| word == *mark)
            }) && !comment.contains('#')
            {
                places.push(format!("{}:{number}: names no issue", file.path.display()));
            }
        }
    }
    assert_eq!(places, [""; 0]);
}

#[test]
fn product_code_does_not_unwrap() {
    let mut places = Vec::new();
    for file in workspace::sources().iter().filter(|file| file.is_product()) {
        places.extend(file.places(file.product_lines(), concat!(".unw", "rap()")));
    }
    assert_eq!(places, [""; 0]);
}

#[test]
fn no_file_answers_two_questions() {
    let long: Vec<String> = workspace::sources()
        .iter()
        .map(|file| (file.text.lines().count(), &file.path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{}: {lines} lines, above {LINES_MAX}", path.display()))
        .collect();
    assert_eq!(long, [""; 0]);
}

#[test]
fn no_module_is_a_grab_bag() {
    let mut bags = Vec::new();
    for file in workspace::sources() {
        let names = file
            .path
            .iter()
            .map(|part| part.to_string_lossy().into_owned());
        if names
            .map(|name| name.trim_end_matches(".rs").to_owned())
            .any(|name| GRAB_BAGS.contains(&&*name))
        {
            bags.push(file.path.display().to_string());
        }
        for (number, line) in numbered(&file.text) {
            let name = line
                .trim()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            let name = name
                .strip_prefix("mod ")
                .map(|name| name.trim_end_matches([';', ' ', '{']));
            if name.is_some_and(|name| GRAB_BAGS.contains(&name)) {
                bags.push(format!("{}:{number}", file.path.display()));
            }
        }
    }
    assert_eq!(bags, [""; 0]);
}

#[test]
fn every_ignored_test_says_why() {
    let mut silent = Vec::new();
    for file in workspace::sources() {
        silent.extend(file.places(numbered(&file.text), concat!("#[ign", "ore]")));
    }
    assert_eq!(silent, [""; 0]);
}

#[test]
fn every_library_tells_its_story_without_logic() {
    let mut wrong = Vec::new();
    for file in workspace::sources()
        .iter()
        .filter(|file| file.path.ends_with("src/lib.rs"))
    {
        if !file.text.starts_with("//!") {
            wrong.push(format!(
                "{}: does not begin with its story",
                file.path.display()
            ));
        }
        for word in ["fn ", "impl "] {
            let logic = file.product_lines().filter(|(_, line)| {
                line.starts_with(word) || line.starts_with(&format!("pub {word}"))
            });
            wrong.extend(file.places(logic, word));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}
