//! What the documents say of the source tree is so: tests they name exist, and links lead somewhere.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use kiseki_tests::Result;

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// What stands in backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The last column of each row of the tables whose heading ends with one of
/// `headings`.
fn last_columns<'a>(text: &'a str, headings: &[&str]) -> Vec<&'a str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split(" | ").collect();
        let last = cells.last().map_or("", |cell| cell.trim());
        if !line.starts_with('|') {
            inside = false;
        } else if headings.contains(&last) {
            inside = true;
        } else if inside && !last.starts_with("---") {
            found.push(last);
        }
    }
    found
}

/// Whether a source file has a test function of this name.
fn has_test(source: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        line.contains(&function)
            && lines[..at]
                .iter()
                .rev()
                .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
                .any(|line| line.starts_with("#[") && line.contains("test"))
    })
}

/// The files that a test named by its module path can be in: `file::name` in
/// `tests/tests`, `module::...::name` in `core/src`.
fn homes(modules: &str) -> Vec<PathBuf> {
    let (tests, core) = (tree().join("tests/tests"), tree().join("core/src"));
    let path = modules.replace("::", "/");
    let inline = path.strip_suffix("/tests").unwrap_or(&path);
    vec![
        tests.join(format!("{path}.rs")),
        core.join(format!("{path}.rs")),
        core.join(format!("{inline}.rs")),
    ]
}

#[test]
fn every_test_named_in_the_semantics_exists() -> Result {
    check_tables_of_tests("docs/semantics.md")
}

#[test]
fn every_test_named_in_the_threat_model_exists() -> Result {
    check_tables_of_tests("SECURITY.md")
}

/// Each row of a table whose last heading is "test" names tests there are.
fn check_tables_of_tests(document: &str) -> Result {
    let text = read(&tree().join(document))?;
    let rows = last_columns(&text, &["test"]);
    ensure!(rows.len() > 20, "{} rows; is the table there?", rows.len());
    for row in rows {
        ensure!(quoted(row).next().is_some(), "no test in the row {row:?}");
        for test in quoted(row) {
            let (modules, name) = test.rsplit_once("::").context("no module")?;
            let found = homes(modules)
                .iter()
                .any(|file| fs::read_to_string(file).is_ok_and(|text| has_test(&text, name)));
            ensure!(found, "{document} names {test}, which is no test");
        }
    }
    Ok(())
}

#[test]
fn every_row_of_the_readme_has_its_tests_or_is_planned() -> Result {
    let text = read(&tree().join("README.md"))?;
    let rows = last_columns(&text, &["shown by"]);
    ensure!(rows.len() > 10, "{} rows; is the table there?", rows.len());
    for row in rows.into_iter().filter(|row| *row != "planned") {
        ensure!(quoted(row).next().is_some(), "no test in the row {row:?}");
        let mut source = String::new();
        for word in quoted(row) {
            if word.ends_with(".rs") {
                source = read(&tree().join("tests/tests").join(word))?;
            } else if word.contains('/') {
                ensure!(tree().join(word).is_file(), "README.md names {word}");
            } else {
                ensure!(
                    has_test(&source, word),
                    "README.md names {word}, which is no test"
                );
            }
        }
    }
    Ok(())
}

/// All documents: those at the top, of which there are two, and what is in
/// `docs`.
fn documents() -> Result<Vec<PathBuf>> {
    let mut found = vec![tree().join("README.md"), tree().join("SECURITY.md")];
    let mut dirs = vec![tree().join("docs")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Targets of the links of a document, but for those to other sites.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
}

#[test]
fn links_between_documents_lead_somewhere() -> Result {
    for document in documents()? {
        let text = read(&document)?;
        for target in links(&text) {
            let file = document.parent().unwrap().join(target);
            ensure!(
                file.exists(),
                "{} links to {target}",
                document.canonicalize()?.display()
            );
        }
    }
    Ok(())
}

#[test]
fn the_summary_lists_every_document() -> Result {
    let docs = tree().join("docs").canonicalize()?;
    let summary = read(&docs.join("SUMMARY.md"))?;
    let listed: Vec<&str> = links(&summary).collect();
    for document in documents()?.into_iter().skip(2) {
        let path = document.canonicalize()?;
        let name = path.strip_prefix(&docs)?.to_str().unwrap();
        ensure!(
            name == "SUMMARY.md" || listed.contains(&name),
            "docs/SUMMARY.md leaves out {name}"
        );
    }
    Ok(())
}

#[test]
fn the_test_guide_describes_every_test_file() -> Result {
    let text = read(&tree().join("docs/testing.md"))?;
    for entry in fs::read_dir(tree().join("tests/tests"))? {
        let name = entry?.file_name().into_string().unwrap();
        ensure!(
            !name.ends_with(".rs") || text.contains(&format!("| `{name}` |")),
            "docs/testing.md leaves out {name}"
        );
    }
    Ok(())
}
