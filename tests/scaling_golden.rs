//! How pools size themselves, as a specification that is run.
//!
//! Each file of `tests/golden/scaling/` has a heading, what the pool states, and a script of what happens to it; below
//! `---` stands what the planner makes of it, moment by moment, in a cluster that does at once what it is told.
//! `UPDATE_GOLDEN=1 cargo test --test scaling_golden` writes that part anew.
#![allow(clippy::unwrap_used, clippy::panic)] // Also in helpers, which clippy does not take for tests.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "scaling/script.rs"]
mod script;

const SEPARATOR: &str = "---\n";

#[test]
fn every_pool_sizes_itself_as_its_file_says() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for file in files() {
        let text = fs::read_to_string(&file).unwrap();
        let (case, before) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
        let now = script::run(case).unwrap_or_else(|e| panic!("{}: {e:#}", file.display()));
        if before != now {
            if update {
                fs::write(&file, format!("{case}{SEPARATOR}{now}")).unwrap();
            } else {
                wrong.push(first_difference(&file, case, before, &now));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 writes them anew.", wrong.join("\n"));
}

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scaling");
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    files
}

fn first_difference(file: &Path, case: &str, before: &str, now: &str) -> String {
    let ends = std::iter::repeat("(nothing)");
    let lines = before.lines().chain(ends.clone()).zip(now.lines().chain(ends)).enumerate();
    let above = case.lines().count() + 2;
    for (number, (was, is)) in lines {
        if was != is {
            let name = file.file_name().unwrap().display();
            return format!("{name}:{}:\n  golden: {was}\n  now:    {is}", above + number);
        }
    }
    unreachable!("they differ")
}
